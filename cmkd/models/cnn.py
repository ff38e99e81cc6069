"""Any timm CNN on spectrograms, with mean pooling or PSLA's attention pooling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cmkd.errors import ConfigError
from cmkd.models import options, timm_models
from cmkd.models.heads import HEADS, head
from cmkd.models.measure import without_data

OPTIONS = ("backbone", "head", "heads", "stem", "drop_path", "dropout")


@dataclass(frozen=True)
class CNNOptions:
    """What a recipe may set: timm's name of the backbone, the head, the stem, the dropping."""

    backbone: str
    head: str = "mean"
    heads: int = 4
    stem: str = "mean"
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        options.choice("head", self.head, HEADS)
        options.whole("heads", self.heads)
        options.choice("stem", self.stem, options.STEMS)
        options.rate("dropout", self.dropout)
        options.rate("drop_path", self.drop_path)


class CNN(nn.Module):
    """A timm backbone with one input channel, its feature map read by one of our heads."""

    def __init__(self, backbone: nn.Module, readout: nn.Module, chosen: CNNOptions) -> None:
        """Take the backbone, the head that reads its map, and the checked options."""
        super().__init__()
        self.backbone, self.head = backbone, readout
        self.timm_name, self.stem = chosen.backbone, chosen.stem
        # On a processor convolutions over channels_last tensors are about 1.3 times as fast.
        self.to(memory_format=torch.channels_last)

    def forward(self, view: Tensor) -> Tensor:
        """Turn normalised views [batch, frames, mel_bins] into logits [batch, classes]."""
        image = view.transpose(1, 2).unsqueeze(1)
        return self.head(self.backbone(image.contiguous(memory_format=torch.channels_last)))

    def adopt_timm(self, source: Any) -> None:
        """Take the weights of a 3-channel timm model, its first layer averaged or summed."""
        state = source.state_dict()
        layers = source.pretrained_cfg["first_conv"]
        for layer in (layers,) if isinstance(layers, str) else layers:
            kernel = f"{layer}.weight"
            state[kernel] = timm_models.one_channel(state[kernel], self.stem)
        wanted = self.backbone.state_dict()
        self.backbone.load_state_dict({name: state[name] for name in wanted})


def build(part: Mapping[str, Any], classes: int, frames: int, mel_bins: int) -> CNN:
    """Build the model of a recipe's part; views of that many frames and mel bins must fit.

    Raises ConfigError for a backbone that timm does not know or that makes no feature map.
    """
    chosen = options.read(part, CNNOptions)
    backbone = timm_models.create(
        chosen.backbone, "backbone", in_chans=1, global_pool="", drop_path_rate=chosen.drop_path
    )
    channels = _channels(backbone, chosen.backbone, frames, mel_bins)
    readout = head(chosen.head, channels, classes, chosen.heads, chosen.dropout)
    return CNN(backbone, readout, chosen)


def _channels(backbone: Any, name: str, frames: int, mel_bins: int) -> int:
    """Return the feature map's channels: those that timm states, checked on an empty tensor."""
    channels = int(getattr(backbone, "head_hidden_size", backbone.num_features))
    shape = _map_shape(backbone, frames, mel_bins)
    if len(shape) != 4 or shape[1] != channels:
        raise ConfigError(
            f"model: backbone '{name}' makes {list(shape)} of a view of {frames} frames and "
            f"{mel_bins} mel bins, not a map [batch, channels, frequency, time]: take a CNN"
        )
    return channels


def _map_shape(backbone: nn.Module, frames: int, mel_bins: int) -> tuple[int, ...]:
    """Return the shape of the backbone's output for one view, computing nothing."""
    with without_data(backbone) as forward:
        return tuple(forward(torch.empty(1, 1, mel_bins, frames, device="meta")).shape)
