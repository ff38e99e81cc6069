"""From a CNN's feature map [batch, channels, frequency, time] to logits [batch, classes]."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

HEADS = ("mean", "attention")
SMALLEST_ATTENTION = 1e-7
"""PSLA keeps each attention value this far from 0 and 1, so that no sum over time is zero."""


class Pair(NamedTuple):
    """What a model with a distillation head gives in training: logits [batch, classes] of each."""

    label: Tensor
    distilled: Tensor


def head(kind: str, channels: int, classes: int, heads: int, dropout: float) -> nn.Module:
    """Return the head named by a recipe's `head`: one of `HEADS`."""
    if kind == "attention":
        return AttentionHead(channels, classes, heads, dropout)
    return MeanHead(channels, classes, dropout)


class MeanHead(nn.Module):
    """Mean over frequency and time, then a linear layer: CMKD's "CNN without attention"."""

    def __init__(self, channels: int, classes: int, dropout: float = 0.0) -> None:
        """Take the map's number of channels and the number of classes."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Turn a map [batch, channels, frequency, time] into logits [batch, classes]."""
        return self.linear(self.dropout(features.mean(dim=(2, 3))))


class AttentionHead(nn.Module):
    """PSLA's multi-head attention pooling, on logits.

    The map is averaged over frequency. Each head h has two 1x1 convolutions per class k: an
    attention branch a and a class branch c. The attention is sigmoid(a), divided by its sum over
    time; the head's output is the class branch's mean over time under that attention, and heads
    are added with learned scalars w_h that start at 1/heads:

        z_k = sum_h w_h sum_t [sigmoid(a_hkt) / sum_u sigmoid(a_hku)] c_hkt

    PSLA (Gong et al. 2021, `HigherModels.py`, class MHeadAttention) passes c through a sigmoid
    too, so its output is a probability and it has no logits. Distillation divides logits by a
    temperature and compares distributions made from them, so here c stays linear and z is a
    logit: the same parameters, without the inner sigmoid.
    """

    def __init__(self, channels: int, classes: int, heads: int = 4, dropout: float = 0.0) -> None:
        """Take the map's number of channels, the number of classes and of heads."""
        super().__init__()
        self.shape = (heads, classes)
        self.dropout = nn.Dropout(dropout)
        # One convolution holds the branches of all heads: the same numbers, fewer calls.
        self.attention = nn.Conv1d(channels, heads * classes, kernel_size=1)
        self.classify = nn.Conv1d(channels, heads * classes, kernel_size=1)
        self.head_weight = nn.Parameter(torch.full((heads,), 1.0 / heads))

    def forward(self, features: Tensor) -> Tensor:
        """Turn a map [batch, channels, frequency, time] into logits [batch, classes]."""
        over_time = self.dropout(features.mean(dim=2)).contiguous()
        attention = self.attention(over_time).unflatten(1, self.shape).sigmoid()
        attention = attention.clamp(SMALLEST_ATTENTION, 1 - SMALLEST_ATTENTION)
        attention = attention / attention.sum(dim=-1, keepdim=True)
        by_head = (attention * self.classify(over_time).unflatten(1, self.shape)).sum(dim=-1)
        return torch.einsum("bhk,h->bk", by_head, self.head_weight)
