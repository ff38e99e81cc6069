"""The budget: what is spent, and which training may still begin."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd import cli
from cmkd.errors import BudgetError
from cmkd.plan import budget
from cmkd.plan.commands import wanted_run
from cmkd.plan.suites import Job, Suite

Finish = Callable[..., Path]
HOUR = 3600.0


@pytest.fixture
def limited(bench: Any) -> Callable[[float], Suite]:
    """A function that loads a suite with a budget."""
    return lambda hours: bench.load(execution={"budget_gpu_hours": hours})


def begin(suite: Suite, run: str, fold: int) -> None:
    """Ask the guard, as `cmkd train` does."""
    job = Job("birds", run, fold, 0)
    wanted = wanted_run(suite, job)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.write_text(suite.recipe("birds", run).text)
    file = Path("resolved.yaml")
    file.write_text(suite.text())
    budget.guard(file, wanted, fold, 0)


def state(suite: Suite, run: str, fold: int, name: str, content: dict[str, Any]) -> None:
    path = suite.folder(Job("birds", run, fold, 0)) / "state" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def lease(age: float, stage: str = "train") -> dict[str, Any]:
    return {"stage": stage, "heartbeat": time.time() - age}


def checkpoint(number: int, seconds: float) -> dict[str, Any]:
    return {"number": number, "progress": {"device_seconds": seconds}}


def test_spent_is_every_cost_file_and_the_newest_checkpoint(limited: Any, finished: Finish) -> None:
    suite = limited(9)
    assert budget.spent(suite) == 0
    finished(suite, Job("birds", "a", 1, 0), 2 * HOUR)
    state(suite, "b", 1, "checkpoint-0.json", checkpoint(4, 0.5 * HOUR))
    state(suite, "b", 1, "checkpoint-1.json", checkpoint(5, 0.75 * HOUR))
    state(suite, "b", 2, "checkpoint-1.json", {"number": 1, "progress": None})
    assert budget.spent(suite) == pytest.approx(2.75 + 2 / 3600)


def test_a_checkpoint_of_a_finished_run_is_not_counted_twice(
    limited: Any, finished: Finish
) -> None:
    suite = limited(9)
    finished(suite, Job("birds", "a", 1, 0), HOUR)
    state(suite, "a", 1, "checkpoint-1.json", checkpoint(1, HOUR))
    assert budget.spent(suite) == pytest.approx(1, rel=1e-3)


def test_a_training_begins_while_it_fits_whole(limited: Any, finished: Finish) -> None:
    """Two folds took an hour each: a third fits into 3.01 hours and not into 2.9."""
    suite = limited(3.01)
    for fold in (1, 2):
        finished(suite, Job("birds", "a", fold, 0), HOUR)
    begin(suite, "a", 3)
    with pytest.raises(BudgetError, match="budget of 2.9 device hours .* raise execution.budget"):
        begin(limited(2.9), "a", 3)


def test_one_that_was_begun_needs_only_the_rest(limited: Any, finished: Finish) -> None:
    suite = limited(2.01)
    finished(suite, Job("birds", "a", 1, 0), HOUR)
    state(suite, "a", 2, "checkpoint-1.json", checkpoint(1, 0.9 * HOUR))
    begin(suite, "a", 2)


def test_those_that_run_are_counted_whole_while_their_heart_beats(
    limited: Any, finished: Finish
) -> None:
    suite = limited(2.9)
    finished(suite, Job("birds", "a", 1, 0), HOUR)
    state(suite, "a", 2, "lease.json", lease(age=5))
    with pytest.raises(BudgetError):
        begin(suite, "a", 3)
    for gone in (lease(age=500), lease(age=5, stage="evaluate")):
        state(suite, "a", 2, "lease.json", gone)
        begin(suite, "a", 3)


def test_what_was_never_measured_begins_until_the_budget_is_reached(
    bench: Any, limited: Any, finished: Finish
) -> None:
    bench.models["b"] |= {"gflops": 1e9, "params_m": 1}  # arithmetic says years
    bench.datasets["birds"]["size"] = {"clips": 300, "seconds": 5}
    finished(limited(1.1), Job("birds", "a", 1, 0), HOUR)
    begin(limited(1.1), "b", 1)
    with pytest.raises(BudgetError):
        begin(limited(0.9), "b", 1)


def test_a_suite_without_a_budget_refuses_nothing(bench: Any, finished: Finish) -> None:
    suite = bench.load()
    finished(suite, Job("birds", "a", 1, 0), 1e9)
    begin(suite, "a", 2)
    assert budget.ended(suite) is None


def test_the_end_is_told_with_what_is_left(limited: Any, finished: Finish) -> None:
    suite = limited(1.5)
    finished(suite, Job("birds", "a", 1, 0), HOUR)
    assert budget.ended(suite) is None
    state(suite, "a", 2, "failure.json", {"kind": "budget"})
    assert budget.ended(suite).startswith(
        "The suite's budget ended it: 1 of 1.5 device hours are spent, 11 of 12 trainings are not"
    )


def test_the_verb_refuses_with_exit_code_2_and_a_record(
    limited: Any, finished: Finish, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = limited(0.5)
    finished(suite, Job("birds", "a", 1, 0), HOUR)
    with pytest.raises(BudgetError):
        begin(suite, "a", 2)
    job = Job("birds", "a", 2, 0)
    folder, wanted = suite.folder(job), str(wanted_run(suite, job))
    given = ["--run", str(folder), "--fold", "2", "--seed", "0", "--prepared", "p"]
    code = cli.main(["train", wanted, *given, "--statistics", "s", "--suite", "resolved.yaml"])
    assert code == 2
    assert "cmkd: the suite's budget of 0.5 device hours does not reach" in capsys.readouterr().err
    record = json.loads((folder / "state" / "failure.json").read_text())
    assert (record["kind"], record["stage"]) == ("budget", "train")
    assert record["recipe"] == suite.recipe("birds", "a").digest


def test_a_budget_that_is_spent_to_the_last_is_spent(limited: Any, finished: Finish) -> None:
    finished(limited(1), Job("birds", "a", 1, 0), device_hours=1 - 2 / 3600)
    assert budget.spent(limited(1)) == 1
    with pytest.raises(BudgetError):
        begin(limited(1), "b", 1)
