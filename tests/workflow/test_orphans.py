"""Snakemake is killed, its training goes on, and the next Snakemake submits the same job again."""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd.plan.agreement import EVALUATED, TRAINED

PROGRAM = Path(__file__).with_name("slow_cmkd.py")
LATE = 240.0
SMALL = {
    "datasets": ["toy"],
    "models": ["small_cnn"],
    "pairs": ["alone"],
    "folds": [1],
    "seeds": [0],
    "set": {"training": {"epochs": 3}},
    "results": "results/small",
    "execution": {"device": "cpu"},
}
RUN = "results/small/runs/toy/small_cnn/fold-1/seed-0"


@pytest.fixture
def real(clean: Any, tmp_path: Path) -> Any:
    """A clone with one small real training and nothing made."""
    folder = tmp_path / "fakes"
    shutil.copytree(clean.fakes, folder)
    (folder / "cmkd").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n')
    clean.fakes = folder
    (clean.root / "config" / "suite.yaml").write_text(json.dumps(SMALL))
    return clean


def hashes(run: Path) -> dict[str, str]:
    names = ("weights.safetensors", "scores.npz", "metrics.json", "recipe.yaml", "inputs.json")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


def until(true: Any) -> None:
    end = time.monotonic() + LATE
    while not true():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.02)


@pytest.mark.slow
def test_the_orphan_and_its_resubmission_end_as_one(real: Any, tmp_path: Path) -> None:
    whole = real.copy(tmp_path / "another clone")
    whole.run()
    run = real.root / RUN
    lease = run / "state" / "lease.json"
    first = real.start("--cores", "2", SLOW_STEP="0.5")
    until(lambda: (run / "state" / "progress.json").exists())
    orphan = json.loads(lease.read_text())["pid"]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert Path(f"/proc/{orphan}").exists()
    second = real.snakemake("--cores", "2")
    assert second.returncode == 0, second.stdout
    assert not Path(f"/proc/{orphan}").exists()
    assert all((run / name).exists() for name in (*TRAINED, *EVALUATED))
    assert hashes(run) == hashes(whole.root / RUN)
    log = next((real.root / "results/small/logs/train").rglob("seed-0.log")).read_text()
    assert f"waits: process {orphan}" in log and "done already, nothing to do" in log
    assert "Nothing to be done" in real.run()
