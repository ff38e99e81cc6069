"""What a finished training leaves in its run folder (docs/interfaces.md)."""

import csv
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmkd import files
from cmkd.audio.draws import balanced_weights
from cmkd.learning.fit import State, Task
from cmkd.learning.inputs import Inputs
from cmkd.learning.losses import smoothed
from cmkd.learning.readouts import with_weights
from cmkd.models import weights
from cmkd.scoring import costs

# A training whose hard loss never falls this far below that of guessing has learned nothing.
CHANCE_SHARE = 0.99
PIECE = 1 << 13  # clips whose labels are in memory as a table at a time
# Numbers that belong to weights which are about to be replaced.
OUTDATED = (
    *("metrics.json", "metrics-*.json", "cost-evaluate.json"),
    *("recipe.yaml", "inputs.json", "scores*.npz"),
)


def remove_outdated(run: Path) -> None:
    """Remove what an earlier training left, so that no old number can pass for a new one."""
    for pattern in OUTDATED:
        for path in run.glob(pattern):
            path.unlink()


def write(run: Path, task: Task, inputs: Inputs, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the weights of every readout that has any, history.csv and inputs.json."""
    last = {key: value.clone() for key, value in task.model.state_dict().items()}
    headline, *further = with_weights(task.readouts.names)
    for name in (*further, headline):
        path = run / f"weights{'' if name == headline else '-' + name}.safetensors"
        task.model.load_state_dict(last)
        task.model.load_state_dict(task.readouts.weights(name, task.model))
        weights.save(path, task.model, _metadata(inputs, name))
    files.write_text(run / "history.csv", history_text(history))
    files.write_json(run / "inputs.json", inputs.record)


def _metadata(inputs: Inputs, readout: str) -> dict[str, str]:
    """Return what a weights file says of itself."""
    return {
        "classes": json.dumps(list(inputs.clips.classes)),
        "dataset": str(inputs.recipe["dataset"]["name"]),
        "frontend": json.dumps(inputs.frontend),
        "readout": readout,
        "recipe": inputs.digest,
        "run": str(inputs.recipe["run"]),
    }


def history_text(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the history as CSV, a row an epoch, in full precision; what is undefined is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    return text.getvalue()


def cost(
    task: Task,
    inputs: Inputs,
    state: State,
    execution: Mapping[str, Any],
    starts: Sequence[float],
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Return the content of cost.json.

    Seconds add up over all attempts, less what a kill threw away after the last checkpoint; hours
    count the devices of each attempt. `processes` are those of the last one.
    """
    shape = (inputs.frontend["frames"], inputs.frontend["mel_bins"])
    total = sum(state.phases.values())
    trained = sum(row["seconds"] for row in state.rows)
    clips = sum(row["seconds"] * row["clips_per_second"] for row in state.rows)
    return {
        "format": 1,
        **costs.machine(task.device, execution),
        "processes": task.world.size,
        "processes_by_attempt": state.sizes,
        "seconds": {**state.phases, "total": total},
        "device_hours": state.device_seconds / 3600,
        "clips_per_second": clips / trained,
        **costs.peak_memory(task.device),
        "flops": flops(task, *shape),
        "parameters": sum(weight.numel() for weight in task.model.parameters()),
        "teaching": "live" if task.teacher else None,
        "start": costs.moment(starts[0]),
        "end": costs.moment(time.time()),
        "attempts": len(starts),
        "warnings": list(warnings),
    }


def flops(task: Task, frames: int, mel_bins: int) -> int:
    """Return the floating-point operations of one clip's forward pass."""
    from cmkd import models

    return models.flops(task.model, frames, mel_bins)


def chance_warnings(task: Task, inputs: Inputs, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a warning where the hard loss never left that of guessing each class's frequency."""
    indices = inputs.clips.subset(inputs.fold, "train")
    labels = inputs.clips.labels
    balanced = inputs.recipe["input"].get("sampling") == "balanced"
    shares = balanced_weights(labels, indices) if balanced else np.ones(len(indices))
    chance = chance_loss(_frequencies(labels, indices, shares), task.options)
    best = min(row["loss_hard"] for row in history)
    if best < CHANCE_SHARE * chance:
        return []
    return [
        f"the loss never left chance: its lowest epoch mean is {best:.4f}, that of guessing "
        f"{chance:.4f}; likely causes: a learning rate far too high or low, too few epochs, "
        "labels that do not belong to their clips"
    ]


def _frequencies(
    labels: Any, indices: NDArray[np.int64], shares: NDArray[np.float64]
) -> torch.Tensor:
    """Return how often each class is drawn, [1, classes]: smoothing a mean is the mean smoothed."""
    starts = range(0, len(indices), PIECE)
    pieces = [slice(start, start + PIECE) for start in starts]
    sums = sum(shares[piece] @ np.asarray(labels[indices[piece]], float) for piece in pieces)
    return torch.from_numpy(np.asarray(sums / shares.sum()))[None]


def chance_loss(
    targets: torch.Tensor, options: Mapping[str, Any], shares: torch.Tensor | None = None
) -> float:
    """Return the hard loss of always guessing how often each class occurs.

    `targets` is [clips, classes]; `shares` [clips] is how often a clip is drawn, None for equally.
    """
    wanted = smoothed(targets, options.get("smoothing", 0.0)).double()
    shares = torch.ones(len(wanted)).double() if shares is None else shares.double()
    wanted = (shares[:, None] * wanted).sum(dim=0) / shares.sum()
    if options["labels"] == "single":
        return -float(torch.xlogy(wanted, wanted / wanted.sum()).sum())
    entropy = torch.xlogy(wanted, wanted) + torch.xlogy(1 - wanted, 1 - wanted)
    value = -float(entropy.mean())
    return value if math.isfinite(value) else 0.0
