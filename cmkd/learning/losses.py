"""Hard and soft losses of distillation (arXiv 2203.06760).

Shapes: logits and targets are float32 [batch, classes]; every loss is a scalar. Single-label losses
are summed over classes and averaged over the batch, multi-label ones averaged over both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
    log_teacher = F.log_softmax(teacher, dim=-1)
    difference = log_teacher - F.log_softmax(student, dim=-1)
    return (log_teacher.exp() * difference).sum(dim=-1).mean()


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
}
