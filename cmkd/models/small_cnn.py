"""A small CNN that trains on a processor in about a minute: convolutions, pooling, a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.models import options
from cmkd.models.heads import HEADS, head

OPTIONS = ("widths", "head", "heads", "dropout")


@dataclass(frozen=True)
class SmallCNNOptions:
    """What a recipe may set: the blocks' widths, the head and its dropout."""

    widths: Sequence[int] = (16, 32, 64, 96, 128)
    head: str = "mean"
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        options.wholes("widths", self.widths)
        options.choice("head", self.head, HEADS)
        options.whole("heads", self.heads)
        options.rate("dropout", self.dropout)


class SmallCNN(nn.Module):
    """Blocks of conv3x3, batch normalisation, ReLU; mean pooling by 2 between them; a head."""

    def __init__(self, chosen: SmallCNNOptions, classes: int) -> None:
        """Take the checked options and the number of classes."""
        super().__init__()
        widths = list(chosen.widths)
        layers: list[nn.Module] = []
        for inputs, outputs in zip([1, *widths[:-1]], widths, strict=True):
            if layers:
                # ceil_mode: a short input shrinks to one cell and no further.
                layers.append(nn.AvgPool2d(2, ceil_mode=True))
            layers.append(_block(inputs, outputs))
        self.features = nn.Sequential(*layers)
        self.head = head(chosen.head, widths[-1], classes, chosen.heads, chosen.dropout)
        # On a processor convolutions over channels_last tensors are about 1.3 times as fast.
        self.to(memory_format=torch.channels_last)

    def forward(self, view: Tensor) -> Tensor:
        """Turn normalised views [batch, frames, mel_bins] into logits [batch, classes]."""
        image = view.transpose(1, 2).unsqueeze(1)
        return self.head(self.features(image.contiguous(memory_format=torch.channels_last)))


def _block(inputs: int, outputs: int) -> nn.Module:
    """Return conv3x3, batch normalisation, ReLU; no bias, since the normalisation has one."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def build(part: Mapping[str, Any], classes: int, frames: int, mel_bins: int) -> SmallCNN:
    """Build the model of a recipe's part; any number of frames and mel bins will do."""
    return SmallCNN(options.read(part, SmallCNNOptions), classes)
