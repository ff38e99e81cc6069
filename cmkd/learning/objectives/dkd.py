"""Decoupled Knowledge Distillation (Zhao et al., CVPR 2022, arXiv 2203.08679).

With b = (p_t, 1 - p_t) of the target class t against all others, and q the softmax over the others
alone, both at temperature tau:

    soft = tau^2 [alpha KL(b_teacher, b_student) + beta KL(q_teacher, q_student)]

mean over the batch: target-class and non-target-class distillation (TCKD, NCKD). The authors' alpha
1 and beta 8 go with tau 4 (CIFAR-100, as commonly quoted; beta is tuned by data set and teacher, on
ImageNet it is 0.5 at tau 1 in the authors' configuration). Their warm-up of the soft part over
epochs is left out. The target class of a mixed clip is that of the larger share.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.learning.losses import Losses, hard_loss, kl, mixed

OPTIONS = {"alpha": 1.0, "beta": 8.0}
REFUSES = {
    "multi": "it splits one target class from all others, and a clip with several labels has no "
    "such split; no published form was found"
}


def loss(student: Tensor, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft with the decoupled soft part."""
    tau = options["tau"]
    target = F.one_hot(targets.argmax(dim=-1), targets.shape[-1]).bool()
    own, other = _decoupled(student / tau, target), _decoupled(teacher / tau, target)
    parts = [kl(theirs, ours).mean() for theirs, ours in zip(other, own, strict=True)]
    soft = tau**2 * (options["alpha"] * parts[0] + options["beta"] * parts[1])
    return mixed(hard_loss(student, targets, options), soft, options)


def _decoupled(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities [batch, 2] of target and rest, and [batch, classes - 1] within it.

    In logarithms, so that huge logits stay finite, where the authors add -1000 to the target's.
    """
    others = logits[~target].unflatten(0, (len(logits), -1))
    rest = torch.logsumexp(others, dim=-1)
    binary = torch.stack([logits[target], rest], dim=-1)
    return F.log_softmax(binary, dim=-1), F.log_softmax(others, dim=-1)
