"""Readouts: which weights of one training are scored (config/README.md, `readout`).

last: the weights after the last epoch; averaged: the mean of the weights at the ends of an
inclusive range of epochs; best: the epoch with the best validation score, first one on ties.

checkpoints and peek are made of the test scores of epochs, which training never sees: it only keeps
the weights by epoch for `evaluate` (cmkd/scoring/by_epoch.py). They have no weights of their own,
so they can be no headline readout, and with that neither a teacher nor initial weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.errors import ConfigError, nearest
from cmkd.scoring.epochs import BY_EPOCH

WITH_WEIGHTS = ("last", "averaged", "best")
KNOWN = (*WITH_WEIGHTS, *BY_EPOCH)
Keep = Callable[[int, nn.Module], None]


def wanted(training: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the headline readout and then the further ones, each once.

    Raises:
        ConfigError: one is not known, or the headline one has no weights.
    """
    headline = training["readout"]
    names = dict.fromkeys([headline, *training.get("readouts", [])])
    for name in names:
        if name not in KNOWN:
            raise ConfigError(f"training.readout '{name}' is not known{nearest(name, KNOWN)}")
    if headline in BY_EPOCH:
        raise ConfigError(
            f"training.readout '{headline}' has no weights, so it cannot be the headline one; "
            f"list it under training.readouts, with last, averaged or best as readout"
        )
    return tuple(names)


def with_weights(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of some readouts that are files of weights in the run folder."""
    return tuple(name for name in names if name in WITH_WEIGHTS)


class Readouts:
    """Collects weights at the ends of epochs; all it holds can go into a checkpoint."""

    def __init__(self, training: Mapping[str, Any], validated: bool) -> None:
        """Check the recipe: `best` needs a validation split, averages a range of epochs.

        `keep`, where it is set, is given every epoch's number and model, to keep its weights.
        """
        self.names = wanted(training)
        self.keep: Keep | None = None
        if "best" in self.names and not validated:
            raise ConfigError(
                "training.readout 'best' needs a validation split and this fold has none; "
                "choose 'last' or 'averaged'"
            )
        averaged = {"averaged", "checkpoints"}.intersection(self.names)
        epochs = _range(training) if averaged else range(0)
        self.range = epochs if "averaged" in self.names else range(0)
        self.count = 0
        self.sums: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.best_value: float | None = None
        self.best_epoch: int | None = None

    def end_epoch(self, epoch: int, model: nn.Module, value: float | None) -> None:
        """Take the weights at the end of a 1-based epoch with its validation score."""
        if self.keep is not None:
            self.keep(epoch, model)
        if epoch in self.range:
            self._add(model.state_dict())
        better = self.best_value is None or (value is not None and value > self.best_value)
        if "best" in self.names and value is not None and better:
            self.best_value, self.best_epoch = value, epoch
            self.best = {key: tensor.clone() for key, tensor in model.state_dict().items()}

    def _add(self, weights: Mapping[str, Tensor]) -> None:
        """Add weights to the sums, in float64; whole numbers (BatchNorm counters) are replaced."""
        for key, tensor in weights.items():
            if not tensor.is_floating_point():
                self.sums[key] = tensor.clone()
            elif key in self.sums:
                self.sums[key] += tensor
            else:
                self.sums[key] = tensor.to(torch.float64, copy=True)
        self.count += 1

    def weights(self, name: str, model: nn.Module) -> dict[str, Tensor]:
        """Return the weights of a readout, in the model's own types."""
        own = model.state_dict()
        if name == "best":
            return self.best
        if name == "averaged":
            return {key: self._mean(key, tensor) for key, tensor in own.items()}
        return own

    def _mean(self, key: str, like: Tensor) -> Tensor:
        """Return the mean of one tensor over the epochs added."""
        total = self.sums[key]
        return (total / self.count).to(like.dtype) if like.is_floating_point() else total

    def state(self) -> dict[str, Any]:
        """Return the numbers that a checkpoint must keep."""
        return {
            "count": self.count,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
        }

    def restore(
        self, state: Mapping[str, Any], sums: dict[str, Tensor], best: dict[str, Tensor]
    ) -> None:
        """Go on from a checkpoint."""
        self.count = state["count"]
        self.best_value, self.best_epoch = state["best_value"], state["best_epoch"]
        self.sums, self.best = sums, best


def _range(training: Mapping[str, Any]) -> range:
    """Return the epochs whose weights are averaged; ConfigError where they lie outside."""
    first, last = training["average"]
    if not 1 <= first <= last <= training["epochs"]:
        raise ConfigError(
            f"training.average [{first}, {last}] must lie within epochs 1 to "
            f"{training['epochs']}, first not after last"
        )
    return range(first, last + 1)
