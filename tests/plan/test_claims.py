"""Claims: what a selector names, and what is wrong with a claims file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.errors import ConfigError
from cmkd.plan import catalog, claim_checks, claims, suites
from cmkd.plan.catalog import Catalog
from cmkd.plan.claims import Arm, Claim

DEFAULTS = {"delta": {"accuracy": 0.01, "map": 0.005}, "rho": 0.5}
FAMILIES = {"cnn": "cnn", "cnn_att": "cnn", "ast": "transformer"}


@pytest.fixture
def suite(tmp_path: Path) -> suites.Suite:
    """The shipped catalogue's small models on ESC-10."""
    config = {
        "datasets": ["esc10"],
        "models": ["small_cnn", "small_cnn_att", "small_ast"],
        "seeds": [0],
        "catalog": str(catalog.find()),
    }
    return suites.make(config, tmp_path / "small.yaml")


def named(suite: suites.Suite, pairs: dict[str, Any], **more: Any) -> claims.Named:
    entry = {"form": "mean", "pairs": pairs} | more
    return claims.expand(suite, "esc10", Claim("C", entry, DEFAULTS))


def shown(found: claims.Named) -> list[str]:
    return [pair.name for pair in found.pairs]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("cnn_to_transformer", ["small_ast@small_cnn", "small_ast@small_cnn_att"]),
        ("transformer_to_cnn", ["small_cnn@small_ast", "small_cnn_att@small_ast"]),
        ("same", ["small_cnn@small_cnn_att", "small_cnn_att@small_cnn"]),
        ("self", ["small_cnn@small_cnn", "small_cnn_att@small_cnn_att", "small_ast@small_ast"]),
    ],
)
def test_directions_choose_pairs(suite: suites.Suite, where: str, expected: list[str]) -> None:
    assert shown(named(suite, {"run": "S@T", "over": "S", "where": where})) == expected


def test_a_pair_is_a_difference_of_two_runs(suite: suites.Suite) -> None:
    pair = named(suite, {"run": "S@T", "over": "T", "S": "cnn", "T": "transformer"}).pairs[0]
    assert pair.gain == {
        Arm("esc10", "small_cnn@small_ast"): 1.0,
        Arm("esc10", "small_ast"): -1.0,
    }
    assert pair.words == {"S": "small_cnn", "T": "small_ast"}


def test_models_that_are_listed_need_not_be_the_suites(suite: suites.Suite) -> None:
    selector = {"run": "effnet_b0@T", "over": "ast_tiny", "T": ["ast_tiny", "ast_small"]}
    assert shown(named(suite, selector)) == ["effnet_b0@ast_tiny", "effnet_b0@ast_small"]


def test_variants_are_sorted_and_those_that_change_nothing_left_out(suite: suites.Suite) -> None:
    selector = {"run": "S+tau2+epochs50@T", "over": "S+tau2", "where": "cnn_to_transformer"}
    pair = named(suite, selector).pairs[0]
    assert list(pair.gain) == [
        Arm("esc10", "small_ast+epochs50+tau2@small_cnn"),
        Arm("esc10", "small_ast"),  # without a teacher a temperature changes nothing
    ]


def test_a_letter_for_variants_and_a_readout(suite: suites.Suite) -> None:
    selector = {
        "run": "S@T (averaged)",
        "over": "S+V@T (averaged)",
        "where": "cnn_to_transformer",
        "V": ["tau05", "tau2"],
    }
    found = named(suite, selector, each="V")
    assert [pair.words["V"] for pair in found.pairs] == ["tau05", "tau2"] * 2
    assert Arm("esc10", "small_ast+tau2@small_cnn", "averaged") in found.arms()


def test_another_dataset_may_be_named(suite: suites.Suite) -> None:
    found = named(suite, {"run": "esc50/S", "over": "S", "S": "transformer"})
    assert found.arms() == (Arm("esc50", "small_ast"), Arm("esc10", "small_ast"))


def test_like_is_compared_with_like(suite: suites.Suite) -> None:
    """The transformer has no teacher of its own class, so it is left out of both sides."""
    found = named(
        suite,
        {"run": "S@T", "over": "S", "where": "cross"},
        than={"run": "S@T", "over": "S", "where": "same"},
        each="S",
    )
    assert {pair.words["S"] for pair in found.pairs} == {"small_cnn", "small_cnn_att"}
    assert found.notes == ("left out, since one side has no such pair: small_ast",)


def test_families_must_all_be_there(suite: suites.Suite) -> None:
    whole = {"run": "S@T", "over": "S", "S": {"families": ["cnn", "ast"]}, "where": "cross"}
    assert {pair.words["S"] for pair in named(suite, whole).pairs} == {"small_cnn", "small_ast"}
    few = suites.Suite(suite.config | {"models": ["small_cnn", "small_ast"]}, "x", suite.catalog)
    lacking = named(few, whole | {"S": {"families": ["cnn", "cnn_att", "ast"]}})
    assert lacking.pairs == ()
    assert lacking.notes == ("the suite has no model of the family cnn_att",)


def test_pairs_whose_recipe_cannot_be_made_are_left_out_and_said(suite: suites.Suite) -> None:
    found = named(suite, {"run": "S+tau2+tau4@T", "over": "S", "where": "cnn_to_transformer"})
    assert found.pairs == ()
    assert "left out: " in found.notes[0] and "tau4" in found.notes[0]


def test_margins_and_deltas_are_by_metric() -> None:
    claim = Claim("C", {"form": "all", "margin": "-delta"}, DEFAULTS)
    assert (claim.margin("accuracy"), claim.margin("map")) == (-0.01, -0.005)
    own = Claim("C", {"form": "all", "margin": 0.02, "delta": {"accuracy": 0.1, "map": 1}}, {})
    assert (own.margin("map"), own.delta("accuracy")) == (0.02, 0.1)


def test_runs_that_cancel_are_not_needed() -> None:
    a, b = Arm("d", "a"), Arm("d", "b")
    assert claims.merged([({a: 1.0, b: -1.0}, 0.5), ({b: 1.0}, 0.5)]) == {a: 0.5}


# ------------------------------------------------------------------------------------- the checks


@pytest.fixture
def problems() -> Callable[..., list[str]]:
    """Return the problems of a file with one claim, made by changing a right one."""

    def check(**change: Any) -> list[str]:
        claim = {
            "text": "It helps.",
            "source": "abstract",
            "grade": ["P"],
            "form": "mean",
            "pairs": {"run": "S@T", "over": "S", "where": "cross"},
        } | change
        kept = {key: value for key, value in claim.items() if value is not None}
        document = {"defaults": DEFAULTS, "claims": {"C1": kept}}
        return claim_checks.problems(document, Catalog(catalog.find()), "claims.yaml")

    return check


def test_a_right_claim_has_no_problem(problems: Callable[..., list[str]]) -> None:
    assert problems() == []


PAIRS = {"run": "S@T", "over": "S"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"form": "most"}, "claims.C1.form has no choice 'most'"),
        ({"grade": ["X"]}, "has no choice 'X'"),
        ({"rho": 2}, "rho is 2, but must be a number above 0 and at most 1"),
        ({"split": "val"}, "has no choice 'val'"),
        ({"pairs": {"run": "S@@T"}}, "must be a run in which S, T and V stand for words"),
        ({"pairs": None}, "has the form mean but no pairs"),
        ({"form": "comparison"}, "has the form comparison, which needs than"),
        ({"than": PAIRS}, "has the form mean, which takes no than"),
        ({"form": "comparison", "than": PAIRS}, "which needs each"),
        ({"form": "one"}, "the form one names one pair; write words instead of S, T"),
        ({"form": "probe"}, "has the form probe, which takes needs and no pairs"),
        ({"each": "V"}, "each: V stands in no template"),
        ({"pairs": {"run": "S@T"}}, "the key 'over' is missing"),
        ({"pairs": {"run": "S+V@T", "over": "S@T"}}, "V needs a list of variants"),
        (
            {"pairs": {"run": "S+cleen@T", "over": "S@T"}},
            "'cleen' is no variant, did you mean 'clean'?",
        ),
        (
            {"pairs": {"run": "efnet_b0@T", "over": "T"}},
            "'efnet_b0' is no model, did you mean 'effnet_b0'?",
        ),
        ({"pairs": {"run": "esc5/S", "over": "S"}}, "'esc5' is no dataset, did you mean 'esc50'?"),
        ({"pairs": PAIRS | {"S": ["small_cn"]}}, "S: 'small_cn' is no model"),
        ({"pairs": PAIRS | {"S": {"families": ["cmn"]}}}, "S: 'cmn' is no family"),
        ({"pairs": {"run": "S", "over": "S", "where": "cross"}}, "where needs both S and T"),
        ({"pairs": {"run": "S (peek)", "over": "S"}}, "no verdict may rest on an epoch chosen"),
        ({"datasets": ["esc11"]}, "datasets: 'esc11' is no dataset, did you mean 'esc10'?"),
        ({"bar": {"esc10": "x"}}, "'at_least' takes either a margin or a bar"),
        (
            {"form": "majority", "pairs": PAIRS | {"given": {"run": "S", "over": "T"}}},
            "given fits the forms",
        ),
    ],
)
def test_what_is_wrong_is_said(
    problems: Callable[..., list[str]], change: dict[str, Any], sentence: str
) -> None:
    found = problems(**change)
    assert any(sentence in text for text in found), found
    assert all(text.startswith("claims.yaml: ") for text in found)


def test_published_figures_must_be_of_a_dataset_and_its_metric() -> None:
    entries = Catalog(catalog.find())
    figure = {
        **{"dataset": "esc50", "system": "x", "metric": "map", "value": 0.5},
        **{"grade": "C", "source": "y"},
    }
    found = claim_checks.paper_problems({"one": figure}, entries, "paper.yaml")
    assert found == ["paper.yaml: one is in map, but 'esc50' is scored by accuracy"]
    wrong = figure | {"dataset": "esc55"}
    found = claim_checks.paper_problems({"one": wrong}, entries, "paper.yaml")
    assert "'esc55' is no dataset, did you mean 'esc50'?" in found[0]
    found = claim_checks.paper_problems({"one": figure | {"value": 56}}, entries, "paper.yaml")
    assert "one.value is 56, but must be a fraction between 0 and 1" in found[0]


# ------------------------------------------------------------------------------ the shipped files


def test_the_shipped_claims_are_right_and_cover_the_paper() -> None:
    found = claims.read(Catalog(catalog.find()))
    numbers = {int(claim.id.strip("Cab")) for claim in found}
    assert numbers == set(range(1, 21))


def test_forms_pairs_and_numbers_are_pinned() -> None:
    """Written down before the data: a change here is a change of what is claimed."""
    found = claims.read(Catalog(catalog.find()))
    keys = ("form", "each", "pairs", "than", "margin", "delta", "rho", "bar", "datasets")
    now = {c.id: {k: c.entry[k] for k in keys if k in c.entry} for c in found}
    pinned = json.loads((Path(__file__).parent / "claims_pinned.json").read_text())
    assert json.loads(json.dumps(now)) == pinned["claims"]
    defaults = {key: found[0].defaults[key] for key in ("delta", "rho")}
    assert defaults == pinned["defaults"]


def test_a_catalogue_without_claims_has_none(tmp_path: Path) -> None:
    assert claims.read(Catalog(tmp_path)) == ()


def test_a_wrong_file_is_refused_in_sentences(tmp_path: Path) -> None:
    text = yaml.safe_dump({"defaults": DEFAULTS, "claims": {"c1": {}}})
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"(?s)claims is 'c1'.*'text' is missing in claims\.c1"):
        claims.read(Catalog(tmp_path))
