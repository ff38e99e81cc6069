"""Killed by SIGKILL at seeded moments and run again: the same bytes, with dropout and drop-path."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

RUNNER = Path(__file__).with_name("kill_runner.py")
SAME = ("weights.safetensors", "weights-last.safetensors", "weights-averaged.safetensors")
SCORES = ("scores.npz", "scores-val.npz", "scores-averaged.npz", "metrics.json", "recipe.yaml")
BY_EPOCH = ("scores-checkpoints.npz", "scores-peek.npz", "scores-epochs.npz")


@pytest.fixture
def order(trained, wanted, taught, multi, data: SimpleNamespace) -> Callable[[int], dict]:
    """Return a function that orders a taught training of so many epochs."""

    def make(epochs: int) -> dict:
        teacher = trained(wanted("teacher", **multi), "teacher", prepared=data.multi)
        changes = taught(teacher) | multi | {
            "training.epochs": epochs,
            "training.readout": "best",
            "training.readouts": ["last", "averaged", "checkpoints", "peek"],
            "training.average": [2, epochs],
            "training.schedule": {"kind": "plateau", "patience": 1, "factor": 0.5},
            "input.mixup": 0.5,
            "input.mixup_alpha": 10.0,
        }  # fmt: skip
        return {
            "wanted": str(wanted("student", **changes)),
            "fold": 0,
            "seed": 0,
            "prepared": str(data.multi),
            "statistics": str(data.multi / "stats.json"),
            "teacher": str(teacher),
            "execution": {"device": "cpu", "checkpoint_seconds": 0.1, "checkpoint_steps": 5},
        }

    return make


def killed_and_whole(order: dict, folder: Path, fractions: list[float]) -> None:
    runs = {str(folder / "whole"): [], str(folder / "killed"): fractions}
    argument = json.dumps({"train": order, "runs": runs})
    done = subprocess.run(
        [sys.executable, str(RUNNER), argument], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {str(folder / "killed"): len(fractions)}
    for name in (*SAME, *SCORES, *BY_EPOCH):
        one, other = (folder / run / name for run in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes(), name
    left = [sorted(path.name for path in (folder / run).iterdir()) for run in ("whole", "killed")]
    assert left[0] == left[1]


def test_two_kills(order, tmp_path: Path) -> None:
    killed_and_whole(order(8), tmp_path, [0.35, 0.4])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_five_kills(order, tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    killed_and_whole(order(40), tmp_path, [moments.uniform(0.05, 0.2) for _ in range(5)])
