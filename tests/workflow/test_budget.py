"""A budget ends the DAG in good order; the guard is the real one, trainings take an hour each."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("limited_cmkd.py")


@pytest.fixture
def limited(clean: Any, tmp_path: Path) -> Any:
    """A clone of six runs in two folds, with nothing made."""
    folder = tmp_path / "fakes"
    shutil.copytree(clean.fakes, folder)
    (folder / "cmkd").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n')
    clean.fakes = folder
    clean.edit("suite", "execution", to={"budget_gpu_hours": 3})
    clean.edit("suite", "pairs", to=["alone", "cross"])
    return clean


def made(clone: Any, name: str) -> int:
    return len(list(clone.root.glob(f"results/runs/**/{name}")))


def test_the_suite_ends_with_what_the_budget_reached_and_goes_on_when_raised(limited: Any) -> None:
    ended = limited.snakemake("--cores", "1")
    assert ended.returncode == 1
    assert made(limited, "weights.safetensors") == 3
    assert made(limited, "metrics.json") == 3  # all that is trained is scored
    assert "The suite's budget ended it: 3 of 3 device hours are spent, 5 of 8" in ended.stdout
    failures = [json.loads(p.read_text()) for p in limited.root.rglob("state/failure.json")]
    assert failures and {failure["kind"] for failure in failures} == {"budget"}
    board = limited.root / "results/tables/suite/leaderboard.csv"
    assert len(board.read_text().splitlines()) == 3
    assert len(limited.calls("track")) == 1

    again = limited.snakemake("--cores", "1")  # nothing changes while it is not raised
    assert again.returncode == 1 and made(limited, "weights.safetensors") == 3

    limited.edit("suite", "execution", to={"budget_gpu_hours": 8})
    limited.run()
    assert made(limited, "metrics.json") == 8
    assert len(limited.calls("train")) == 8  # none was trained twice
    assert len(board.read_text().splitlines()) == 8


def test_without_a_budget_a_training_is_called_as_ever(clean: Any) -> None:
    clean.edit("suite", "pairs", to=["alone"])
    clean.run()
    assert not any("--suite" in call for call in clean.calls("train"))
