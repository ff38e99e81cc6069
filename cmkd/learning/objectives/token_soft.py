"""Soft attention distillation (DeiT: Touvron et al., ICML 2021, arXiv 2012.12877).

The class head learns the labels, the distillation head the teacher's probabilities by the paper's
KL: tau divides the teacher's logits only (DeiT divides both and multiplies by tau squared), so that
it differs from `distill` in the token alone.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cmkd.learning.losses import SOFT, Losses, hard_loss, mixed
from cmkd.models.heads import Pair

NEEDS = {"token": "two_heads"}


def loss(student: Pair, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x class head's loss + (1 - lambda) x distillation head's KL."""
    soft = SOFT["kl"][options["labels"]](student.distilled, teacher / options["tau"])
    return mixed(hard_loss(student.label, targets, options), soft, options)
