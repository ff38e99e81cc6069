"""A small catalogue in a folder of its own, which a test may break on purpose."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.plan import agreement, suites

DATASETS: dict[str, Any] = {
    "birds": {
        "reader": "toy",
        "labels": "single",
        "metric": "accuracy",
        "folds": [1, 2, 3],
        "classes": ["wren", "robin"],
        "published_statistics": {"mean": -4.0, "std": 2.5, "source": "a paper"},
    },
    "cars": {
        "reader": "toy",
        "labels": "multi",
        "metric": "map",
        "splits": ["train", "val", "test"],
        "classes": ["bus", "van", "lorry"],
    },
}
MODELS: dict[str, Any] = {
    "a": {"family": "cnn", "class": "cnn", "recipe": {"model": {"builder": "small_cnn"}}},
    "b": {
        "family": "ast",
        "class": "transformer",
        "recipe": {
            "model": {
                **{"builder": "ast", "trunk": "plain", "dim": 8, "depth": 1, "heads": 2},
                **{"patch": [16, 4], "stride": [16, 4], "token": "cls"},
            }
        },
    },
    "c": {
        "family": "cnn",
        "class": "cnn",
        "recipe": {"model": {"builder": "small_cnn", "head": "attention", "heads": 4}},
    },
}
RECIPES: dict[str, Any] = {
    "defaults": {
        "input": {"sample_rate": 16000, "mel_bins": 64, "shift_ms": 10, "frames": 100},
        "model": {
            **{"weights": "none", "widths": [4, 8], "head": "mean"},
            **{"normalise": {"statistics": "fold", "factor": 1}},
        },
        "objective": {"name": "distill", "lambda": 0.5, "tau": 1, "smoothing": 0.1},
        "training": {
            **{"optimiser": "adam", "lr": 0.01, "betas": [0.9, 0.99], "weight_decay": 0},
            **{"batch": 8, "epochs": 10, "readout": "last", "schedule": {"kind": "constant"}},
        },
    },
    "datasets": {"birds": {"input": {"roll": 3}, "training": {"batch": 4}}},
    "families": {"cnn": {}, "ast": {"model": {"normalise": {"factor": 2.0}}}},
    "datasets_families": {"birds": {"ast": {"training": {"lr": 0.02}}}},
}
VARIANTS: dict[str, Any] = {
    "tau2": {"objective": {"tau": 2.0}},
    "tau4": {"objective": {"tau": 4.0}},
    "fast": {"training": {"lr": 0.5}},
    "wide": {"input": {"mel_bins": 96}},
    "plain": {"input": {"roll": 0}},
    "warm": {"model": {"weights": "run:cars/a"}},
}
SUITE: dict[str, Any] = {"datasets": ["birds"], "models": ["a", "b"], "pairs": ["alone", "cross"]}


class Workbench:
    """The four files and a suite as dictionaries to change, then `load` them from disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = copy.deepcopy(DATASETS)
        self.models = copy.deepcopy(MODELS)
        self.recipes = copy.deepcopy(RECIPES)
        self.variants = copy.deepcopy(VARIANTS)
        self.suite = copy.deepcopy(SUITE)

    def write(self) -> Path:
        for kind in ("datasets", "models", "recipes", "variants", "suite"):
            text = yaml.safe_dump(getattr(self, kind), sort_keys=False)
            (self.folder / f"{kind}.yaml").write_text(text)
        return self.folder / "suite.yaml"

    def load(self, **keys: Any) -> suites.Suite:
        self.suite |= keys
        return suites.load(self.write())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    monkeypatch.chdir(tmp_path)
    return Workbench(tmp_path)


@pytest.fixture
def loaded(bench: Workbench) -> Callable[..., suites.Suite]:
    return bench.load


COST = {"device": "cpu", "device_kind": "cpu", "threads": 1, "processes": 1}


def finish(suite: suites.Suite, job: suites.Job, train: float = 100.0, **more: Any) -> Path:
    """Leave the files of a finished run that took so many seconds, ten of them once."""
    folder = suite.folder(job)
    statistics, manifest = (
        suite.statistics(job),
        suite.prepared_folder(job.dataset) / "manifest.csv",
    )
    if not manifest.exists():
        for name in agreement.PREPARED:
            put(manifest.parent / name, name)
        put(manifest.parent / "recipe.yaml", suite.data_recipe(job.dataset).text)
        put(Path(f"{manifest}.sha256"), "m")
    put(statistics, json.dumps({"manifest": "m"}))
    put(Path(f"{statistics}.sha256"), "s")
    for name in (*agreement.TRAINED, *agreement.EVALUATED):
        put(folder / name, "")
    cost = COST | {"end": "2026-01-01", "device_hours": train / 3600} | more
    cost["seconds"] = {"start": 6.0, "outputs": 4.0, "student": train - 10, "total": train}
    put(folder / "cost.json", json.dumps(cost))
    scoring = {"seconds": {"total": 2.0}, "device_hours": 2 / 3600}
    put(folder / "cost-evaluate.json", json.dumps(scoring))
    inputs = {"fold": job.fold, "seed": job.seed, "manifest": "m", "statistics": "s"}
    put(folder / "inputs.json", json.dumps(inputs))
    put(folder / "recipe.yaml", suite.recipe(job.dataset, job.run).text)
    return folder


def put(path: Path, text: str) -> None:
    """Write a file a little later than the one before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    _clock.append(_clock[-1] + 1_000_000_000)
    os.utime(path, ns=(_clock[-1], _clock[-1]))


_clock = [1_700_000_000_000_000_000]


@pytest.fixture
def finished() -> Callable[..., Path]:
    """A function that leaves a finished run behind."""
    return finish
