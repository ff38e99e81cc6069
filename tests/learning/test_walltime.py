"""The walltime: what Slurm says of it, and when training stops itself."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.errors import Stopped
from cmkd.learning import fit, walltime
from cmkd.learning.walltime import Walltime

HOUR = 3600.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts a fake squeue on the PATH, and makes this a Slurm job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)

    def make(script: str) -> Path:
        program, called = folder / "squeue", tmp_path / "called"
        program.write_text(f'#!/bin/sh\necho "$@" >> "{called}"\n{script}\n')
        program.chmod(0o755)
        return called

    return make


# The forms of slurm_sprint_time (squeue(1), field %L).
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:07", 7),
        ("59:59", 3599),
        ("1:00:00", HOUR),
        ("23:00:05", 23 * HOUR + 5),
        ("2-03:04:05", 51 * HOUR + 4 * 60 + 5),
        ("UNLIMITED", None),
        ("NOT_SET", None),
        ("INVALID", 0),
    ],
)
def test_squeue_is_asked_once_for_the_time_left(squeue, text, seconds) -> None:
    called = squeue(f"echo '{text}'")
    assert walltime.seconds_left() == seconds
    assert called.read_text() == "-h -j 417 -o %L\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1", "Invalid job id"),
        ("exit 1", "no answer"),
        ("echo soon", "'soon'"),
        ("", "answers ''"),
        ("sleep 60", "timed out"),
    ],
)
def test_no_answer_is_a_line_in_the_log(squeue, script, why, capsys, monkeypatch) -> None:
    monkeypatch.setattr(walltime, "ASKING", 0.5)
    squeue(script)
    assert walltime.seconds_left() is None
    said = capsys.readouterr().out
    assert "how long job 417 may run" in said and why in said
    assert said.count("\n") == 1


def test_no_squeue_is_a_line_too(monkeypatch, tmp_path, capsys) -> None:
    assert walltime.seconds_left({"SLURM_JOB_ID": "1", "PATH": str(tmp_path)}) is None
    assert "squeue" in capsys.readouterr().out


def test_newer_slurm_says_when_the_job_ends(squeue, monkeypatch) -> None:
    called = squeue("echo 1:00")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 500))
    left = walltime.seconds_left()
    assert left is not None and 490 < left <= 500
    assert not called.exists()


def test_without_slurm_nothing_is_asked(squeue, monkeypatch) -> None:
    called = squeue("echo 1:00")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert walltime.seconds_left() is None and not called.exists()
    assert not Walltime(None).up()


def test_it_stops_a_minute_before_the_end() -> None:
    clock = Clock()
    wall = Walltime(HOUR, clock)
    clock.time += HOUR - 61
    assert not wall.over()
    clock.time += 2
    assert wall.over()


def test_of_a_very_short_job_a_tenth_is_kept() -> None:
    clock = Clock()
    wall = Walltime(120, clock)
    clock.time += 107
    assert not wall.over()
    clock.time += 2
    assert wall.over()


def test_long_steps_stop_it_earlier(capsys) -> None:
    clock = Clock()
    wall = Walltime(HOUR, clock)
    for _ in range(3):
        assert not wall.up()
        clock.time += 100
    clock.time = 1000 + HOUR - 310
    assert not wall.over()
    clock.time += 20
    assert wall.over() and wall.over()
    assert capsys.readouterr().out == "walltime: 290 s are left, 300 s are kept\n"


def test_a_save_is_no_step_but_has_its_own_room() -> None:
    clock = Clock()
    wall = Walltime(HOUR, clock)
    for _ in range(3):
        wall.up()
        clock.time += 1 + 200
        wall.saved(200)
    wall.up()
    assert wall.margin() == 3 * 1 + 2 * 200


def test_a_hiccup_is_forgotten() -> None:
    clock = Clock()
    wall = Walltime(10 * HOUR, clock)
    for seconds in [900.0] + [1.0] * 101:
        wall.up()
        clock.time += seconds
    assert wall.margin() == 60


def job_with(squeue: Any, left: str) -> None:
    squeue(f"echo {left}")


def test_a_training_in_a_job_that_is_over_takes_one_step_each(
    trained, wanted, squeue, tmp_path, capsys
) -> None:
    """Every attempt gets on by a step at least, and in the end the bytes are the same."""
    job_with(squeue, "UNLIMITED")
    whole = trained(wanted(), "whole")
    job_with(squeue, "INVALID")
    steps = []
    for _ in range(3):
        with pytest.raises(Stopped) as stopped:
            trained(wanted(), "cut")
        steps.append(str(stopped.value).split("(")[0])
    assert steps == [f"stopped after step {number} " for number in (1, 2, 3)]
    assert stopped.value.exit_code == 75
    record = files.read_json(tmp_path / "cut" / "state" / "failure.json")
    assert (record["kind"], record["retry"], record["attempt"]) == ("time", True, 3)
    assert not (tmp_path / "cut" / "state" / "lease.json").exists()
    job_with(squeue, "UNLIMITED")
    cut = trained(wanted(), "cut")
    for name in ("weights.safetensors", "recipe.yaml", "inputs.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert "walltime: 0 s are left" in capsys.readouterr().out


def test_a_validation_is_left_between_two_batches(
    trained, wanted, multi, data, monkeypatch, tmp_path, capsys
) -> None:
    """Its epoch then ends in the next attempt, with the same history and the same bytes."""
    from cmkd.learning import train as module

    changes = multi | {
        "training.schedule": {"kind": "plateau", "patience": 1, "factor": 0.5},
        "training.readout": "best",
        "training.readouts": ["last"],
    }
    whole = trained(wanted("whole", **changes), "whole", prepared=data.multi)
    monkeypatch.setattr(module, "BATCH", 4)
    looks, timely = [], module._timely

    def late_in_the_second_validation(batches, world, stop, looks_wanted):
        looks.append(looks_wanted)
        late = iter([False, True]) if len(looks) == 2 else iter([])
        return timely(batches, world, lambda: next(late, False), looks_wanted)

    monkeypatch.setattr(module, "_timely", late_in_the_second_validation)
    with pytest.raises(Stopped, match="epoch 2"):
        trained(wanted("cut", **changes), "cut", prepared=data.multi)
    state = files.read_json(tmp_path / "cut" / "state" / "checkpoint-1.json")["progress"]
    assert (state["epoch"], len(state["rows"])) == (1, 1)
    assert looks[0] > 2
    monkeypatch.undo()
    cut = trained(wanted("cut", **changes), "cut", prepared=data.multi)
    for name in ("weights.safetensors", "weights-last.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert timeless(cut) == timeless(whole)


def timeless(run: Path) -> list[list[str]]:
    """Return a history without its columns of times and speeds."""
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    kept = [number for number, name in enumerate(rows[0]) if name not in TIMES]
    return [[row[number] for number in kept] for row in rows]


TIMES = ("time", "seconds", "clips_per_second")


def test_interrupted_validations_are_no_failure_of_their_own() -> None:
    assert not issubclass(fit.Interrupted, Stopped)
