"""Hard attention distillation (DeiT: Touvron et al., ICML 2021, arXiv 2012.12877, section 4).

The class head learns the labels, the distillation head what the teacher decides: its best class, or
(multi-label, our extension) each class that it finds likelier than not. DeiT's equal weights are
lambda 0.5; smoothing touches the labels only, as published.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cmkd.learning.losses import HARD, Losses, hard_loss, mixed
from cmkd.models.heads import Pair

IGNORES = ("tau",)
NEEDS = {"token": "two_heads"}


def loss(student: Pair, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x class head's loss + (1 - lambda) x distillation head's."""
    decided = _decisions(teacher, options["labels"]).to(targets.dtype)
    soft = HARD[options["labels"]](student.distilled, decided)
    return mixed(hard_loss(student.label, targets, options), soft, options)


def _decisions(teacher: Tensor, labels: str) -> Tensor:
    """Return 1 where the teacher says yes: probability above 0.5, or the one best class."""
    if labels == "multi":
        return teacher > 0
    return F.one_hot(teacher.argmax(dim=-1), teacher.shape[-1])
