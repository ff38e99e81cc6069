"""Two copies of one job at the same time: an orphan, and the same job submitted anew."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.plan.agreement import EVALUATED, TRAINED
from cmkd.scoring.evaluate import evaluate

RUNNER = Path(__file__).with_name("copy_runner.py")
SAME = ("weights.safetensors", "inputs.json", "recipe.yaml")
SCORED = (*SAME, "scores.npz", "metrics.json")
LATE = 120.0
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(wanted, data, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a copy; one that is held `at` a place waits for a gate."""
    recipe, started = wanted(), []

    def begin(stage: str = "train", at: str | None = None, silence: float = 60) -> Any:
        execution = {"device": "cpu", "checkpoint_steps": 1, "lease_seconds": silence}
        given = {"wanted": str(recipe), "run": str(tmp_path / "run"), "fold": 1, "seed": 0,
                 "prepared": str(data.single), "statistics": str(data.single / "stats.json"),
                 "teacher": None, "initial": None, "execution": execution}  # fmt: skip
        gates = {at: str(tmp_path / "gate")} if at else {}
        order = json.dumps({"stage": stage, "gates": gates, "train": given})
        started.append(
            subprocess.Popen(
                [sys.executable, str(RUNNER), order], stdout=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def whole(trained, wanted, data) -> Path:
    """The same training, and its evaluation, by one process that nothing disturbs."""
    run = trained(wanted(), "whole")
    evaluate(run, data.single, {"device": "cpu"})
    return run


def until(true: Callable[[], Any]) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + LATE
    while not true():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.01)


def holder(run: Path) -> int | None:
    """Return the process that holds the lease."""
    try:
        return files.read_json(run / "state" / "lease.json")["pid"]
    except (OSError, ValueError):
        return None


def same(run: Path, other: Path, names: tuple[str, ...]) -> None:
    for name in names:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name


def stamps(run: Path) -> dict[str, int]:
    """Return when each file of a run was written."""
    return {str(path): path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def test_the_second_training_waits_and_finds_it_done(start, whole, tmp_path) -> None:
    run = tmp_path / "run"
    orphan = start(at="step")
    until(lambda: holder(run) == orphan.pid)
    second = start()
    said = second.stdout.readline()
    assert said.startswith(f"waits: process {orphan.pid} on {os.uname().nodename}")
    (tmp_path / "gate").touch()
    assert second.wait(LATE) == 0 and orphan.wait(LATE) == 0
    assert "done already, nothing to do" in second.stdout.read()
    assert all((run / name).exists() for name in TRAINED)
    assert files.read_json(run / "cost.json")["attempts"] == 1
    same(run, whole, SAME)


def test_outputs_swept_away_while_the_orphan_wrote_them_are_written_again(
    start, whole, tmp_path
) -> None:
    run = tmp_path / "run"
    orphan = start(at="history")
    until(lambda: (run / "weights.safetensors").exists())
    second = start()
    assert second.stdout.readline().startswith("waits: ")
    # As Snakemake does before it starts a job again: it removes the outputs that are there.
    (run / "weights.safetensors").unlink()
    (tmp_path / "gate").touch()
    assert orphan.wait(LATE) == 0 and second.wait(LATE) == 0
    text = second.stdout.read()
    assert "begins at  step 12, epoch 4" in text and "epoch 1/3" not in text
    same(run, whole, SAME)


def test_the_second_evaluation_waits_and_finds_it_done(start, whole, tmp_path) -> None:
    run = tmp_path / "run"
    assert start().wait(LATE) == 0
    orphan = start("evaluate", at="scores")
    until(lambda: holder(run) == orphan.pid)
    second = start("evaluate")
    assert "(evaluate) since" in second.stdout.readline()
    (tmp_path / "gate").touch()
    assert second.wait(LATE) == 0 and orphan.wait(LATE) == 0
    assert "done already, nothing to do" in second.stdout.read()
    assert all((run / name).exists() for name in EVALUATED)
    assert not (run / "state").exists()
    same(run, whole, SCORED)


def test_after_a_kill_the_second_goes_on_from_the_checkpoint(start, whole, tmp_path) -> None:
    run = tmp_path / "run"
    orphan = start(at="step")
    until(lambda: holder(run) == orphan.pid)
    second = start()
    assert second.stdout.readline().startswith("waits: ")
    until(lambda: (run / "state" / "checkpoint-0.json").exists())
    orphan.kill()
    assert second.wait(LATE) == 0
    text = second.stdout.read()
    assert "takes over from" in text and "the beginning" not in text
    same(run, whole, SAME)


def test_a_frozen_copy_that_wakes_up_says_so_and_writes_nothing(start, whole, tmp_path) -> None:
    run = tmp_path / "run"
    orphan = start(at="step", silence=1)
    until(lambda: (run / "state" / "checkpoint-0.json").exists())
    orphan.send_signal(signal.SIGSTOP)
    second = start(silence=1)
    assert second.wait(LATE) == 0
    before = stamps(run)
    (tmp_path / "gate").touch()
    orphan.send_signal(signal.SIGCONT)
    assert orphan.wait(LATE) == 75
    assert "another copy of this job has taken" in orphan.stdout.read()
    assert stamps(run) == before
    assert not (run / "state" / "failure.json").exists()
    same(run, whole, SAME)


def test_sigterm_ends_the_waiting(start, tmp_path) -> None:
    run = tmp_path / "run"
    orphan = start(at="step")
    until(lambda: holder(run) == orphan.pid)
    for stage in ("train", "evaluate"):
        (run / "recipe.yaml").write_text("{}")  # so that there is something to evaluate
        second = start(stage)
        assert second.stdout.readline().startswith("waits: ")
        second.send_signal(signal.SIGTERM)
        assert second.wait(LATE) == 75
    assert holder(run) == orphan.pid
    assert not (run / "state" / "failure.json").exists()
