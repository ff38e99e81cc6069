"""Small prepared datasets, recipes and run folders for learning's tests."""

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cmkd.audio.statistics import write_statistics
from cmkd.data.prepare import prepare
from cmkd.learning.train import train

FRONTEND = {"sample_rate": 16000, "mel_bins": 16, "shift_ms": 20.0, "frames": 24}
DATA = {
    "behaviour": 1,
    "reader": "toy",
    "classes": ["rising", "clicks", "flutter"],
    "seconds": 0.5,
    "seed": 3,
    "on_missing": "stop",
}
SINGLE = {**DATA, "name": "toy", "labels": "single", "metric": "accuracy",
          "folds": [1, 2], "clips_per_class": 12}  # fmt: skip
MULTI = {**DATA, "name": "toy_multi", "labels": "multi", "metric": "map",
         "splits": ["train", "val", "test"], "clips": 60}  # fmt: skip
RECIPE: dict[str, Any] = {
    "run": "small_cnn",
    "depth": 0,
    "dataset": {"name": "toy", "labels": "single", "classes": 3, "metric": "accuracy"},
    "input": {"behaviour": 1, **FRONTEND, "noise": 0.1, "roll": 3, "time_mask": 4},
    "model": {
        "behaviour": 1,
        "builder": "small_cnn",
        "widths": [4, 8],
        "head": "mean",
        "normalise": {"statistics": "fold", "factor": 1.0},
    },
    "objective": {"behaviour": 1, "name": "alone", "smoothing": 0.1},
    "training": {
        "behaviour": 1,
        "optimiser": "adam",
        "lr": 0.003,
        "betas": [0.95, 0.999],
        "weight_decay": 5.0e-7,
        "batch": 5,
        "epochs": 3,
        "schedule": {"kind": "step", "start": 2, "every": 1, "factor": 0.5},
        "readout": "last",
    },
}
AST = {
    "behaviour": 1,
    "builder": "ast",
    "trunk": "plain",
    "dim": 12,
    "depth": 2,
    "heads": 2,
    "patch": [16, 4],
    "stride": [16, 4],
    "dropout": 0.2,
    "drop_path": 0.3,
    "normalise": {"statistics": "fold", "factor": 2.0},
}
TAUGHT = {"behaviour": 1, "name": "distill", "lambda": 0.5, "tau": 1.0, "smoothing": 0.1}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Return prepared single- and multi-label sounds, with statistics of folds 1 and 0."""
    folder = tmp_path_factory.mktemp("prepared")
    for entry, fold in ((SINGLE, 1), (MULTI, 0)):
        out = folder / str(entry["name"])
        prepare(yaml.safe_dump(entry), out, None, 1)
        write_statistics(out, fold, FRONTEND, out / "stats.json")
    return SimpleNamespace(single=folder / "toy", multi=folder / "toy_multi")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy of a recipe with some dotted keys changed; None removes a key."""
    recipe = copy.deepcopy(base)
    for key, value in changes.items():
        *path, last = key.split(".")
        part = recipe
        for step in path:
            part = part.setdefault(step, {})
        if value is None:
            part.pop(last, None)
        else:
            part[last] = copy.deepcopy(value)
    return recipe


@pytest.fixture
def wanted(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a wanted recipe with some dotted keys changed."""

    def write(name: str = "wanted", **changes: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(merged(RECIPE, changes)))
        return path

    return write


@pytest.fixture
def multi() -> dict[str, Any]:
    """Return the changes that make a recipe one for the multi-label sounds."""
    dataset = {"name": "toy_multi", "labels": "multi", "classes": 3, "metric": "map"}
    return {"dataset": dataset}


@pytest.fixture
def taught() -> Callable[[Path], dict[str, Any]]:
    """Return a function that gives the changes for an AST taught by a run folder's model."""

    def changes(teacher: Path) -> dict[str, Any]:
        recipe = hashlib.sha256((teacher / "recipe.yaml").read_bytes()).hexdigest()[:16]
        return {
            "run": "ast@small_cnn",
            "depth": 1,
            "model": AST,
            "objective": TAUGHT,
            "teacher": {"run": "small_cnn", "recipe": recipe},
        }

    return changes


@pytest.fixture
def trained(data: SimpleNamespace, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that trains a wanted recipe on the single-label sounds."""

    def run(wanted: Path, name: str = "run", **given: Any) -> Path:
        prepared = given.pop("prepared", data.single)
        arguments = {
            "wanted": wanted,
            "run": tmp_path / name,
            "fold": 0 if prepared == data.multi else 1,
            "seed": 0,
            "prepared": prepared,
            "statistics": prepared / "stats.json",
            "teacher": None,
            "initial": None,
            "execution": {"device": "cpu", "checkpoint_seconds": 1000},
        }
        train(**{**arguments, **given})
        return tmp_path / name

    return run
