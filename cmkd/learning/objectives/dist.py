"""DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536): relations instead of exact probabilities.

With probabilities at temperature tau and Pearson's correlation r between teacher and student:

    soft = tau^2 [beta (1 - mean over clips of r over classes)
                  + gamma (1 - mean over classes of r over the batch's clips)]

the inter-class and the intra-class relation. beta and gamma 2, with tau 4 on CIFAR-100, are those
of public re-implementations; the paper itself was not at hand. Multi-label: sigmoid instead of
softmax, as ports of the authors' code to detection have it (`use_sigmoid`). A batch of one clip has
no intra-class relation, so that part is left out of it.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.learning.losses import Losses, hard_loss, mixed

OPTIONS = {"beta": 2.0, "gamma": 2.0}
SMALLEST_NORM = 1e-8


def loss(student: Tensor, teacher: Tensor, targets: Tensor, options: Mapping[str, Any]) -> Losses:
    """Return lambda x hard + (1 - lambda) x soft with the correlation of probabilities."""
    tau = options["tau"]
    own, theirs = (_probabilities(logits / tau, options) for logits in (student, teacher))
    soft = options["beta"] * _unlike(own, theirs)
    if len(own) > 1:
        soft = soft + options["gamma"] * _unlike(own.T, theirs.T)
    return mixed(hard_loss(student, targets, options), tau**2 * soft, options)


def _probabilities(logits: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Return sigmoid or softmax, by the kind of labels."""
    return torch.sigmoid(logits) if options["labels"] == "multi" else logits.softmax(dim=-1)


def _unlike(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 - the mean over rows of Pearson's correlation (0 for a row without spread)."""
    centred = [rows - rows.mean(dim=-1, keepdim=True) for rows in (one, other)]
    return 1 - F.cosine_similarity(*centred, dim=-1, eps=SMALLEST_NORM).mean()
