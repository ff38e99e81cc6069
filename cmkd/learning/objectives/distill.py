"""The paper's distillation: lambda x hard + (1 - lambda) x soft (arXiv 2203.06760)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cmkd.errors import ConfigError, nearest
from cmkd.learning.losses import SOFT, Losses, hard_loss, mixed

# Forms of the soft part, the first by default; each is a row of `losses.SOFT`.
OPTIONS = {"soft": ("kl", "softmax_kl", "softmax_kl_mean", "bce")}


def loss(student: Tensor, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return the mix; tau divides the teacher's logits only, without a factor tau squared."""
    form = options.get("soft", "kl")
    if form not in SOFT:
        raise ConfigError(f"objective.soft '{form}' is not known{nearest(form, SOFT)}")
    hard = hard_loss(student, targets, options)  # first: the order decides gradients' last bits
    soft = SOFT[form][options["labels"]](student, teacher / options["tau"])
    return mixed(hard, soft, options)
