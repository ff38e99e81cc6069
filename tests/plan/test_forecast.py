"""Forecasts of suites: shared runs once, wall time, and the text that people read."""

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd.plan import forecast
from cmkd.plan.forecast import Task, forecasts, makespan
from cmkd.plan.preview import duration, render
from cmkd.plan.suites import Job

Finish = Callable[..., Path]


def test_chains_and_free_places() -> None:
    tasks = {
        **{"a": Task(5, ()), "b": Task(3, ()), "c": Task(2, ("a", "gone"))},
        **{"d": Task(4, ("b",)), "e": Task(1, ("c", "d"))},
    }
    assert makespan(tasks, 1) == 15
    assert makespan(tasks, 2) == 8  # a 0-5, b 0-3, d 3-7, c 5-7, e 7-8
    assert makespan({}, 3) == 0


def test_wall_time_lies_between_its_bounds() -> None:
    """Graham: no order of a free place's work takes more than the sum shared out + the chain."""
    draw = random.Random(0)
    for places, trial in itertools.product((1, 2, 5), range(20)):
        names = [str(number) for number in range(30)]
        tasks = {
            name: Task(draw.uniform(1, 9), tuple(draw.sample(names[:at], min(at, trial % 3))))
            for at, name in enumerate(names)
        }
        ends: dict[str, float] = {}
        for name, task in tasks.items():
            ends[name] = task.seconds + max((ends[a] for a in task.after), default=0.0)
        total, chain = sum(task.seconds for task in tasks.values()), max(ends.values())
        found = makespan(tasks, places)
        assert max(chain, total / places) - 1e-9 <= found <= total / places + chain
    assert makespan(tasks, 30) == pytest.approx(chain)


def test_a_teacher_comes_before_its_student(loaded: Any, finished: Finish) -> None:
    suite = loaded(folds=[1], pairs=["a@b"])
    for run, seconds in (("b", 30.0), ("a@b", 50.0)):
        finished(suite, Job("birds", run, 2, 0), seconds)
    (found,) = forecasts([suite])
    boot = 4 * 3.0
    assert makespan(found.tasks(), 9) == pytest.approx(30 + 50 + 2 + boot - 3)
    assert found.seconds_by_basis() == {"measured": (2, 30.0 + 50 + 2 + 2)}


def test_shared_runs_are_counted_by_the_first(bench: Any, finished: Finish) -> None:
    one = bench.load(name="one", folds=[1], pairs=["alone", "a@b"])
    finished(one, Job("birds", "a", 2, 0), 60.0)
    two = bench.load(name="two", folds=[1, 2], pairs=["alone"])
    first, second = forecasts([one, two])
    assert [len(found.pending) for found in (first, second)] == [3, 1]
    assert second.shared == {"one": 2}
    text = render([first, second])
    assert "2 of them are counted with one" in text
    assert "would run   4 of 5 trainings\n" in text


def test_runs_of_other_results_are_not_shared(bench: Any) -> None:
    one = bench.load(name="one", folds=[1], results="here")
    two = bench.load(name="two", folds=[1], results="there")
    assert [len(found.pending) for found in forecasts([one, two])] == [4, 4]


def test_the_text_says_what_it_rests_on(bench: Any, finished: Finish) -> None:
    bench.models["a"] |= {"gflops": 1, "params_m": 2}
    bench.datasets["birds"]["size"] = {"clips": 300, "seconds": 5}
    suite = bench.load(pairs=["alone"], variants=["fast"])
    for job in suite.jobs()[:2]:
        finished(suite, job, 3598.0)
    text = render(forecasts([suite]), 2)
    rows = [line.split() for line in text.splitlines() if line.startswith("  ")]
    assert rows[1:3] == [
        ["a", "2", "done", "and", "up", "to", "date"],
        ["a", "1", "1", "h", "0", "min", "1.00", "measured", "would", "run:", "new"],
    ]
    assert "  a+fast" in text and "alike: a" in text
    assert "1.00 CPU-core-hours on cpu, 1 thread: 1 run, finished runs of the same name" in text
    assert "3.00 CPU-core-hours on cpu, 1 thread: 3 runs, finished runs of the same work" in text
    assert "no estimate, the size of b is not in the catalogue: 6 runs, nothing" in text
    assert "wall time" not in text  # of b nobody knows
    assert "`cmkd plan SUITE --calibrate`" in text
    whole = render(forecasts([bench.load(models=["a"])]), 2)
    assert "about 2 h 0 min at 2 jobs at once" in whole


def test_hours_of_two_devices_make_no_wall_time(bench: Any, finished: Finish) -> None:
    for model in ("a", "b"):
        bench.models[model] |= {"gflops": 1, "params_m": 2}
    bench.datasets["birds"]["size"] = {"clips": 300, "seconds": 5}
    suite = bench.load(pairs=["alone"])
    assert "wall time   about" in render(forecasts([suite]))
    finished(suite, Job("birds", "a", 1, 0))
    assert "wall time   not given" in render(forecasts([suite]))


def test_nothing_to_run_is_one_sentence(loaded: Any, finished: Finish) -> None:
    suite = loaded(folds=[1], pairs=["alone"])
    for job in suite.jobs():
        finished(suite, job)
    for name in ("tables/suite/leaderboard.csv", "logs/track-suite.json"):
        (suite.results / name).parent.mkdir(parents=True, exist_ok=True)
        (suite.results / name).touch()
    assert "tables 1" in render(forecasts([suite]))  # their record of rows is not there
    agreement = forecast.Agreement(suite)
    agreement.rows_record().write_text(agreement.wanted_rows().path.read_text())
    assert render(forecasts([suite])).endswith("nothing to run: everything is done and up to date")


def test_disk_of_a_further_fold_is_that_of_a_finished_one(loaded: Any, finished: Finish) -> None:
    suite = loaded(pairs=["alone"], models=["a"])
    folder = finished(suite, Job("birds", "a", 1, 0))
    (folder / "history.csv").write_bytes(bytes(5_000_000))
    os.utime(folder / "history.csv", (1.7e9, 1.7e9))  # scores are newer than what they are of
    (found,) = forecasts([suite])
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert found.run_bytes() == 2 * size
    assert found.prepared_bytes() == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (99.0, "99 s"), (100.0, "2 min"), (3540.0, "59 min")),
        *((3599.0, "1 h 0 min"), (7300.0, "2 h 2 min"), (86400 * 3.0, "3 d 0 h")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
