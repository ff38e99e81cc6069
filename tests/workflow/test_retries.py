"""Snakemake with `--retries`: what cannot succeed is tried once, all else as often as asked."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("failing_cmkd.py")
NEVER = "no run has this in its name"


@pytest.fixture
def failing(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finished clone but for one training that fails with the records of the real verbs."""
    folder = tmp_path / "fakes"
    shutil.copytree(finished.fakes, folder)
    (folder / "cmkd").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n')
    finished.fakes = folder
    finished.log.unlink()
    shutil.rmtree(finished.folder("small_ast@small_cnn"))
    monkeypatch.setenv("FAKE_INVOCATIONS", str(tmp_path / "invocations"))
    monkeypatch.setenv("FAKE_RUN", "small_ast@small_cnn/fold-1")
    monkeypatch.setenv("FAKE_CAUSE", "data")
    monkeypatch.delenv("CMKD_INVOCATION", raising=False)
    return finished


def suite(clone: Any, **environment: str) -> Any:
    return clone.snakemake("--cores", "2", "--retries", "2", **environment)


def tries(clone: Any) -> int:
    return len(clone.calls("failing"))


def record(clone: Any) -> dict[str, Any]:
    path = clone.folder("small_ast@small_cnn") / "state" / "failure.json"
    return dict(json.loads(path.read_text()))


def test_wrong_data_are_tried_once_and_the_cause_is_on_the_screen(failing: Any) -> None:
    done = suite(failing)
    assert done.returncode == 1 and tries(failing) == 1
    assert "distill is not tried again, it would fail again: data: clip 7.wav has no" in done.stdout
    assert "Trying to restart" not in done.stdout
    assert record(failing)["attempt"] == 1
    # The next call of Snakemake is another one: it tries once more ...
    assert suite(failing).returncode == 1
    assert tries(failing) == 2 and record(failing)["attempt"] == 2
    # ... and where the cause was mended, it runs.
    mended = suite(failing, FAKE_RUN=NEVER)
    assert mended.returncode == 0, mended.stdout
    assert tries(failing) == 2
    assert (failing.folder("small_ast@small_cnn") / "metrics.json").exists()


@pytest.mark.parametrize("cause", ["time", "killed"])
def test_what_may_succeed_is_tried_again(failing: Any, cause: str) -> None:
    done = suite(failing, FAKE_CAUSE=cause)
    assert done.returncode == 1 and tries(failing) == 3
    assert "is not tried again" not in done.stdout
    if cause == "time":
        assert record(failing)["attempt"] == 3


def test_a_hopeless_evaluation_is_tried_once_too(failing: Any) -> None:
    done = suite(failing, FAKE_CAUSE="bug", FAKE_VERB="evaluate")
    assert done.returncode == 1 and tries(failing) == 1
    assert "evaluate is not tried again, it would fail again: bug: not foreseen" in done.stdout


def test_all_jobs_of_a_call_know_its_name_and_the_next_call_has_another(
    failing: Any, tmp_path: Path
) -> None:
    suite(failing, FAKE_RUN=NEVER)
    first = named(tmp_path)
    (failing.folder("small_cnn") / "metrics.json").unlink()
    suite(failing, FAKE_RUN=NEVER)
    second = named(tmp_path) - first
    assert len(first) == len(second) == 1
    assert all(len(name) == 32 for name in first | second)
    (failing.folder("small_cnn") / "metrics.json").unlink()
    suite(failing, FAKE_RUN=NEVER, CMKD_INVOCATION="given")
    assert named(tmp_path) - first - second == {"given"}


def named(tmp_path: Path) -> set[str]:
    lines = (tmp_path / "invocations").read_text().splitlines()
    return {line.split()[1] for line in lines if line.split()[0] in ("train", "evaluate")}


def test_a_wrong_data_root_is_tried_once_and_runs_when_it_is_mended(failing: Any) -> None:
    shutil.rmtree(failing.root / "results")
    failing.edit("suite", "datasets", to=["esc50"])
    failing.edit("suite", "data_root", to="nowhere")
    failing.edit("suite", "folds", to=[1])
    real = {"FAKE_REAL": "prepare", "FAKE_RUN": NEVER}
    done = suite(failing, **real)
    assert done.returncode == 1
    assert "prepare is not tried again, it would fail again: data: " in done.stdout
    path = failing.root / "results/prepared/esc50/manifest.csv.failure.json"
    assert json.loads(path.read_text())["attempt"] == 1
    assert suite(failing, **real).returncode == 1
    assert json.loads(path.read_text())["attempt"] == 2
