"""A plain pre-norm Vision Transformer trunk (Dosovitskiy et al. 2021), without timm.

Parameters bear timm's names (`blocks.0.attn.qkv.weight` ...), so weights move both ways.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6
INIT_STD = 0.02


class Attention(nn.Module):
    """Multi-head self-attention by PyTorch's own fused kernel."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        """Take the width, the number of heads (a divisor of it) and the output's dropout."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [batch, count, dim] to the same shape."""
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))


class Mlp(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, dim: int, dropout: float) -> None:
        """Take the width and the dropout after each layer."""
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [batch, count, dim] to the same shape."""
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(tokens)))))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drop a whole branch for some clips of a batch."""

    def __init__(self, rate: float) -> None:
        """Take the probability with which a clip's branch is dropped."""
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Zero the branch of each dropped clip; scale the others so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        kept = branch.new_empty((len(branch),) + (1,) * (branch.ndim - 1)).bernoulli_(keep)
        return branch * kept / keep


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, heads: int, dropout: float, drop_path: float) -> None:
        """Take width, heads, dropout and the probability of dropping each of the branches."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [batch, count, dim] to the same shape."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


def blocks(
    dim: int, depth: int, heads: int, dropout: float = 0.0, drop_path: float = 0.0
) -> nn.Sequential:
    """Return `depth` blocks; drop-path rates grow evenly from 0 to `drop_path`."""
    rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
    layers = nn.Sequential(*(Block(dim, heads, dropout, rate) for rate in rates))
    layers.apply(_initialise)
    return layers


def _initialise(module: nn.Module) -> None:
    """Draw a linear layer's weights from a truncated normal; zero its bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)


def drawn(*shape: int) -> nn.Parameter:
    """Return a new parameter drawn from a truncated normal: tokens and positions."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=INIT_STD))
