"""Failures: sorted, counted, and never written by one that lost its run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cmkd import cli
from cmkd.errors import (
    BudgetError,
    ConfigError,
    DataError,
    LeaseLost,
    ProcessLost,
    RunError,
    Stopped,
    TrainingError,
)
from cmkd.learning.parallel import Parted
from cmkd.scoring import failures


@pytest.mark.parametrize(
    ("error", "kind", "retry"),
    [
        (ConfigError("x"), "data", False),
        (DataError("x"), "data", False),
        (RunError("x"), "data", False),
        (TrainingError("x"), "non-finite", False),
        (BudgetError("x"), "budget", False),
        (ValueError("x"), "bug", False),
        (RuntimeError("shapes differ"), "bug", False),
        (KeyError("x"), "bug", False),
        (Stopped("x"), "time", True),
        (MemoryError(), "memory", True),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory", True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory", True),
        (OSError(28, "No space left on device"), "machine", True),
        (OSError(116, "Stale file handle"), "machine", True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "machine", True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "machine", True),
        (ProcessLost("x"), "machine", True),
        (Parted("x"), "machine", True),
    ],
)
def test_what_can_succeed_by_being_run_again(error: Exception, kind: str, retry: bool) -> None:
    record = failures.describe(error, "train", "d")
    assert (record["kind"], record["retry"]) == (kind, retry)
    assert kind in failures.KINDS and record["message"]


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "state" / failures.NAME).read_text()))


def fail(run: Path, stage: str = "evaluate", recipe: str = "d", error: Any = ValueError) -> None:
    with pytest.raises(error), failures.recorded(run, stage, recipe):
        raise error("x")


def test_attempts_are_counted_as_long_as_the_work_is_the_same(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        fail(tmp_path)
        assert record(tmp_path)["attempt"] == number
    fail(tmp_path, recipe="another")
    assert record(tmp_path)["attempt"] == 1
    fail(tmp_path, stage="train", recipe="another")
    assert record(tmp_path)["attempt"] == 1


def test_a_trainings_killed_attempts_count_too(tmp_path: Path) -> None:
    starts = {"identity": {"recipe": "d"}, "starts": [1.0, 2.0, 3.0]}
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "attempts.json").write_text(json.dumps(starts))
    fail(tmp_path, stage="train")
    assert record(tmp_path)["attempt"] == 4
    fail(tmp_path, stage="train", recipe="another")
    assert record(tmp_path)["attempt"] == 1


def test_the_invocation_is_that_of_the_environment(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("CMKD_INVOCATION", raising=False)
    fail(tmp_path)
    assert record(tmp_path)["invocation"] is None
    monkeypatch.setenv("CMKD_INVOCATION", "abc")
    fail(tmp_path)
    assert record(tmp_path)["invocation"] == "abc"


@pytest.mark.parametrize("damaged", ["", "[]", '{"attempt": "x", "stage": "evaluate"', "null"])
def test_a_damaged_record_is_replaced(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / failures.NAME).write_text(damaged)
    fail(tmp_path)
    assert record(tmp_path)["attempt"] == 1


def test_one_that_lost_its_run_leaves_no_record(tmp_path: Path) -> None:
    fail(tmp_path, error=LeaseLost)
    assert not (tmp_path / "state" / failures.NAME).exists()


def test_by_hand_nothing_is_written_beside_prepared_files(tmp_path, monkeypatch, capsys) -> None:
    wanted = tmp_path / "esc50.yaml"
    wanted.write_text("name: esc50\nreader: esc50\nbehaviour: 1\n")
    command = ["prepare", str(wanted), "--prepared", str(tmp_path / "p"), "--data-root", "/nowhere"]
    monkeypatch.delenv("CMKD_INVOCATION", raising=False)
    assert cli.main(command) == 2
    assert not (tmp_path / "p" / "manifest.csv.failure.json").exists()
    monkeypatch.setenv("CMKD_INVOCATION", "abc")
    assert cli.main(command) == 2
    found = json.loads((tmp_path / "p" / "manifest.csv.failure.json").read_text())
    assert (found["kind"], found["retry"], found["invocation"]) == ("data", False, "abc")
    assert f"cmkd: {found['message']}" in capsys.readouterr().err


def test_a_success_takes_the_record_beside_an_output_away(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CMKD_INVOCATION", "abc")
    path = failures.beside(tmp_path / "fold-1.json")
    with pytest.raises(DataError), failures.noted(tmp_path / "fold-1.json", "stats"):
        raise DataError("x")
    assert path.exists()
    with failures.noted(tmp_path / "fold-1.json", "stats"):
        pass
    assert not path.exists()
