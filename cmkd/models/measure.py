"""What a model costs: parameters and floating-point operations."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, trained or frozen; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops(module: nn.Module, frames: int, mel_bins: int) -> int:
    """Return the floating-point operations of one clip's forward pass (2 per multiply-add).

    Counted by PyTorch over convolutions and matrix products, on tensors without data; the module
    is left as it was.
    """
    view = torch.empty(1, frames, mel_bins, device="meta")
    with without_data(module) as forward, FlopCounterMode(display=False) as counter:
        forward(view)
    return int(counter.get_total_flops())


@contextlib.contextmanager
def without_data(module: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Give the module's forward pass on the meta device, in eval mode, without gradients."""
    state = [*module.named_parameters(), *module.named_buffers()]
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in state}
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield lambda view: functional_call(module, empty, (view,))
    finally:
        for part, training in modes.items():
            part.training = training
