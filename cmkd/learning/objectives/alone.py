"""The loss against the labels only: every run without a teacher."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cmkd.learning.losses import Losses, hard_loss

IGNORES = ("lambda", "tau", "teaching")


def loss(
    student: Tensor, teacher: Tensor | None, targets: Tensor, options: Mapping[str, Any]
) -> Losses:
    """Return the hard part, which is the total."""
    hard = hard_loss(student, targets, options)
    return Losses(hard, hard, None)
