"""Results as training leaves them, made without training, and what MLflow should hold of them."""

import csv
import json
import math
import random
from pathlib import Path

import yaml

from cmkd import files
from cmkd.plan import suites

COLUMNS = ("epoch", "step", "time", "seconds", "lr", "loss", "loss_hard", "loss_soft",
           "clips_per_second", "val_accuracy")  # fmt: skip
START = 1_700_000_000.0


def suite_file(folder, folds=(1,), seeds=(0,), **more):
    """Write a suite of four runs a fold and seed and return its path."""
    config = {
        "datasets": ["toy"],
        "models": ["small_cnn", "small_ast"],
        "pairs": ["alone", "cross"],
        "folds": list(folds),
        "seeds": list(seeds),
        "results": str(Path(folder) / "results"),
        "catalog": str(files.checkout() / "config"),
    }
    files.write_text(Path(folder) / "small.yaml", yaml.safe_dump(config | more))
    return Path(folder) / "small.yaml"


def load(path):
    """The suite of a file."""
    return suites.load(Path(path), {})


def rows_of(job, epochs):
    """The rows of a run's history, its own for each run."""
    chance = random.Random(str(job))
    return [
        {
            "epoch": epoch,
            "step": 4 * epoch,
            "time": START + 10 * epoch + chance.randrange(8) / 8,
            "seconds": 1.5,
            "lr": 0.003 / epoch,
            "loss": chance.random(),
            "loss_hard": chance.random(),
            "loss_soft": chance.random() if "@" in job.run else None,
            "clips_per_second": 100.0,
            "val_accuracy": chance.randrange(100) / 100,
        }
        for epoch in range(1, epochs + 1)
    ]


def write_history(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def finish(suite, job, epochs=5, accuracy=0.75):
    """Make the folder of a finished run."""
    folder, recipe = suite.folder(job), suite.recipe(job.dataset, job.run)
    files.write_text(folder / "recipe.yaml", recipe.text)
    files.write_bytes(folder / "weights.safetensors", f"{job} {accuracy}".encode())
    write_history(folder / "history.csv", rows_of(job, epochs))
    files.write_json(folder / "inputs.json", {"format": 1, "fold": job.fold, "manifest": "ab" * 32})
    cost = {"format": 1, "seconds": {"total": 3.5}, "parameters": 1000, "device": "cpu"}
    files.write_json(folder / "cost.json", cost)
    metrics = {
        "format": 1,
        "recipe": recipe.digest,
        "weights": files.sha256_file(folder / "weights.safetensors"),
        "metric": "accuracy",
        "value": accuracy,
        "metrics": {"accuracy": accuracy, "map": 0.8},
        "readout": "last",
        "split": "test",
        "readouts": {},
    }
    files.write_json(folder / "metrics.json", metrics)


def finish_all(path, **how):
    suite = load(path)
    for job in suite.jobs():
        finish(suite, job, **how)
    return suite


def begin(suite, job, rows, now, stage="train", number=1):
    """Make the state of a run in training: lease, progress and a checkpoint's numbers."""
    state = suite.folder(job) / "state"
    recipe = suite.recipe(job.dataset, job.run)
    beat = {"format": 1, "token": "ab", "host": "node1", "pid": 1, "job": None, "stage": stage}
    beat |= {"began": START, "heartbeat": now, "beat": 7, "every": 10}
    files.write_json(state / "lease.json", beat)
    progress = {"format": 1, "stage": "train", "recipe": recipe.digest, "epoch": len(rows) + 1}
    progress |= {"epochs": 5, "step": 9, "steps": 20, "loss": None, "clips_per_second": 123.4}
    files.write_json(state / "progress.json", progress | {"seconds_left": 600.0, "time": now})
    identity = {"recipe": recipe.digest, "fold": job.fold}
    body = {"format": 1, "identity": identity, "number": number, "progress": {"rows": rows}}
    files.write_json(state / f"checkpoint-{number % 2}.json", {"checksum": "", **body})


def keys(suite):
    """The keys that the suite's runs must have."""
    identity = (suite.results / "id").read_text().strip()
    return sorted(
        f"{identity}/{j.dataset}/{j.run}/fold-{j.fold}/seed-{j.seed}" for j in suite.jobs()
    )


def keys_end(job):
    return f"/{job.dataset}/{job.run}/fold-{job.fold}/seed-{job.seed}"


def curves(suite, job):
    """The points of a run's curves as its history.csv says, read without the suite's code."""
    with open(suite.folder(job) / "history.csv", newline="") as file:
        return sorted(
            ("val/accuracy" if name == "val_accuracy" else f"train/{name}", int(row["epoch"]),
             round(float(row["time"]) * 1000), float(text))
            for row in csv.DictReader(file)
            for name, text in row.items()
            if text and name not in ("epoch", "step", "time") and math.isfinite(float(text))
        )  # fmt: skip


def marker(suite):
    return json.loads((suite.results / "logs" / f"track-{suite.name}.json").read_text())
