"""Logits of a model over un-augmented clips, in batches of one fixed size, and where to run it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cmkd.errors import ConfigError, nearest
from cmkd.scoring import memory, threads

# Fixed, so that the bits of a score depend on no setting.
BATCH = 32
DEVICES = ("auto", "cpu", "cuda")


def predict(
    model: nn.Module, batches: Iterable[Tensor], device: torch.device
) -> npt.NDArray[np.float32]:
    """Return logits float32 [clips, classes] for batches of views [b, frames, mel_bins].

    The model is left in eval mode.
    """
    model.eval()
    with torch.inference_mode():
        found = [model(views.to(device)).float().cpu().numpy() for views in batches]
    return np.concatenate(found)


def choose_device(execution: Mapping[str, Any]) -> torch.device:
    """Return the device that the block `execution` asks for, and set the threads it may have.

    auto is the first GPU where there is one, cuda:1 the second. Float32 is kept whole: no TF32, no
    choice of kernels by timing. Raises ConfigError for an unknown device, or one that is not there.
    """
    torch.set_num_threads(threads.granted(int(execution.get("threads", 1))))
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    wanted = str(execution.get("device", "auto"))
    kind, _, number = wanted.partition(":")
    if kind not in DEVICES or (number and kind != "cuda"):
        raise ConfigError(f"execution.device '{wanted}' is not known{nearest(wanted, DEVICES)}")
    there = torch.cuda.is_available()
    if kind == "cuda" and not there:
        raise ConfigError(
            f"execution.device is '{wanted}' but PyTorch sees no GPU; use 'auto' or 'cpu'"
        )
    if there and wanted != "cpu":
        return torch.device(wanted if number else "cuda")
    memory.keep_freed()
    return torch.device("cpu")
