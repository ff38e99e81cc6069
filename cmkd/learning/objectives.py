"""Objectives by name: what one step minimises, hard and soft parts apart.

An objective is a function (student_logits, teacher_logits or None, targets, options) -> Losses.
`options` is the recipe's part `objective` plus `labels` (single or multi).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from cmkd.errors import ConfigError, RunError, nearest
from cmkd.learning import losses


class Losses(NamedTuple):
    """What one step minimises (`total`) and its named parts; `soft` is None without a teacher."""

    total: Tensor
    hard: Tensor
    soft: Tensor | None


Objective = Callable[[Tensor, Tensor | None, Tensor, Mapping[str, Any]], Losses]


def alone(
    student: Tensor, teacher: Tensor | None, targets: Tensor, options: Mapping[str, Any]
) -> Losses:
    """Return the loss against the labels only."""
    hard = _hard(student, targets, options)
    return Losses(hard, hard, None)


def distill(
    student: Tensor, teacher: Tensor | None, targets: Tensor, options: Mapping[str, Any]
) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft.

    The temperature divides the teacher's logits only and there is no tau squared factor. Smoothing
    touches the hard part only. At lambda = 1 the total is the hard part itself, so that training
    equals training alone to the last bit.
    """
    if teacher is None:
        raise RunError("soft targets are missing for a taught run; give the teacher's run folder")
    hard = _hard(student, targets, options)
    form = _choose(losses.SOFT, options.get("soft", "kl"), "objective.soft")
    soft = form[options["labels"]](student, teacher / options["tau"])
    weight = options["lambda"]
    total = hard if weight == 1 else weight * hard + (1 - weight) * soft
    return Losses(total, hard, soft)


OBJECTIVES: dict[str, Objective] = {"alone": alone, "distill": distill}


def find(name: str) -> Objective:
    """Return the objective of that name; ConfigError with the nearest known one otherwise."""
    found: Objective = _choose(OBJECTIVES, name, "objective.name")
    return found


def _hard(student: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Return the loss against the smoothed labels."""
    targets = losses.smoothed(targets, options.get("smoothing", 0.0))
    return losses.HARD[options["labels"]](student, targets)


def _choose(table: Mapping[str, Any], name: str, key: str) -> Any:
    """Return a table's entry by name, or say which names are known."""
    if name not in table:
        raise ConfigError(f"{key} '{name}' is not known{nearest(name, table)}")
    return table[name]
