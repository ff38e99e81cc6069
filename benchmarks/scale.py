"""Peak memory of building and training with 10,000 to 200,000 clips: python benchmarks/scale.py

Clips are made in code (reader `toy`, 0.5 s each); every step is the verb that a suite would call,
in a process of its own. "Peak" is the largest resident set of one process, the builders' included.
Needs 35 kB of disk a clip (7 GB for 200,000) in the folder for temporary files, and minutes.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cmkd import files

SIZES = (10_000, 50_000, 200_000)
CLASSES = ["clicks", "rhythm"]  # the cheapest to make
FRONTEND = {"sample_rate": 16000, "mel_bins": 16, "shift_ms": 20.0, "frames": 24}
TRAIN_SECONDS = 8.0
STOPPED = 75


class Spent(NamedTuple):
    """What a process took: megabytes at its peak, seconds, exit code."""

    peak: float
    seconds: float
    code: int


def dataset(clips: int) -> dict[str, Any]:
    """Return the entry of a made dataset, three fifths of it for training."""
    return {
        "name": "made",
        "behaviour": 1,
        "reader": "toy",
        "labels": "multi",
        "metric": "map",
        "classes": CLASSES,
        "splits": ["train", "val", "test"],
        "clips": clips,
        "seconds": 0.5,
        "seed": 0,
        "on_missing": "stop",
    }


def recipe() -> dict[str, Any]:
    """Return the recipe of a model so small that the data are what takes memory."""
    dataset = {"name": "made", "labels": "multi", "classes": len(CLASSES), "metric": "map"}
    model = {"behaviour": 1, "builder": "small_cnn", "widths": [4, 8], "head": "mean"}
    augmentation = {"mixup": 0.5, "mixup_alpha": 10.0, "sampling": "balanced"}
    training = {"optimiser": "adam", "lr": 1.0e-3, "betas": [0.95, 0.999], "weight_decay": 5.0e-7}
    schedule = {"epochs": 1000, "schedule": {"kind": "constant"}, "readout": "last"}
    return {
        "run": "small_cnn",
        "depth": 0,
        "dataset": dataset,
        "input": {"behaviour": 1, **FRONTEND, **augmentation},
        "model": model | {"normalise": {"statistics": "fold", "factor": 1.0}},
        "objective": {"behaviour": 1, "name": "alone"},
        "training": {"behaviour": 1, "batch": 32, **training, **schedule},
    }


def run(arguments: list[Any], stop_after: float | None = None, until: str = "") -> Spent:
    """Run a verb, ended by SIGTERM some seconds after it has printed `until`, if that is asked."""
    command = [sys.executable, "-m", "cmkd.cli", *map(str, arguments)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if stop_after is not None:
            while until not in (line := process.stdout.readline().decode()) and line:
                continue
            time.sleep(stop_after)
            process.send_signal(signal.SIGTERM)
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(usage.ru_maxrss / 1024, time.monotonic() - began, process.returncode)


def interrupted(arguments: list[Any], building: Path, share: float, clips: int) -> None:
    """Begin a preparation and kill it once about a share of its parts is there."""
    command = [sys.executable, "-m", "cmkd.cli", *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    wanted = share * min(200, clips // 16)
    with subprocess.Popen(command, **quiet) as process:
        while len(list(building.glob("part-*.json"))) < wanted and process.poll() is None:
            time.sleep(0.05)
        process.kill()


def measure(clips: int, workers: int, folder: Path) -> dict[str, Spent]:
    """Build once killed and resumed, look at it again, and train a few steps."""
    wanted, prepared = folder / "dataset.yaml", folder / "prepared"
    wanted.write_text(yaml.safe_dump(dataset(clips)))
    build = ["prepare", wanted, "--prepared", prepared, "--workers", workers]
    interrupted(build, prepared / ".building", 0.3, clips)
    found = {"build, resumed": run(build), "build, done already": run(build)}
    statistics = {"mean": -5.0, "std": 4.0, "fold": 0, "frontend": FRONTEND}
    statistics["manifest"] = files.sidecar(prepared / "manifest.csv").read_text().strip()
    files.write_json(folder / "stats.json", statistics)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe()))
    train = ["train", folder / "recipe.yaml", "--run", folder / "run", "--fold", 0, "--seed", 0]
    train += ["--prepared", prepared, "--statistics", folder / "stats.json"]
    found["train"] = run(train, TRAIN_SECONDS, "begins at")
    for name, spent in found.items():
        expected = STOPPED if name == "train" else 0
        if spent.code != expected:
            raise SystemExit(f"{name} of {clips} clips ended with exit code {spent.code}")
    return found


def main() -> None:
    """Print a row for each size, and what a clip more costs from the smallest to the largest."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("sizes", type=int, nargs="*", default=list(SIZES), help="numbers of clips")
    options.add_argument("--workers", type=int, default=2, help="processes that build")
    chosen = options.parse_args()
    rows = {}
    for clips in chosen.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows[clips] = measure(clips, chosen.workers, Path(folder))
        cells = (f"{n} {s.peak:.0f} MB {s.seconds:.0f} s" for n, s in rows[clips].items())
        print(f"{clips:>8,} clips: {'; '.join(cells)}", flush=True)
    least, most = min(rows), max(rows)
    for name in rows[least]:
        grown = rows[most][name].peak - rows[least][name].peak
        each = f" = {grown * 2**20 / (most - least):.0f} bytes a clip" if most > least else ""
        print(f"{name}: {grown:+.0f} MB from {least:,} to {most:,} clips{each}")


if __name__ == "__main__":
    main()
