"""Weights by epoch in RUN/state/epochs/: training keeps them for the readouts made of their scores.

`checkpoints` needs the epochs of a range, `peek` all of them; no other readout needs any. A file is
written whole or not at all and names the training that it is of. The folder goes with the rest of
RUN/state once metrics.json is there.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from cmkd import files
from cmkd.models import weights
from cmkd.plan.recipes import BY_EPOCH

__all__ = ["BY_EPOCH", "EpochWeights", "averaged", "readouts", "wanted"]


def readouts(training: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the readouts of a recipe's part `training` that are made of the epochs' scores."""
    return tuple(name for name in training.get("readouts", ()) if name in BY_EPOCH)


def wanted(training: Mapping[str, Any]) -> range:
    """Return the epochs, counted from 1, whose weights such readouts need: few, all or none."""
    names = readouts(training)
    if "peek" in names:
        return range(1, training["epochs"] + 1)
    if "checkpoints" in names:
        return averaged(training)
    return range(0)


def averaged(training: Mapping[str, Any]) -> range:
    """Return the epochs of the inclusive range `average`."""
    first, last = training["average"]
    return range(first, last + 1)


class EpochWeights:
    """The kept epochs of one training; `identity` is its recipe's digest and its inputs."""

    def __init__(self, run: Path, identity: Mapping[str, Any], training: Mapping[str, Any]) -> None:
        """Keep them in RUN/state/epochs; the recipe's part `training` says which."""
        self.folder = Path(run) / "state" / "epochs"
        self.training = files.sha256_text(json.dumps(dict(identity), sort_keys=True))
        self.epochs = wanted(training)

    def path(self, epoch: int) -> Path:
        """Return an epoch's file."""
        return self.folder / f"epoch-{epoch:04d}.safetensors"

    def save(self, epoch: int, model: nn.Module) -> None:
        """Keep the weights at the end of an epoch, if it is one of those wanted."""
        if epoch in self.epochs:
            about = {"training": self.training, "epoch": str(epoch)}
            weights.save(self.path(epoch), model, about)

    def resume(self, done: int) -> bool:
        """Drop all but this training's first `done` epochs and say whether those are all there.

        What a kill left behind the last checkpoint is trained, and kept, again.
        """
        kept = {self.path(epoch) for epoch in self.epochs if epoch <= done and self.has(epoch)}
        for path in self.folder.glob("*"):
            if path not in kept:
                path.unlink()
        return len(kept) == sum(epoch <= done for epoch in self.epochs)

    def has(self, epoch: int) -> bool:
        """Say whether an epoch's file is there, whole and of this training."""
        try:
            with safe_open(self.path(epoch), framework="pt") as file:
                return (file.metadata() or {}).get("training") == self.training
        except (SafetensorError, OSError):
            return False

    def complete(self) -> bool:
        """Say whether the weights of every epoch are there."""
        return all(self.has(epoch) for epoch in self.epochs)

    def models(self, model: nn.Module) -> Iterator[tuple[int, nn.Module]]:
        """Yield each epoch with the model, which then holds that epoch's weights."""
        for epoch in self.epochs:
            weights.load(self.path(epoch), model)
            yield epoch, model
