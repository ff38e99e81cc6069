import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cmkd.errors import ConfigError
from cmkd.plan import catalog, recipes, suites
from cmkd.plan.recipes import NEUTRAL

CONFIG = catalog.find()


def test_layers_win_in_the_order_of_the_design(bench: Any) -> None:
    """defaults < dataset < family < dataset and family < model < set < variant."""
    ladder = {
        "defaults": bench.recipes["defaults"],
        "dataset birds": bench.recipes["datasets"]["birds"],
        "family ast": bench.recipes["families"]["ast"],
        "dataset birds, family ast": bench.recipes["datasets_families"]["birds"]["ast"],
        "model b": bench.models["b"]["recipe"],
        "set of suite suite": bench.suite.setdefault("set", {}),
        "variant fast": bench.variants["fast"],
    }
    bench.suite["results"] = "own"
    for height, layer in enumerate(ladder.values(), start=1):
        layer.setdefault("training", {})["lr"] = height / 100
    for height in range(len(ladder), 0, -1):
        recipe = bench.load().recipe("birds", "b+fast" if height == 7 else "b")
        origin = recipe.origin["training.lr"]
        assert (recipe.values["training"]["lr"], origin.layer) == (
            *(height / 100, list(ladder)[height - 1]),
        )
        if height > 1:
            del list(ladder.values())[height - 1]["training"]["lr"]


def test_text_is_sorted_yaml_and_digest_is_of_it(loaded: Any) -> None:
    recipe = loaded().recipe("birds", "b@a")
    plain = yaml.safe_load(recipe.text)
    assert yaml.safe_dump(plain, sort_keys=True) == recipe.text
    assert recipe.digest == hashlib.sha256(recipe.text.encode()).hexdigest()[:16]
    assert recipe.values == recipes.with_neutral(plain)


@pytest.mark.parametrize("text", ["0123456e78901234", "1e-3", "52e10", "0123456789012345", "1.5"])
def test_a_digest_that_looks_like_a_number_stays_text(text: str) -> None:
    written = recipes.dump({"teacher": {"recipe": text}})
    assert catalog.parse_yaml(written, "recipe.yaml") == {"teacher": {"recipe": text}}


def test_a_file_is_read_with_neutral_keys_filled_in(loaded: Any, tmp_path: Path) -> None:
    recipe = loaded().recipe("birds", "b@a")
    (tmp_path / "recipe.yaml").write_text(recipe.text)
    read = recipes.read_recipe(tmp_path / "recipe.yaml")
    assert read == recipe.values
    assert "mixup" not in recipe.text
    assert read["input"]["mixup"] == 0.0
    assert read["objective"]["teaching"] == "consistent"
    assert read["training"]["readouts"] == []


def test_what_the_verbs_see(loaded: Any) -> None:
    values = loaded().recipe("birds", "b@a").values
    assert values["run"] == "b@a"
    assert values["depth"] == 1
    assert values["dataset"]["classes"] == 2
    assert values["teacher"]["run"] == "a"
    assert values["model"]["normalise"] == {"statistics": "fold", "factor": 2.0}
    assert values["training"]["schedule"] == {"kind": "constant"}
    assert {values[part]["behaviour"] for part in recipes.PARTS} == {1}


@pytest.mark.parametrize("part", sorted(NEUTRAL))
def test_a_key_written_at_its_neutral_value_changes_nothing(bench: Any, part: str) -> None:
    before = bench.load().recipe("birds", "b@a")
    for key, value in NEUTRAL[part].items():
        if key not in ("roll", "smoothing"):  # set by the bench
            bench.recipes["defaults"].setdefault(part, {})[key] = value
    assert bench.load().recipe("birds", "b@a").text == before.text


def test_numbers_have_one_form(bench: Any) -> None:
    before = bench.load().recipe("birds", "b@a")
    assert "shift_ms: 10.0" in before.text
    bench.recipes["defaults"]["input"]["shift_ms"] = 10.0
    bench.recipes["defaults"]["objective"]["tau"] = 1.0
    bench.recipes["defaults"]["training"]["weight_decay"] = 0.0
    assert bench.load().recipe("birds", "b@a") == before


def test_lambda_and_tau_never_touch_a_run_without_a_teacher(bench: Any) -> None:
    alone = bench.load().recipe("birds", "a")
    taught = bench.load().recipe("birds", "a@b")
    bench.recipes["defaults"]["objective"] |= {"tau": 3.0, "lambda": 0.1, "teaching": "clean"}
    changed = bench.load()
    assert changed.recipe("birds", "a").text == alone.text
    assert changed.recipe("birds", "a@b").text != taught.text
    assert set(alone.values["objective"]) == {"behaviour", "name", "smoothing"}
    assert alone.values["objective"]["name"] == "alone"


def test_a_change_reaches_exactly_the_runs_below(bench: Any) -> None:
    runs = ("a", "b", "c", "a@b", "b@a", "c@b@a", "a@c")
    before = {run: bench.load().recipe("birds", run).digest for run in runs}
    bench.models["a"]["recipe"]["training"] = {"lr": 0.123}
    after = {run: bench.load().recipe("birds", run).digest for run in runs}
    changed = {run for run in runs if before[run] != after[run]}
    assert changed == {"a", "a@b", "b@a", "c@b@a", "a@c"}


def test_only_relevant_keys_stand_in_a_recipe(bench: Any) -> None:
    bench.recipes["defaults"]["training"] |= {
        "schedule": {"kind": "step", "start": 2, "every": 1, "factor": 0.5, "patience": 7},
        "average": [2, 5],
    }
    bench.recipes["defaults"]["input"]["mixup_alpha"] = 3
    bench.recipes["defaults"]["model"] |= {"stem": "sum", "heads": 9, "drop_path": 0.3}
    suite = bench.load()
    plain = yaml.safe_load(suite.recipe("birds", "a").text)
    assert "patience" not in plain["training"]["schedule"]
    assert "average" not in plain["training"]
    assert "mixup_alpha" not in plain["input"]
    assert not {"stem", "heads", "drop_path", "patch"} & set(plain["model"])
    assert yaml.safe_load(suite.recipe("birds", "c").text)["model"]["heads"] == 4
    assert yaml.safe_load(suite.recipe("birds", "b").text)["model"]["drop_path"] == 0.3


def test_the_range_of_epochs_stays_where_a_readout_needs_it(bench: Any) -> None:
    bench.recipes["defaults"]["training"] |= {"readouts": ["averaged"], "average": [2, 5]}
    assert bench.load().recipe("birds", "a").values["training"]["average"] == [2, 5]


def test_published_constants_are_written_into_the_recipe(bench: Any) -> None:
    bench.recipes["defaults"]["model"]["normalise"]["statistics"] = "published"
    recipe = bench.load().recipe("birds", "a")
    expected = {"statistics": "published", "factor": 1.0, "mean": -4.0, "std": 2.5}
    assert recipe.values["model"]["normalise"] == expected
    assert recipe.origin["model.normalise.mean"].file == "datasets.yaml"


def test_the_order_of_classes_is_part_of_a_recipe(bench: Any) -> None:
    before = bench.load().recipe("birds", "a").digest
    bench.datasets["birds"]["classes"].reverse()
    assert bench.load().recipe("birds", "a").digest != before


def test_two_variants_of_one_key_are_refused(loaded: Any) -> None:
    with pytest.raises(
        ConfigError, match="'tau2' and 'tau4' of 'b.tau2.tau4@a' both set objective.tau"
    ):
        loaded().recipe("birds", "b+tau2+tau4@a")


@pytest.mark.parametrize("weights", ["run:cars", "run:Cars/a", "run:cars/A", "run:/a"])
def test_initial_runs_are_named_with_their_dataset(weights: str) -> None:
    with pytest.raises(ConfigError):
        recipes.initial_name(weights)
    assert recipes.initial_name("run:cars/a@b") == ("cars", "a@b")


def test_values_below_a_scalar_replace_it() -> None:
    values: dict[str, Any] = {"model": {"normalise": "x"}}
    recipes.put(values, "model.normalise.factor", 2)
    assert values == {"model": {"normalise": {"factor": 2.0}}}


trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda below: st.dictionaries(
        st.text("abc", min_size=1, max_size=2), below, min_size=1, max_size=3
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, min_size=1, max_size=3))
def test_leaves_put_back_give_the_tree(tree: dict[str, Any]) -> None:
    rebuilt: dict[str, Any] = {}
    for key, value in recipes.leaves(tree):
        recipes.put(rebuilt, key, value)
    assert rebuilt == tree


# The values of config/ against the fact sheet: ESC-50 as published for AST with ImageNet weights.


def test_the_esc50_recipe_is_the_published_one() -> None:
    suite = suites.load(CONFIG / "config.yaml")
    ast = suite.recipe("esc50", "ast_tiny").values
    assert ast["training"] | {"behaviour": 1} == {
        **{"behaviour": 1, "optimiser": "adam", "lr": 1e-4, "betas": [0.95, 0.999]},
        **{"weight_decay": 5e-7, "batch": 48, "epochs": 25, "warmup_steps": 0, "readout": "last"},
        "schedule": {"kind": "step", "start": 5, "every": 1, "factor": 0.85},
        **{"readouts": ["averaged", "checkpoints", "peek"], "average": [16, 25]},
    }
    view = ast["input"]
    assert (view["frames"], view["mixup"]) == (512, 0.0)
    assert (view["frequency_mask"], view["time_mask"], view["roll"]) == (24, 96, 10)
    assert ast["model"]["weights"] == "imagenet"
    assert ast["model"]["normalise"] == {"statistics": "fold", "factor": 2.0}
    cnn = suite.recipe("esc50", "effnet_b0").values
    assert cnn["training"]["lr"] == pytest.approx(10 * ast["training"]["lr"])
    assert cnn["model"]["normalise"]["factor"] == 1.0
    taught = suite.recipe("esc50", "ast_tiny@effnet_b0").values["objective"]
    assert (taught["lambda"], taught["tau"], taught["smoothing"]) == (0.5, 1.0, 0.1)


# lr, batch, epochs, schedule (kind, first drop, every), readout, average: the tables of the sibling
# codes, whose schedules count finished epochs (first drop one epoch later), and R1 for FSD50K.
@pytest.mark.parametrize(
    ("dataset", "model", "expected"),
    [
        ("fsd50k", "effnet_b0", (5e-4, 24, 50, "plateau", None, None, "best", [31, 50])),
        ("fsd50k", "effnet_b0_att", (5e-4, 24, 50, "plateau", None, None, "best", [31, 50])),
        ("fsd50k", "ast_tiny", (5e-5, 12, 50, "plateau", None, None, "best", [31, 50])),
        ("audioset_balanced", "effnet_b0", (1e-3, 100, 60, "step", 36, 5, "averaged", [41, 60])),
        ("audioset_balanced", "ast_tiny", (5e-5, 12, 25, "step", 11, 5, "averaged", [6, 25])),
        ("audioset", "effnet_b0_att", (1e-4, 100, 30, "step", 11, 5, "averaged", [16, 30])),
        ("audioset", "ast_tiny", (1e-5, 12, 5, "step", 3, 1, "averaged", [1, 5])),
    ],
)
def test_the_published_rows(dataset: str, model: str, expected: tuple[Any, ...]) -> None:
    suite = suites.load(CONFIG / "config.yaml", {"datasets": [dataset]})
    values = suite.recipe(dataset, model).values
    training, view = values["training"], values["input"]
    schedule = training["schedule"]
    assert expected == (
        *(training["lr"], training["batch"], training["epochs"], schedule["kind"]),
        *(schedule.get("start"), schedule.get("every"), training["readout"], training["average"]),
    )
    assert schedule["factor"] == 0.5 and schedule.get("patience", 2) == 2
    assert training["warmup_steps"] == 1000
    assert (view["frames"], view["mixup"], view["mixup_alpha"]) == (1000, 0.5, 10.0)
    assert (view["frequency_mask"], view["time_mask"], view["noise"]) == (48, 192, 0.1)
    sampling = "uniform" if dataset == "audioset_balanced" else "balanced"
    assert view["sampling"] == sampling
    readouts = {"fsd50k": ["last", "averaged", "checkpoints"]}.get(dataset, ["last", "checkpoints"])
    assert training["readouts"] == readouts


def test_esc10_keeps_the_readout_that_its_finished_runs_have() -> None:
    suite = suites.load(CONFIG / "esc10.yaml")
    training = suite.recipe("esc10", "small_cnn").values["training"]
    assert training["readouts"] == [] and "average" not in training
    assert suite.recipe("esc10", "small_cnn").digest == "3c525188ae01f15e"


def test_a_models_part_stands_by_itself() -> None:
    part = recipes.model_part(catalog.Catalog(CONFIG), "effnet_b0_att")
    assert (part["backbone"], part["head"], part["heads"]) == ("efficientnet_b0", "attention", 4)
    assert part["weights"] == "imagenet"
