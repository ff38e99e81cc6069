"""What makes two runs the same work, and what does not."""

from typing import Any

import pytest

from cmkd.plan import work


@pytest.mark.parametrize("variant", ["tau2", "fast", "plain"])
def test_a_variant_that_costs_nothing_is_the_same_work(loaded: Any, variant: str) -> None:
    suite = loaded()
    same = work.of_run(suite, "birds", f"a+{variant}@b")
    assert same == work.of_run(suite, "birds", "a@b")


def test_what_costs_is_other_work(loaded: Any) -> None:
    suite = loaded(models=["a", "b", "c"])
    kinds = [work.of_run(suite, "birds", run) for run in ("a", "a@b", "a@c", "b", "c", "a+wide")]
    kinds.append(work.of_run(suite, "cars", "a"))
    assert len(set(kinds)) == len(kinds)


def test_a_batch_and_a_way_of_teaching_are_other_work(bench: Any) -> None:
    before = work.of_run(bench.load(), "birds", "a@b")
    bench.recipes["defaults"]["objective"]["teaching"] = "clean"
    taught = work.of_run(bench.load(), "birds", "a@b")
    bench.recipes["datasets"]["birds"]["training"]["batch"] = 5
    assert len({before, taught, work.of_run(bench.load(), "birds", "a@b")}) == 3


def test_weights_to_start_from_are_not(loaded: Any) -> None:
    suite = loaded()
    assert work.of_run(suite, "birds", "a+warm") == work.of_run(suite, "birds", "a")


def test_readouts_made_of_epochs_score_as_often_as_they_are() -> None:
    training = {"epochs": 9, "readout": "last", "readouts": ["checkpoints"], "average": [7, 9]}
    assert work.scored(training) == {"last": 1, "checkpoints": 3}
    assert list(work.kept(training)) == [7, 8, 9]
    training["readouts"] = ["peek"]
    assert work.scored(training) == {"last": 1, "peek": 9}
    assert list(work.kept(training)) == list(range(1, 10))
