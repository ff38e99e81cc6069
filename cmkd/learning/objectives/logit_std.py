"""Logit standardisation (Sun et al., CVPR 2024, arXiv 2403.01427).

Both models' logits become z-scores over the classes before softmax and KL, so that the student
learns the teacher's order and gaps but not its scale:

    soft = tau^2 KL(softmax(z(teacher) / tau), softmax(z(student) / tau)), mean over the batch

tau is the base temperature and divides both sides (2 in most of the authors' commands). Their
weight of the soft part, 9, gives way to lambda. The paper itself was not at hand.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cmkd.learning.losses import Losses, hard_loss, kl, mixed

REFUSES = {
    "multi": "it standardises what a softmax then takes, and no published form for sigmoids was "
    "found"
}
SMALLEST_SPREAD = 1e-7
"""Added to the standard deviation (of classes - 1), as in re-implementations that cite it."""


def loss(student: Tensor, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft on standardised logits; hard sees them as is."""
    tau = options["tau"]
    own, theirs = (F.log_softmax(_z(logits) / tau, dim=-1) for logits in (student, teacher))
    soft = tau**2 * kl(theirs, own).mean()
    return mixed(hard_loss(student, targets, options), soft, options)


def _z(logits: Tensor) -> Tensor:
    """Return z-scores over the classes (divisor classes - 1, as in the authors' code)."""
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (logits.std(dim=-1, keepdim=True) + SMALLEST_SPREAD)
