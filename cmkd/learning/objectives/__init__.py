"""Objectives by name: what one step minimises, hard and soft parts apart.

A new objective is a module here with a function `loss(student, teacher, targets, options)` that
returns `Losses`: logits and targets float32 [batch, classes], the student's with gradient, the
teacher's without (and never None but in `alone`). `options` is the recipe's part `objective` plus
`labels` (single or multi). Its own keys stand in the module as `OPTIONS = {"alpha": 1.0}`; what
else it may say to configuration is in cmkd/plan/objectives.py. A contract test finds it.

The objectives beyond the paper follow their publications inside the soft part (inner weights, and
a temperature on both sides with its factor tau squared); `lambda` alone weighs labels against it.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from cmkd.errors import ConfigError, RunError, nearest
from cmkd.learning.losses import Losses
from cmkd.plan import objectives

Objective = Callable[[Any, Tensor | None, Tensor, Mapping[str, Any]], Losses]


def find(name: str) -> Objective:
    """Return the objective of that name; ConfigError with the nearest known one otherwise."""
    if name not in objectives.known():
        hint = nearest(name, objectives.known())
        raise ConfigError(f"objective.name '{name}' is not known{hint}")
    loss: Objective = importlib.import_module(f"{__name__}.{name}").loss
    return loss if name == objectives.UNTAUGHT else functools.partial(_taught, loss)


def _taught(
    loss: Objective,
    student: Any,
    teacher: Tensor | None,
    targets: Tensor,
    options: Mapping[str, Any],
) -> Losses:
    """Call an objective with a teacher's logits; RunError where there are none."""
    if teacher is None:
        raise RunError("soft targets are missing for a taught run; give the teacher's run folder")
    return loss(student, teacher.detach(), targets, options)
