"""Measure one kind of work on this device: python -m cmkd.operations.calibration FOLDER STARTED

Reads its order (JSON) from standard input and prints a JSON object as its last line. The training
is the real one (`build_task`, `fit`), the recipe too; only the clips are noise, few and in memory,
and the weights are drawn. What is stopped after some seconds is thrown away.
"""

import contextlib
import datetime
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd import files
from cmkd.errors import Stopped
from cmkd.learning import fit, train
from cmkd.learning.inputs import Inputs
from cmkd.models import build_part, weights
from cmkd.models.normalise import Normalised
from cmkd.plan.catalog import parse_yaml
from cmkd.plan.measured import device as device_name
from cmkd.plan.recipes import digest, with_neutral
from cmkd.scoring import costs
from cmkd.scoring.predict import BATCH
from cmkd.scoring.splits import Split

RATE = 16000
SCORED = 2 * BATCH
NOISES = 8  # different clips that are in memory; the rest are these again


class Noise:
    """Clips of noise with the attributes of `cmkd.data.clips.Clips` that training reads.

    The first `train` clips are for training, then SCORED for testing, then, where it is asked for,
    SCORED for validation.
    """

    def __init__(self, order: Mapping[str, Any], folder: Path) -> None:
        """Draw the waves and the labels."""
        random = np.random.default_rng(0)
        self.folder = folder
        self.classes = tuple(order["classes"])
        self.parts = {"train": int(order["clips"]), "test": SCORED}
        self.parts["val"] = SCORED if order["validated"] else 0
        count = sum(self.parts.values())
        self.ids = np.array([f"noise-{number}" for number in range(count)])
        self.sources = self.ids
        self.labels = np.zeros((count, len(self.classes)), dtype=np.uint8)
        self.labels[np.arange(count), np.arange(count) % len(self.classes)] = 1
        samples = max(RATE // 10, round(order["clip_seconds"] * RATE))
        shape = (NOISES, samples)
        self._waves = random.normal(0, 3000, shape).clip(-32768, 32767).astype(np.int16)
        self.lengths = np.full(count, samples)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.ids)

    def wave(self, index: int) -> NDArray[np.int16]:
        """Return a copy of a clip's samples."""
        return self._waves[index % NOISES].copy()

    def subset(self, fold: int, role: str) -> NDArray[np.int64]:
        """Return the clips of a role, the same in every fold."""
        names = list(self.parts)
        first = sum(self.parts[name] for name in names[: names.index(role)])
        return np.arange(first, first + self.parts[role], dtype=np.int64)


def measure(order: Mapping[str, Any], folder: Path, spawned: float) -> dict[str, Any]:
    """Return the seconds that `cmkd.plan.calibration.Measurement` names, device and versions.

    Args:
        order: what the parent asks for (cmkd/operations/calibrate.py, `_order`).
        folder: an empty folder to work in.
        spawned: Unix time at which the process was started.
    """
    boot, boot_here = time.time() - spawned, time.process_time()
    found = _inputs(order, folder)
    _warm(found, order)
    began, here = time.perf_counter(), time.process_time()
    task = train.build_task(found, order["execution"])
    start = time.perf_counter() - began
    first, later = _trained(task, float(order["seconds"]))
    score, again = _scored(found, task.model)
    got = (time.process_time() - here) / (time.perf_counter() - began)
    machine = costs.machine(task.device, order["execution"])
    # One thread's processor time is what it takes where nobody else wants the processor.
    alone = task.device.type == "cpu" and machine["threads"] == 1
    share = min(got, 1.0) if alone else 1.0
    return {
        "boot": min(boot, boot_here) if alone else boot,
        "start": start * share,
        "first": first * share,
        "later": later * share,
        "score": score * share,
        "again": again * share,
        "taken": 1 - share,
        "device": device_name(machine),
        "versions": machine["versions"],
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _inputs(order: Mapping[str, Any], folder: Path) -> Inputs:
    """Return a training's inputs: the real recipe with drawn weights, clips of noise."""
    recipe = with_neutral(parse_yaml(order["recipe"], "the recipe"))
    recipe["model"]["weights"] = "none"
    recipe.pop("initial", None)
    recipe["training"]["epochs"] = 1_000_000  # until the time is up
    teacher = _teacher(order, folder / "teacher") if order["teacher"] else None
    clips: Any = Noise(order, folder)
    statistics = {"mean": 0.0, "std": 4.0}
    text = order["recipe"].encode()
    return Inputs(text, recipe, digest(order["recipe"]), 0, 0, clips, statistics, {}, teacher, None)


def _teacher(order: Mapping[str, Any], folder: Path) -> Path:
    """Write the run folder of a teacher with drawn weights, as a student finds it."""
    recipe = with_neutral(parse_yaml(order["teacher"], "the teacher's recipe"))
    view = recipe["input"]
    core = build_part(recipe["model"], len(order["classes"]), view["frames"], view["mel_bins"])
    folder.mkdir()
    files.write_text(folder / "recipe.yaml", order["teacher"])
    said = {
        "classes": json.dumps(order["classes"]),
        "frontend": json.dumps({key: view[key] for key in ("frames", "mel_bins")}),
        "recipe": digest(order["teacher"]),
    }
    weights.save(folder / "weights.safetensors", Normalised(core, 0.0, 1.0), said)
    return folder


def _warm(found: Inputs, order: Mapping[str, Any]) -> None:
    """Take one step that is not counted: a device's libraries are loaded and set up by it."""
    task = train.build_task(found, order["execution"])
    task.stop = lambda: True
    _fit(task)


def _fit(task: fit.Task) -> fit.State:
    """Train until the task says stop, and return the state it stopped in."""
    state = fit.State()
    with contextlib.suppress(Stopped):
        fit.fit(task, state)
    return state


def _trained(task: fit.Task, seconds: float) -> tuple[float, float]:
    """Return the seconds a clip of the first epoch and of the later ones.

    Where there was no time for a second epoch, the first stands for all.
    """
    began = time.perf_counter()
    rows: list[Mapping[str, Any]] = []

    def enough() -> bool:
        passed = time.perf_counter() - began
        return passed > (seconds if len(rows) > 1 else 3 * seconds)

    task.stop, task.report = enough, rows.append
    state = _fit(task)
    each = [1 / row["clips_per_second"] for row in rows]
    if not each:
        each = [state.sums["seconds"] / state.sums["clips"]]
    later = each[1:] or each
    return each[0], sum(later) / len(later)


def _scored(found: Inputs, model: torch.nn.Module) -> tuple[float, float]:
    """Return the seconds a clip that is scored, and that is scored again from banks in memory."""
    split = Split(found.clips, 0, "test", found.recipe, 1 << 30)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        split.logits(model)
        seconds.append((time.perf_counter() - began) / len(split))
    return seconds[0], seconds[1]


def main() -> None:
    """Measure what standard input asks for."""
    folder, spawned = sys.argv[1:]
    print(json.dumps(measure(json.load(sys.stdin), Path(folder), float(spawned))))


if __name__ == "__main__":
    main()
