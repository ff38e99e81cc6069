"""The learning rate of every step, as a pure function (the sibling codes ast, psla and uavm).

rate = base x warm-up(step) x decay(epoch). Warm-up follows the sibling codes (ast
src/traintest.py): set to step / N of the base every 50 steps over the first N steps, beginning at
exactly 0.

A step schedule lowers the rate for the first time in epoch `start`, counted from 1: our reading of
"every epoch from 5". The sibling code itself (ast src/traintest.py) counts finished epochs, so that
there epoch `start` is still trained at the full rate and `start` + 1 is the first that is lowered:
give `start` + 1 here to follow it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cmkd.errors import ConfigError, nearest

WARMUP_EVERY = 50
# torch.optim.lr_scheduler.ReduceLROnPlateau's default: smaller relative gains count as none.
PLATEAU_THRESHOLD = 1e-4
KINDS = ("constant", "step", "plateau")


def warmup(step: int, steps: int) -> float:
    """Return the warm-up's factor at a 0-based step: 0 first, 1 from step `steps` on."""
    if step >= steps:
        return 1.0
    return (step - step % WARMUP_EVERY) / steps


def stepped(epoch: int, start: int, every: int, factor: float) -> float:
    """Return factor^k at a 1-based epoch: first drop at epoch `start`, then each `every`."""
    drops = 0 if epoch < start else 1 + (epoch - start) // every
    return float(factor**drops)


@dataclass
class Plateau:
    """ReduceLROnPlateau on a score that should rise: its whole state is three numbers."""

    best: float | None = None
    stalled: int = 0
    scale: float = 1.0

    def update(self, value: float, patience: int, factor: float) -> None:
        """Take an epoch's score; lower the scale after more than `patience` epochs of no gain."""
        if self.best is None or value > self.best * (1 + PLATEAU_THRESHOLD):
            self.best, self.stalled = value, 0
        else:
            self.stalled += 1
        if self.stalled > patience:
            self.scale, self.stalled = self.scale * factor, 0


class Schedule:
    """The learning rate of a training, from the recipe's part `training`."""

    def __init__(self, training: Mapping[str, Any]) -> None:
        """Read base rate, warm-up and schedule; ConfigError for an unknown kind."""
        self.base = float(training["lr"])
        self.warmup_steps = int(training.get("warmup_steps", 0))
        self.options = training.get("schedule", {"kind": "constant"})
        self.kind = self.options["kind"]
        if self.kind not in KINDS:
            raise ConfigError(
                f"training.schedule.kind '{self.kind}' is not known{nearest(self.kind, KINDS)}"
            )
        self.plateau = Plateau()

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate at a 1-based epoch and a 0-based step of the whole training."""
        scale = self.plateau.scale
        if self.kind == "step":
            options = self.options
            scale = stepped(epoch, options["start"], options["every"], options["factor"])
        return self.base * warmup(step, self.warmup_steps) * scale

    def end_epoch(self, value: float | None) -> None:
        """Take the epoch's validation score (None where there is no validation split)."""
        if self.kind == "plateau" and value is not None:
            self.plateau.update(value, self.options["patience"], self.options["factor"])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep."""
        return asdict(self.plateau)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.plateau = Plateau(**state)
