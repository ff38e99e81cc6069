"""Cut at seeded moments and run again: the same bytes as uncut, with dropout and drop-path."""

import csv
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
TIMES = {"time", "seconds", "clips_per_second"}
BY_EPOCH = ("scores-checkpoints.npz", "scores-peek.npz", "scores-epochs.npz")


@pytest.fixture
def order(trained, wanted, taught, multi, data: SimpleNamespace) -> Callable[[int], dict]:
    """Return a function that orders a training of so many epochs, taught or alone."""

    def make(epochs: int, with_teacher: bool = True) -> dict:
        teacher = None
        if with_teacher:
            teacher = trained(wanted("teacher", **multi), "teacher", prepared=data.multi)
        changes = (taught(teacher) if teacher else {}) | multi | {
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
            "teacher": str(teacher) if teacher else None,
            "execution": {"device": "cpu", "checkpoint_seconds": 0.1, "checkpoint_steps": 5},
        }

    return make


def cut_and_whole(order: dict, folder: Path, cuts: list[tuple[str, float]]) -> list[int]:
    """Train with cuts and without, compare all files, and return how the cut attempts ended."""
    runs = {str(folder / "whole"): [], str(folder / "cut"): cuts}
    argument = json.dumps({"train": order, "runs": runs})
    done = subprocess.run(
        [sys.executable, str(RUNNER), argument], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    whole, cut = folder / "whole", folder / "cut"
    for name in (*SAME, *SCORES, *BY_EPOCH):
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), name
    assert timeless(whole) == timeless(cut)
    left = [sorted(path.name for path in run.iterdir()) for run in (whole, cut)]
    assert left[0] == left[1] and "state" not in left[0]
    *ends, last = json.loads(done.stdout)[str(cut)]
    assert last == 0
    return ends


def timeless(run: Path) -> list[dict[str, str]]:
    """Return a history without its columns of times and speeds."""
    with open(run / "history.csv") as file:
        return [{k: row[k] for k in row.keys() - TIMES} for row in csv.DictReader(file)]


def test_cut_by_each_means(order, tmp_path: Path) -> None:
    cuts = [("kill", 0.3), ("term", 0.2), ("wall", 0.0), ("evaluate-kill", 0.0)]
    assert cut_and_whole(order(8), tmp_path, cuts) == [-9, 75, 75, -9]


def test_an_evaluation_stopped_by_sigterm(order, tmp_path: Path) -> None:
    assert cut_and_whole(order(4, False), tmp_path, [("evaluate-term", 0.0)])[0] in (75, -15)


@pytest.mark.slow
@pytest.mark.parametrize("with_teacher", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_five_cuts(order, tmp_path: Path, seed: int, with_teacher: bool) -> None:
    moments = random.Random(seed)
    train = ["kill", "term", "wall", moments.choice(["kill", "term", "wall"])]
    moments.shuffle(train)
    cuts = [(how, moments.uniform(0.03, 0.18)) for how in train]
    cuts += [(f"evaluate-{how}", moments.uniform(0, 0.02)) for how in ("kill", "term")]
    ends = cut_and_whole(order(40, with_teacher), tmp_path, cuts)
    print(cuts, ends)  # with -s
    assert all(ends[:4]) and any(ends[4:])
