"""Multi-label logits distillation, the logit part of L2D (Yang et al., ICCV 2023, 2308.06453).

Each class by itself is a question of yes or no (one-versus-all):

    soft = sum over classes of KL(Bernoulli(teacher), Bernoulli(student)), mean over the batch

so it is `distill` with `soft: kl` times the number of classes. L2D adds losses on label-wise
embeddings, which are left out; its own weight and reduction of this part could not be confirmed, so
lambda weighs the sum over classes. tau divides the teacher's logits only, as in `distill`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cmkd.learning.losses import Losses, hard_loss, mixed, soft_multi

REFUSES = {"single": "it is one question of yes or no a class; use distill, whose KL is softmax's"}


def loss(student: Tensor, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft, the soft part summed over classes."""
    classes = student.shape[-1]
    soft = classes * soft_multi(student, teacher / options["tau"])
    return mixed(hard_loss(student, targets, options), soft, options)
