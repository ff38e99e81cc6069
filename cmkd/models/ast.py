"""AST, the Audio Spectrogram Transformer (Gong et al. 2021), on a timm ViT or DeiT or alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmkd.errors import ConfigError
from cmkd.models import heads, options, timm_models, vit

OPTIONS = ("trunk", "dim", "depth", "heads", "patch", "stride", "token", "stem", "drop_path",
           "dropout")  # fmt: skip
PLAIN = "plain"
TOKENS = {"cls": 1, "cls_dist": 2, "two_heads": 2}
"""How many tokens are read: CLS, or DIST too (the mean of both, or each by a head of its own)."""
PLAIN_SIZES = {"dim": 192, "depth": 12, "heads": 3}


@dataclass(frozen=True)
class ASTOptions:
    """What a recipe may set; pairs are [frequency, time]; dim, depth, heads: `plain` only."""

    trunk: str
    patch: Sequence[int] = (16, 16)
    stride: Sequence[int] = (10, 10)
    token: str = "cls"
    stem: str = "mean"
    dropout: float = 0.0
    drop_path: float = 0.0
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        options.wholes("patch", self.patch, length=2)
        options.wholes("stride", self.stride, length=2)
        options.choice("token", self.token, TOKENS)
        options.choice("stem", self.stem, options.STEMS)
        options.rate("dropout", self.dropout)
        options.rate("drop_path", self.drop_path)
        for key, value in self._sizes().items():
            if self.trunk != PLAIN:
                raise ConfigError(f"model: {key} is set by the trunk '{self.trunk}': leave it out")
            options.whole(key, value)
        if self.trunk == PLAIN and self.sizes["dim"] % self.sizes["heads"]:
            raise ConfigError(
                f"model: dim {self.sizes['dim']} is not a multiple of heads {self.sizes['heads']}"
            )

    def _sizes(self) -> dict[str, int]:
        """Return those sizes of a plain trunk that are set."""
        given = {"dim": self.dim, "depth": self.depth, "heads": self.heads}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def sizes(self) -> dict[str, int]:
        """Return dim, depth and heads of a plain trunk (those of DeiT-Tiny unless set)."""
        return PLAIN_SIZES | self._sizes()


@dataclass(frozen=True)
class Trunk:
    """The part of a ViT that does not know the input's shape."""

    dim: int
    prefix: int
    blocks: nn.Module
    norm: nn.Module
    before: nn.Module
    positions_on_prefix: bool = True


class AST(nn.Module):
    """Patches of a spectrogram as the words of a Transformer; layer norm and a linear head.

    `tokens` [1, prefix, dim] are CLS (and DIST, and registers, where the trunk has them);
    `positions` [1, frequency, time, dim] lie on the grid of patches, so that a checkpoint says
    by itself which grid it was made for; `prefix_positions` belong to the tokens.
    """

    def __init__(
        self, trunk: Trunk, chosen: ASTOptions, classes: int, grid: tuple[int, int]
    ) -> None:
        """Take a trunk, the checked options, the number of classes and the grid of patches."""
        super().__init__()
        self.grid, self.stem = grid, chosen.stem
        self.read_tokens, self.two_heads = TOKENS[chosen.token], chosen.token == "two_heads"
        self.timm_name = None if chosen.trunk == PLAIN else chosen.trunk
        (height, width), (down, along) = chosen.patch, chosen.stride
        self.patches = nn.Conv2d(1, trunk.dim, kernel_size=(height, width), stride=(down, along))
        self.tokens = vit.drawn(1, trunk.prefix, trunk.dim)
        self.prefix_positions = (
            vit.drawn(1, trunk.prefix, trunk.dim) if trunk.positions_on_prefix else None
        )
        self.positions = vit.drawn(1, *grid, trunk.dim)
        self.dropout = nn.Dropout(chosen.dropout)
        self.before, self.blocks, self.norm = trunk.before, trunk.blocks, trunk.norm
        self.head = (TwoHeads if self.two_heads else _head)(trunk.dim, classes)

    def forward(self, view: Tensor) -> Tensor:
        """Turn normalised views [batch, frames, mel_bins] into logits [batch, classes].

        With two heads training gets the pair of their logits. Raises ConfigError where the views
        do not make the grid that the model was built for.
        """
        patches = self.patches(view.transpose(1, 2).unsqueeze(1))
        if patches.shape[2:] != self.grid:
            raise ConfigError(
                f"AST was built for {self.grid[0]} x {self.grid[1]} patches (frequency x time), "
                f"but views of shape {tuple(view.shape)} make {tuple(patches.shape[2:])}"
            )
        grid = patches.flatten(2).transpose(1, 2) + self.positions.flatten(1, 2)
        prefix = self.tokens
        if self.prefix_positions is not None:
            prefix = prefix + self.prefix_positions
        tokens = torch.cat([prefix.expand(len(grid), -1, -1), grid], dim=1)
        tokens = self.norm(self.blocks(self.before(self.dropout(tokens))))
        read = tokens[:, : self.read_tokens]
        return self.head(read if self.two_heads else read.mean(dim=1))

    def adopt_timm(self, source: Any) -> None:
        """Take the weights of a 3-channel timm model: blocks, patches, tokens, positions.

        The patches' weights are averaged or summed over the input channels (`stem`) and resized
        to this patch's shape where it differs; positions are cropped or resized to this grid.
        """
        kernel = timm_models.one_channel(source.patch_embed.proj.weight, self.stem)
        positions, prefix = _split_positions(source, self.tokens.shape[1])
        with torch.no_grad():
            self.patches.weight.copy_(timm_models.resized(kernel, self.patches.kernel_size))
            self.patches.bias.zero_()
            if source.patch_embed.proj.bias is not None:
                self.patches.bias.copy_(source.patch_embed.proj.bias)
            self.tokens.copy_(_prefix_tokens(source))
            if self.prefix_positions is not None:
                self.prefix_positions.copy_(prefix)
            self.positions.copy_(resize_positions(positions, self.grid))
        self.blocks.load_state_dict(source.blocks.state_dict())
        self.norm.load_state_dict(source.norm.state_dict())
        self.before.load_state_dict(source.norm_pre.state_dict())


class TwoHeads(nn.Module):
    """DeiT's attention distillation (Touvron et al. 2021): CLS for labels, DIST for the teacher.

    Training gets both logits; later they are averaged, as in DeiT's `models.py`, for multi-label
    clips too, so that what comes out are logits. ImageNet's heads are of other classes, so both
    are drawn anew.
    """

    def __init__(self, dim: int, classes: int) -> None:
        """Take the width of the tokens and the number of classes."""
        super().__init__()
        self.label, self.distilled = _head(dim, classes), _head(dim, classes)

    def forward(self, tokens: Tensor) -> heads.Pair | Tensor:
        """Turn CLS and DIST [batch, 2, dim] into two logits [batch, classes] or their mean."""
        both = heads.Pair(self.label(tokens[:, 0]), self.distilled(tokens[:, 1]))
        return both if self.training else (both.label + both.distilled) / 2


def _head(dim: int, classes: int) -> nn.Sequential:
    """Return layer norm and a linear layer."""
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Fit positions [1, F, T, dim] to another grid, axis by axis as AST does.

    An axis that is shorter than the one it comes from keeps its centre; a longer one is resized
    bilinearly. Time first, then frequency, as in AST's `ast_models.py`.
    """
    positions = positions.permute(0, 3, 1, 2)
    for axis, wanted in ((3, grid[1]), (2, grid[0])):
        have = positions.shape[axis]
        if wanted <= have:
            positions = positions.narrow(axis, have // 2 - wanted // 2, wanted)
        else:
            size = (positions.shape[2], wanted) if axis == 3 else (wanted, positions.shape[3])
            positions = F.interpolate(positions, size=size, mode="bilinear")
    return positions.permute(0, 2, 3, 1)


def build(part: Mapping[str, Any], classes: int, frames: int, mel_bins: int) -> AST:
    """Build the model of a recipe's part for views of that many frames and mel bins.

    Raises ConfigError for a trunk that timm does not know or that is no Vision Transformer, for a
    token that the trunk lacks, and where not even one patch fits the view.
    """
    chosen = options.read(part, ASTOptions)
    grid = (
        _count("mel_bins", mel_bins, chosen.patch[0], chosen.stride[0]),
        _count("frames", frames, chosen.patch[1], chosen.stride[1]),
    )
    trunk = _plain(chosen) if chosen.trunk == PLAIN else _from_timm(chosen)
    return AST(trunk, chosen, classes, grid)


def _count(key: str, size: int, patch: int, stride: int) -> int:
    """Return how many patches fit one axis."""
    if size < patch:
        raise ConfigError(f"model: a patch of {patch} does not fit {key} {size}: make it smaller")
    return (size - patch) // stride + 1


def _plain(chosen: ASTOptions) -> Trunk:
    """Make a trunk without timm; DIST is there only where the head looks at it."""
    sizes = chosen.sizes
    return Trunk(
        dim=sizes["dim"],
        prefix=TOKENS[chosen.token],
        blocks=vit.blocks(**sizes, dropout=chosen.dropout, drop_path=chosen.drop_path),
        norm=nn.LayerNorm(sizes["dim"], eps=vit.NORM_EPS),
        before=nn.Identity(),
    )


def _from_timm(chosen: ASTOptions) -> Trunk:
    """Make the trunk that timm knows by name, without its heads, patches and positions."""
    source = timm_models.create(
        chosen.trunk, "trunk", drop_path_rate=chosen.drop_path, proj_drop_rate=chosen.dropout
    )
    if not timm_models.is_vit(source):
        raise ConfigError(
            f"model: trunk '{chosen.trunk}' is no ViT or DeiT with class token and learned "
            "positions, so AST cannot stand on it: take one such as deit_tiny_distilled_patch16_224"
        )
    if TOKENS[chosen.token] > 1 and not hasattr(source, "dist_token"):
        raise ConfigError(
            f"model: token {chosen.token} needs a distilled trunk, and '{chosen.trunk}' is none: "
            "set token: cls or take one such as deit_tiny_distilled_patch16_224"
        )
    return Trunk(
        dim=source.embed_dim,
        prefix=source.num_prefix_tokens,
        blocks=source.blocks,
        norm=source.norm,
        before=source.norm_pre,
        positions_on_prefix=not source.no_embed_class,
    )


def _prefix_tokens(source: Any) -> Tensor:
    """Return the CLS, DIST and register tokens that a timm model has: [1, count, dim]."""
    names = ("cls_token", "dist_token", "reg_token")
    found = [getattr(source, name, None) for name in names]
    return torch.cat([token for token in found if token is not None], dim=1)


def _split_positions(source: Any, prefix: int) -> tuple[Tensor, Tensor]:
    """Return a timm model's positions: those on its grid [1, F, T, dim], those of its tokens."""
    on_prefix = 0 if source.no_embed_class else prefix
    positions = source.pos_embed.detach()
    grid = positions[:, on_prefix:].unflatten(1, source.patch_embed.grid_size)
    return grid, positions[:, :on_prefix]
