"""Linear CKA between the layers of two models (Kornblith et al. 2019, arXiv 1905.00414)."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Features = NDArray[np.float64]
# Where the trunks of our models and timm's keep their layers.
CONTAINERS = ("blocks", "stages", "features")


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a model's layers in order of depth: blocks, stages, or its direct children."""
    core: Any = getattr(model, "model", model)
    trunk = getattr(core, "backbone", core)
    name = next((name for name in CONTAINERS if hasattr(trunk, name)), None)
    found = trunk if name is None else getattr(trunk, name)
    prefix = "" if name is None else f"{name}."
    return [
        (f"{prefix}{child}", module)
        for child, module in found.named_children()
        if any(True for _ in module.parameters())
    ]


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Collect what each layer puts out, averaged over time and frequency, or over tokens."""
    seen: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in layers(model):

        def hook(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.dim() in (3, 4):
                dims = (2, 3) if output.dim() == 4 else (1,)
                seen.setdefault(name, []).append(output.float().mean(dims).cpu())

        hooks.append(module.register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def features(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Features]:
    """Return each layer's features [clips, channels] for batches of views; sets eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), _watched(model.eval()) as seen:
        for views in batches:
            model(views.to(device))
    return {name: torch.cat(parts).double().numpy() for name, parts in seen.items()}


def linear_cka(one: Features, other: Features) -> float:
    """Return |Y'X|² / (|X'X| |Y'Y|) of centred features (Frobenius norms); 1 for equal, up to
    rotation and scale. NaN where features do not vary. Small samples of wide layers read high.
    """
    centred = [values - values.mean(axis=0) for values in (one, other)]
    # Kernels [clips, clips] are cheaper than channel products for wide layers: the same number.
    kernels = [values @ values.T for values in centred]
    norms = [float(np.linalg.norm(kernel)) for kernel in kernels]
    if not all(norms):
        return float("nan")
    return float(np.sum(kernels[0] * kernels[1])) / (norms[0] * norms[1])


def compare(student: dict[str, Features], teacher: dict[str, Features]) -> dict[str, Any]:
    """Return the CKA of every layer of the student (rows) with every one of the teacher's."""
    values = [[linear_cka(s, t) for t in teacher.values()] for s in student.values()]
    return {
        "student_layers": list(student),
        "teacher_layers": list(teacher),
        "values": [[_known(value) for value in row] for row in values],
    }


def _known(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if np.isnan(value) else value


def by_depth(values: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the similarity at equal relative depth: each row's value on the table's diagonal."""
    rows = len(values)
    picked = []
    for number, row in enumerate(values):
        share = number / (rows - 1) if rows > 1 else 1.0
        picked.append(row[round(share * (len(row) - 1))])
    return picked
