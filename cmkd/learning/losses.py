"""Hard and soft losses of distillation (arXiv 2203.06760), and what objectives are made of.

Shapes: logits and targets are float32 [batch, classes]; every loss is a scalar. Single-label losses
are summed over classes and averaged over the batch, multi-label ones averaged over both.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Losses(NamedTuple):
    """What one step minimises (`total`) and its named parts; `soft` is None without a teacher."""

    total: Tensor
    hard: Tensor
    soft: Tensor | None


def hard_loss(student: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Return the loss against the smoothed labels."""
    targets = smoothed(targets, options.get("smoothing", 0.0))
    return HARD[options["labels"]](student, targets)


def mixed(hard: Tensor, soft: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft.

    At lambda = 1 the total is the hard part itself, so that training equals training alone to the
    last bit.
    """
    weight = options["lambda"]
    return Losses(hard if weight == 1 else weight * hard + (1 - weight) * soft, hard, soft)


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Return targets with label smoothing s: (1 - s) y + s / C (1 - y), C classes.

    So a positive becomes 1 - s and a negative s / C, as in the sibling code (uavm
    src/dataloader.py); a mixed target lies on the straight line between the two, where that code
    adds coefficient x (1 - s) onto s / C. The rows of single-label targets sum to 1 - s / C, as
    published.
    """
    if smoothing == 0:
        return targets
    return (1 - smoothing) * targets + smoothing / targets.shape[-1] * (1 - targets)


def hard_single(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of softmax(logits) against (soft) targets, mean over the batch."""
    return F.cross_entropy(logits, targets)


def hard_multi(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of sigmoid(logits), mean over batch and classes."""
    return F.binary_cross_entropy_with_logits(logits, targets)


def soft_single(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(p_t, p_s) under softmax: summed over classes, mean over the batch.

    Written as a difference of log-probabilities, so that equal logits give exactly zero and huge
    ones stay finite. Its gradient is (softmax(student) - softmax(teacher)) / batch.
    """
    return kl(F.log_softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)).mean()


def kl(log_teacher: Tensor, log_student: Tensor) -> Tensor:
    """Return KL(teacher, student) of log-probabilities, summed over the last axis: [batch]."""
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)


def soft_single_mean(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the same, but averaged over the classes too."""
    return soft_single(student, teacher) / student.shape[-1]


def cross_single(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy against softmax(teacher): KL and the teacher's entropy."""
    return hard_single(student, F.softmax(teacher, dim=-1))


def cross_multi(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the binary cross-entropy against sigmoid(teacher): KL and the teacher's entropy."""
    return hard_multi(student, torch.sigmoid(teacher))


def soft_multi(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Bernoulli KL(p_t, p_s) under sigmoid: mean over batch and classes.

    Both the p and the 1 - p term, each a difference of log-probabilities (exactly zero for equal
    logits). Its gradient is (sigmoid(student) - sigmoid(teacher)) / (batch x classes).
    """
    present = F.logsigmoid(teacher) - F.logsigmoid(student)
    absent = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return (torch.sigmoid(teacher) * present + torch.sigmoid(-teacher) * absent).mean()


HARD = {"single": hard_single, "multi": hard_multi}
SOFT = {
    "kl": {"single": soft_single, "multi": soft_multi},
    # DASS (src/traintest.py): softmax over the classes even where labels are multi-label.
    "softmax_kl": {"single": soft_single, "multi": soft_single},
    # The same at the scale of a mean, as PyTorch's reduction "mean".
    "softmax_kl_mean": {"single": soft_single_mean, "multi": soft_single_mean},
    # Gradients are those of kl; the value has the teacher's entropy in it.
    "bce": {"single": cross_single, "multi": cross_multi},
}
