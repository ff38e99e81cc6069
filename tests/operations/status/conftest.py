"""A small suite whose data and first run were made by the real verbs; other runs are copies."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd import files
from cmkd.audio.statistics import write_statistics
from cmkd.data.prepare import prepare
from cmkd.plan import suites
from cmkd.plan.suites import EXECUTION, Job, Suite

FIRST = Job("toy", "small_cnn", 1, 0)
OLD = 1_000_000_000.0  # a time of change long ago
CONFIG: dict[str, Any] = {
    "datasets": ["toy"],
    "models": ["small_cnn", "small_ast"],
    "pairs": ["alone", "cross"],
    "folds": [1, 2],
    "seeds": [0, 1],
    "results": "out",
    "prepared": "prepared",
    "execution": {"device": "cpu"},
    "set": {
        "input": {"mel_bins": 64, "shift_ms": 40.0, "frames": 16, "frequency_mask": 2,
                  "time_mask": 2, "roll": 1},
        "training": {"epochs": 1},
    },
}  # fmt: skip


@dataclass
class Tree:
    """A suite in a folder that is the working directory; its runs can be put into any state."""

    root: Path
    suite: Suite

    def finish(self, *jobs: Job) -> None:
        """Copy the real run's files, times included, to other runs, under their own names."""
        for job in jobs:
            folder = self.suite.folder(job)
            if job == FIRST:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self.suite.folder(FIRST), folder)
            recipe = self.suite.recipe(job.dataset, job.run)
            rewrite(folder / "recipe.yaml", recipe.text)
            statistics = files.sidecar(self.suite.statistics(job)).read_text().strip()
            edit(folder / "inputs.json", fold=job.fold, seed=job.seed, statistics=statistics)
            edit(folder / "metrics.json", recipe=recipe.digest)

    def lease(self, run: Job, age: float = 1.0, ahead: float = 0.0, **changes: Any) -> Path:
        """Write a lease that is `age` seconds old, by a machine whose clock is `ahead`."""
        now = time.time() - age
        value = {"format": 1, "token": "1f", "host": "node7", "pid": 123, "job": "4711",
                 "stage": "train", "began": now + ahead - 60, "heartbeat": now + ahead, "beat": 6,
                 "every": 10} | changes  # fmt: skip
        return self.put(run, "lease.json", value, now)

    def progress(self, job: Job, age: float = 1.0, **changes: Any) -> Path:
        """Write how far a training has come."""
        recipe = self.suite.recipe(job.dataset, job.run).digest
        value = {"format": 1, "stage": "train", "recipe": recipe, "epoch": 3, "epochs": 25,
                 "step": 30, "steps": 250, "loss": 1.5, "clips_per_second": 97.4,
                 "seconds_left": 180.0, "time": time.time() - age} | changes  # fmt: skip
        return self.put(job, "progress.json", value, time.time() - age)

    def fail(self, job: Job, **changes: Any) -> Path:
        """Write what a failed training leaves."""
        recipe = self.suite.recipe(job.dataset, job.run).digest
        value = {"format": 1, "kind": "non-finite", "stage": "train", "recipe": recipe,
                 "exception": "TrainingError", "message": "the loss is nan in epoch 3, step 7",
                 "time": "2026-01-01T00:00:00+00:00"} | changes  # fmt: skip
        return self.put(job, "failure.json", value)

    def put(self, job: Job, name: str, value: Any, changed: float | None = None) -> Path:
        """Write a file of a run's state."""
        path = self.suite.folder(job) / "state" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        if changed is not None:
            os.utime(path, (changed, changed))
        return path

    def log(self, job: Job, text: str, age: float = 0.0, stage: str = "train") -> Path:
        """Write a run's log."""
        folder = self.suite.results / "logs" / stage / job.dataset / job.run
        path = folder / f"fold-{job.fold}" / f"seed-{job.seed}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age,) * 2)
        return path


def rewrite(path: Path, text: str) -> None:
    """Change a file's content and keep its time."""
    stat = path.stat()
    path.write_text(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file and keep its time."""
    rewrite(path, json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="session")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with catalogue, suite, prepared data and one run, made by the real verbs."""
    root = tmp_path_factory.mktemp("status")
    shutil.copytree(files.checkout() / "config", root / "config")
    datasets = yaml.safe_load((root / "config" / "datasets.yaml").read_text())
    datasets["toy"] |= {"clips_per_class": 6, "folds": [1, 2], "seconds": 0.5}
    (root / "config" / "datasets.yaml").write_text(yaml.safe_dump(datasets))
    (root / "config" / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        suite = suites.load(Path("config/small.yaml"))
        make(suite)
    return root


def make(suite: Suite) -> None:
    """Prepare, make statistics, train and evaluate the first run."""
    from cmkd.learning.train import train
    from cmkd.scoring.evaluate import evaluate

    prepared, run = suite.prepared_folder("toy"), suite.folder(FIRST)
    prepare(suite.data_recipe("toy").text, prepared, None, 1)
    frontend = {k: v for k, v in vars(suite.frontend("toy", "small_cnn")).items()}
    for fold in (1, 2):
        path = suite.statistics(FIRST._replace(fold=fold))
        write_statistics(prepared, fold, frontend, path)
    wanted = Path("wanted.yaml")
    wanted.write_text(suite.recipe("toy", "small_cnn").text)
    execution: Mapping[str, Any] = EXECUTION | {"device": "cpu"}
    train(wanted, run, 1, 0, prepared, suite.statistics(FIRST), None, None, execution)
    evaluate(run, prepared, execution)


@pytest.fixture
def tree(_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """A copy of the real tree, without Slurm."""
    root = tmp_path / "here"
    shutil.copytree(_real, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("PATH", "/nowhere")
    return Tree(root, suites.load(Path("config/small.yaml")))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that puts a shell program on the PATH."""

    def write(name: str, text: str) -> None:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return write
