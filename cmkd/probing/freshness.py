"""A run's loss on the very views it was trained on against fresh views of the same clips.

Draws are keyed by depth (the number of teachers above a run), so those of the run's own depth are
what it has seen, and those one deeper are what its students are taught on. The difference says how
much of a teacher's soft targets would be memory if both saw the same views.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from cmkd.audio.views import Clips, Epoch, Views
from cmkd.learning import losses

CLIPS = 256


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
    drawn = {
        name: Views(
            clips, indices, recipe["input"], *place, at, std, cache_bytes=0, device=device
        ).epoch(epoch)
        for name, at in (("seen", depth), ("fresh", depth + 1))
    }
    positions = _same_clips(drawn["seen"], drawn["fresh"])
    return {name: _loss(model, of, positions[name], labels) for name, of in drawn.items()}


def _same_clips(seen: Epoch, fresh: Epoch) -> dict[str, list[int]]:
    """Return a position of each clip in both epochs: the first clips of the seen one that the
    fresh one has too (balanced sampling leaves some out).
    """
    first = [
        {int(clip): at for at, clip in reversed(list(enumerate(epoch.draws.order)))}
        for epoch in (seen, fresh)
    ]
    common = [clip for clip in dict.fromkeys(map(int, seen.draws.order)) if clip in first[1]]
    common = common[:CLIPS]
    return {
        name: [found[clip] for clip in common]
        for name, found in zip(("seen", "fresh"), first, strict=True)
    }


def _loss(model: nn.Module, drawn: Epoch, positions: Sequence[int], labels: str) -> float:
    """Return the mean hard loss over some positions of an epoch."""
    device = next(model.parameters()).device
    total = 0.0
    model.eval()
    with torch.inference_mode():
        for at in positions:
            batch = drawn.batch(at, at + 1)
            logits = model(batch.student.to(device))
            total += float(losses.HARD[labels](logits, batch.targets.to(device)))
    return total / len(positions)
