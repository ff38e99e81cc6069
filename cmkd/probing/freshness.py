"""A run's loss on the very views it was trained on against fresh views of the same clips.

Draws are keyed by depth (the number of teachers above a run), so those of the run's own depth are
what it has seen, and those one deeper are what its students are taught on. The difference says how
much of a teacher's soft targets would be memory if both saw the same views.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cmkd.audio.views import Clips, Views
from cmkd.learning import losses

POSITIONS = 256
BATCH = 32


def freshness(
    model: nn.Module,
    clips: Clips,
    indices: np.ndarray[Any, np.dtype[np.int64]],
    recipe: Mapping[str, Any],
    place: tuple[int, int],
    std: float,
) -> dict[str, float]:
    """Return the hard loss (labels not smoothed) on `seen` and on `fresh` views.

    Args:
        model: the trained run behind its normalisation.
        clips: the prepared clips.
        indices: those that the run was trained on.
        recipe: the run's.
        place: (seed, fold) of the run.
        std: the fold's standard deviation, which scales the noise.
    """
    depth, labels = int(recipe["depth"]), str(recipe["dataset"]["labels"])
    device = next(model.parameters()).device
    epoch = int(recipe["training"]["epochs"]) - 1
    found = {}
    for name, at in (("seen", depth), ("fresh", depth + 1)):
        views = Views(
            clips, indices, recipe["input"], *place, at, std, cache_bytes=0, device=device
        )
        drawn = views.epoch(epoch)
        stop = min(len(drawn), POSITIONS)
        found[name] = _loss(model, drawn, stop, labels)
    return found


def _loss(model: nn.Module, drawn: Any, stop: int, labels: str) -> float:
    """Return the mean hard loss over the first positions of an epoch."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode():
        for start in range(0, stop, BATCH):
            batch = drawn.batch(start, min(start + BATCH, stop))
            logits = model.eval()(batch.student.to(device))
            loss = losses.HARD[labels](logits, batch.targets.to(device))
            total += float(loss) * len(batch.targets)
    return total / stop
