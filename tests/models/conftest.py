"""Checkpoints as the sibling codes write them, made from models of other libraries and by hand."""

import math
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

PARALLEL = "module."
# Kernel, stride, expansion, width, repeats of each stage of EfficientNet-B0 (Tan and Le 2019).
STAGES = [
    *[(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)],
    *[(5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)],
]


def parallel(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state as DataParallel names it."""
    return {f"{PARALLEL}{key}": value.clone() for key, value in state.items()}


class SiblingAST(nn.Module):
    """AST as its paper's code runs it: `v` is timm's distilled DeiT, both tokens are averaged."""

    def __init__(self, trunk: str, classes: int, grid: tuple[int, int], stride: int = 10) -> None:
        super().__init__()
        self.v = timm.create_model(trunk)
        dim = self.v.embed_dim
        self.v.patch_embed.proj = nn.Conv2d(1, dim, 16, stride)
        self.v.pos_embed = nn.Parameter(0.02 * torch.randn(1, 2 + grid[0] * grid[1], dim))
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, view: Tensor) -> Tensor:
        patches = self.v.patch_embed.proj(view.unsqueeze(1).transpose(2, 3))
        tokens = [self.v.cls_token, self.v.dist_token]
        words = torch.cat([*(t.expand(len(view), -1, -1) for t in tokens),
                           patches.flatten(2).transpose(1, 2)], dim=1)  # fmt: skip
        words = words + self.v.pos_embed
        for block in self.v.blocks:
            words = block(words)
        words = self.v.norm(words)
        return self.mlp_head((words[:, 0] + words[:, 1]) / 2)


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow's 'same'."""

    def forward(self, image: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, step in zip(image.shape[2:], self.kernel_size, self.stride, strict=True):
            pad = max((math.ceil(size / step) - 1) * step + kernel - size, 0)
            pads = [pad // 2, pad - pad // 2, *pads]
        return super().forward(F.pad(image, pads))


class MBConv(nn.Module):
    """One block under the names of lukemelas/EfficientNet-PyTorch."""

    def __init__(self, kernel: int, stride: int, expand: int, inputs: int, outputs: int) -> None:
        super().__init__()
        inner, squeezed = inputs * expand, max(1, inputs // 4)
        if expand != 1:
            self._expand_conv = Same(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._se_reduce, self._se_expand = Same(inner, squeezed, 1), Same(squeezed, inner, 1)
        self._project_conv = Same(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, image: Tensor) -> Tensor:
        inner = image
        if hasattr(self, "_expand_conv"):
            inner = F.silu(self._bn0(self._expand_conv(inner)))
        inner = F.silu(self._bn1(self._depthwise_conv(inner)))
        gate = self._se_expand(F.silu(self._se_reduce(inner.mean((2, 3), keepdim=True))))
        out = self._bn2(self._project_conv(inner * gate.sigmoid()))
        return out + image if self.skip else out


class EfficientNet(nn.Module):
    """EfficientNet-B0's feature map under the names of lukemelas/EfficientNet-PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = Same(1, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks, width = nn.ModuleList(), 32
        for kernel, stride, expand, outputs, repeats in STAGES:
            for repeat in range(repeats):
                self._blocks.append(MBConv(kernel, 1 if repeat else stride, expand, width, outputs))
                width = outputs
        self._conv_head = Same(width, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)

    def forward(self, image: Tensor) -> Tensor:
        image = F.silu(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            image = block(image)
        return F.silu(self._bn1(self._conv_head(image)))


class Heads(nn.Module):
    """PSLA's attention heads, with its own choice 'linear' for the class branch."""

    def __init__(self, width: int, classes: int, heads: int) -> None:
        super().__init__()
        self.att = nn.ModuleList([nn.Conv2d(width, classes, 1) for _ in range(heads)])
        self.cla = nn.ModuleList([nn.Conv2d(width, classes, 1) for _ in range(heads)])
        self.head_weight = nn.Parameter(torch.rand(heads))

    def forward(self, features: Tensor) -> Tensor:
        features, total = features.mean(2, keepdim=True), 0.0
        for weight, att, cla in zip(self.head_weight, self.att, self.cla, strict=True):
            attention = att(features).sigmoid()
            attention = attention / attention.sum(-1, keepdim=True)
            total = total + weight * (attention * cla(features)).sum((2, 3))
        return total


class PSLA(nn.Module):
    """PSLA's EfficientNet-B0 with attention."""

    def __init__(self, classes: int, heads: int = 4) -> None:
        super().__init__()
        self.effnet, self.attention = EfficientNet(), Heads(1280, classes, heads)

    def forward(self, view: Tensor) -> Tensor:
        return self.attention(self.effnet(view.transpose(1, 2).unsqueeze(1)))


def uavm(classes: int) -> nn.Sequential:
    """Return UAVM's audio model: torchvision's ConvNeXt-Tiny in parts, one input channel."""
    parts = nn.Sequential(*torchvision.models.convnext_tiny(weights=None).children())
    parts[0][0][0] = nn.Conv2d(1, 96, 4, 4)
    parts[2][2] = nn.Linear(768, classes)
    for name, value in parts.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(value, 0.5, 1.0)
    return parts


@pytest.fixture(scope="session")
def siblings() -> SimpleNamespace:
    """Return the sibling codes' models, and DataParallel's way to name their tensors."""
    return SimpleNamespace(AST=SiblingAST, PSLA=PSLA, uavm=uavm, parallel=parallel)
