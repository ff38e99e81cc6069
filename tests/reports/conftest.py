"""Small suites with made run folders, holding every file of a finished run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cmkd import files
from cmkd.plan import suites
from cmkd.plan.suites import Job, Suite

CLASSES = ["dog", "rain", "saw", "bell"]
CLIPS = 24  # in each fold

MODELS = {
    "cnn_a": ("cnn", "cnn"),
    "cnn_b": ("cnn_att", "cnn"),
    "tr": ("ast", "transformer"),
}
CATALOG = {
    "datasets": {
        "tiny": {"reader": "toy", "labels": "single", "metric": "accuracy", "folds": [1, 2, 3],
                 "classes": CLASSES},
        "many": {"reader": "toy", "labels": "multi", "metric": "map",
                 "splits": ["train", "val", "test"], "classes": CLASSES},
    },
    "variants": {"tau2": {"objective": {"tau": 2.0}}, "long": {"training": {"epochs": 9}}},
}  # fmt: skip


@dataclass
class Folder:
    """A suite in a temporary folder, whose runs can be made as finished, stale or failed."""

    root: Path
    suite: Suite
    quality: dict[str, float] = field(default_factory=dict)

    def finish(self, *jobs: Job, **changes: Any) -> None:
        """Write all files of finished runs; without jobs, of every run of the suite."""
        for job in jobs or self.suite.jobs():
            finish(self.suite, job, self.quality.get(job.run, 0.6), **changes)

    def fail(self, job: Job, **changes: Any) -> None:
        """Write what a failed run leaves."""
        recipe = self.suite.recipe(job.dataset, job.run).digest
        failure = {"format": 1, "kind": "non-finite", "stage": "train", "recipe": recipe,
                   "exception": "TrainingError", "message": "the loss is nan in epoch 3, step 7",
                   "time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
        write_json(self.suite.folder(job) / "state" / "failure.json", failure | changes)

    def jobs(self, run: str) -> list[Job]:
        """Return a run's jobs."""
        return [job for job in self.suite.jobs() if job.run == run]


def write_json(path: Path, value: Any) -> None:
    """Write JSON without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def made(tmp_path: Path, catalog: Path) -> Callable[..., Folder]:
    """Return a function that makes a suite from its keys, with defaults."""

    def make(**keys: Any) -> Folder:
        config = {
            "datasets": ["tiny"],
            "models": ["cnn_a", "tr"],
            "pairs": ["alone", "cross"],
            "seeds": [0, 1],
            "results": str(tmp_path / "results"),
            "prepared": str(tmp_path / "prepared"),
            "catalog": str(catalog),
        } | keys
        path = tmp_path / f"{keys.get('name', 'small')}.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return Folder(tmp_path, suites.load(path))

    return make


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Return a folder with a small catalogue: the shipped recipes, few models and datasets."""
    folder = tmp_path / "config"
    folder.mkdir()
    shipped = files.checkout() / "config"
    recipes = yaml.safe_load((shipped / "recipes.yaml").read_text(encoding="utf-8"))
    kept = {key: recipes[key] for key in ("defaults", "families") if key in recipes}
    models = yaml.safe_load((shipped / "models.yaml").read_text(encoding="utf-8"))
    small = {"cnn": "small_cnn", "cnn_att": "small_cnn_att", "ast": "small_ast"}
    entries = {name: models[small[family]] for name, (family, _) in MODELS.items()}
    tables = {"recipes": kept, "models": entries, **CATALOG}
    for name, content in tables.items():
        text = yaml.safe_dump(content, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def finish(suite: Suite, job: Job, quality: float, **changes: Any) -> None:
    """Write every file of one finished run; `changes` go into metrics.json."""
    folder, recipe = suite.folder(job), suite.recipe(job.dataset, job.run)
    name = f"{job.dataset} {job.run} {job.fold} {job.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe.text, encoding="utf-8")
    (folder / "weights.safetensors").write_text(f"weights of {name}", encoding="utf-8")
    (folder / "history.csv").write_text("epoch,step,loss\n1,10,0.5\n", encoding="utf-8")
    teacher = suite.teacher_of(job)
    weights = suite.folder(teacher) / "weights.safetensors" if teacher else None
    taught = files.sha256_file(weights) if weights and weights.exists() else None
    inputs = {"format": 1, "fold": job.fold, "seed": job.seed, "manifest": "0" * 64,
              "statistics": "1" * 64, "initial": None, "teacher": taught}  # fmt: skip
    write_json(folder / "inputs.json", inputs)
    values = write_scores(suite, job, folder / "scores.npz", quality)
    hours = 0.1 * (1 + len(job.run.partition("@")[0]) / 10)
    cost = {"format": 1, "device": "cpu", "device_hours": hours, "clips_per_second": 120.0,
            "flops": 2_500_000, "parameters": 12_345}  # fmt: skip
    write_json(folder / "cost.json", cost)
    write_json(folder / "cost-evaluate.json", {"format": 1, "device_hours": 0.01})
    metrics = {"format": 1, "recipe": recipe.digest,
               "weights": files.sha256_file(folder / "weights.safetensors"),
               "metric": suite.dataset(job.dataset)["metric"], "readout": "last", "split": "test",
               "n": CLIPS, "classes_scored": len(CLASSES), **values, "warnings": []}  # fmt: skip
    metrics["readouts"] = {"last": {"value": values["value"], "metrics": values["metrics"]}}
    write_json(folder / "metrics.json", metrics | changes)


def write_scores(suite: Suite, job: Job, path: Path, quality: float) -> Mapping[str, Any]:
    """Write a scores file in which about `quality` of the clips are right; return its numbers."""
    from cmkd.scoring.metrics import accuracy, mean_average_precision

    single = suite.dataset(job.dataset)["labels"] == "single"
    seed = files.sha256_text(f"{job.run} {job.fold} {job.seed}")
    random = np.random.default_rng(int(seed[:8], 16))
    truth = np.arange(CLIPS) % len(CLASSES)
    targets = np.eye(len(CLASSES), dtype=np.uint8)[truth]
    if not single:
        targets |= np.roll(targets, 1, axis=1) * (np.arange(CLIPS)[:, None] % 3 == 0).astype(
            "uint8"
        )
    logits = random.normal(size=targets.shape).astype(np.float32)
    right = random.random(CLIPS) < quality
    logits += 9 * targets * right[:, None]
    ids = np.array([f"{job.dataset}-{job.fold}-{clip:02d}" for clip in range(CLIPS)])
    np.savez(path, ids=ids, classes=np.array(CLASSES), logits=logits, targets=targets,
             sources=np.array([""] * CLIPS))  # fmt: skip
    value = accuracy(logits, targets) if single else mean_average_precision(logits, targets)
    name = "accuracy" if single else "map"
    digest = files.sha256_text("\n".join(sorted(ids)))
    return {"value": float(value), "metrics": {name: float(value)}, "ids_hash": digest}
