"""Ensembles in a suite: what they add to its runs, and the sentences for what they cannot be."""

import subprocess
import sys
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan.agreement import Agreement
from cmkd.plan.ensembles import Ensemble
from cmkd.plan.suites import load


def message(bench: Any, **keys: Any) -> str:
    with pytest.raises(ConfigError) as error:
        bench.load(**keys)
    return str(error.value).replace(f"{bench.folder}/", "")


def test_both_forms_are_read_by_name(loaded) -> None:
    suite = loaded(
        seeds=[0, 1], ensembles={"two": ["b", "a"], "many": {"runs": ["a"], "over": "seeds"}}
    )
    assert suite.ensembles == (Ensemble("many", ("a",), True), Ensemble("two", ("b", "a")))
    assert [one.row for one in suite.ensembles] == ["ens:many", "ens:two"]
    assert load(bench_copy(suite)).ensembles == suite.ensembles


def bench_copy(suite: Any) -> Any:
    """Write the resolved suite as a file, as the workflow hands it on."""
    from pathlib import Path

    path = Path("again.yaml")
    path.write_text(suite.text())
    return path


def test_members_and_their_teachers_are_run_but_not_listed(loaded) -> None:
    suite = loaded(pairs=["a"], ensembles={"two": ["a", "c@b"]})
    runs = list(dict.fromkeys(job.run for job in suite.jobs()))
    assert runs == ["a", "b", "c@b"]  # what a member needs stands before it
    assert suite.listed() == {("birds", "a")}
    assert len(suite.jobs()) == 3 * 3


def test_a_suite_without_ensembles_has_the_rows_it_had(loaded) -> None:
    plain = Agreement(loaded()).wanted_rows().path
    assert Agreement(loaded(ensembles={})).wanted_rows().path == plain
    first = Agreement(loaded(ensembles={"two": ["a", "b"]})).wanted_rows().path
    other = Agreement(loaded(ensembles={"two": ["b", "a"]})).wanted_rows().path
    assert len({plain, first, other}) == 3  # tables are made again


@pytest.mark.parametrize(
    ("ensembles", "text"),
    [
        ({"two": ["a"]}, 'ensembles.two is ["a"], but must be a list of at least two runs, each '
         "once, or {runs: [RUN], over: seeds}"),
        ({"two": ["a", "a"]}, 'ensembles.two is ["a", "a"], but must be a list of at least two'),
        ({"two": {"runs": ["a"], "over": "folds"}}, "but must be a list of at least two runs"),
        ({"Two": ["a", "b"]}, "ensembles is 'Two', but must be words of a-z and 0-9"),
        ({"two": ["a", "bb"]}, "suite.yaml: ensembles.two: 'bb': there is no model 'bb', did you "
         "mean 'b'?"),
        ({"two": ["a", "b+tau3@a"]}, "there is no variant 'tau3', did you mean 'tau4'?"),
        ({"two": ["a", "b@ens:one"]}, "ensembles.two: 'b@ens:one' names an ensemble, which is no "
         "run: it is not trained and cannot teach or be a member; name its runs"),
        ({"two": {"runs": ["a"], "over": "seeds"}}, "'two' is over the seeds, but the suite has "
         "one seed; add seeds or name several runs"),
        ({"two": ["a", "b+tau2"]}, "the variant 'tau2' changes nothing in 'b+tau2' on 'birds'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(bench, ensembles: Any, text: str) -> None:
    found = message(bench, ensembles=ensembles)
    assert text in found
    assert "\n" not in found.replace("\n  - ", "")


def test_an_ensemble_is_no_run_of_pairs(bench) -> None:
    found = message(bench, pairs=["a@ens:two"], ensembles={"two": ["a", "b"]})
    assert found == (
        "suite.yaml: pairs: 'a@ens:two' names an ensemble, which is no run: it is not trained and "
        "cannot teach or be a member; name its runs"
    )


@pytest.mark.parametrize("name", ["checkpoints", "peek"])
def test_a_readout_without_weights_is_no_headline(bench, name: str) -> None:
    bench.recipes["defaults"]["training"] |= {"readout": name, "average": [2, 5]}
    found = message(bench, pairs=["a"])
    assert found == (
        f"suite.yaml: 'a' on 'birds': training.readout {name} has no weights, so it can be no "
        "headline and teach nobody; set last, averaged or best and list it under training.readouts"
    )


def test_checkpoints_need_a_range_within_the_epochs(bench) -> None:
    training = bench.recipes["defaults"]["training"]
    training["readouts"] = ["checkpoints"]
    assert "training.average is set by no layer" in message(bench, pairs=["a"])
    training["average"] = [2, 11]
    assert "training.average [2, 11] must lie within the epochs 1 to 10" in message(bench)
    training["average"] = [2, 10]
    assert "average: \n" not in bench.load().recipe("birds", "a").text
    assert bench.load().recipe("birds", "a").values["training"]["average"] == [2, 10]


def test_peek_needs_no_range_and_keeps_none(bench) -> None:
    bench.recipes["defaults"]["training"] |= {"readouts": ["peek"], "average": [2, 99]}
    assert "average" not in bench.load().recipe("birds", "a").values["training"]


def test_nothing_of_it_imports_numpy() -> None:
    code = "import sys; import cmkd.plan.ensembles; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
