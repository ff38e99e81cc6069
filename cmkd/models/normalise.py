"""The affine map between a view and the model that looks at it."""

import torch
from torch import Tensor, nn

from cmkd.errors import ConfigError


class Normalised(nn.Module):
    """A model behind its own normalisation: model((view - mean) / scale).

    Views are shared by teacher and student before normalisation, so each model carries its map.
    `mean` and `scale` are buffers: they are saved with the weights and trained by nothing.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, mean: float, scale: float) -> None:
        """Take the mean and the scale (factor x standard deviation), in log-mel units.

        Raises ConfigError where the scale is not a positive number.
        """
        super().__init__()
        if not scale > 0:
            raise ConfigError(f"normalise: the scale is {scale}, but must be above 0")
        self.model = model
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, view: Tensor) -> Tensor:
        """Turn views [batch, frames, mel_bins] into logits [batch, classes]."""
        return self.model((view - self.mean) / self.scale)
