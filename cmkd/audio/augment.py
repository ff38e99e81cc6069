"""Augmentations: what a recipe makes of the draws, in the published order and amplitudes.

Each works on a batch, with single multiplications, additions, fills and copies only. Those are
exact or rounded once, whatever the batch and the device: nothing here can change a row's bits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd.audio.draws import BANK_OFFSETS, Floats, Indices, Look


def mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return share * first + (1 - share) * second for rows [n, ...] and shares [n].

    Used for waves and for labels alike. Nothing is centred: see `cmkd.audio.fbank`.
    """
    share = share.view(-1, *[1] * (first.dim() - 1))
    return first * share + second * (1.0 - share)


def mask_range(uniforms: Floats, widest: int, size: int) -> tuple[Indices, Indices]:
    """Return starts and ends [n] of masks on an axis of `size` cells, from uniforms [n, 2].

    torchaudio's `mask_along_axis` to the bit: width = u0 * widest, start = u1 * (size - width),
    both in float32 and then cut to integers; so a mask is narrower than `widest`.
    """
    width = uniforms[:, 0] * np.float32(widest)
    start = (uniforms[:, 1] * (np.float32(size) - width)).astype(np.int64)
    return start, start + width.astype(np.int64)


def mask(views: Tensor, axis: int, ranges: tuple[Indices, Indices]) -> None:
    """Fill each view's range on the axis (1 time, 2 frequency) with 0, the padding's value."""
    start, end = (_column(bounds, views.device) for bounds in ranges)
    cells = torch.arange(views.shape[axis], device=views.device)
    hit = (cells >= start) & (cells < end)
    views.masked_fill_(hit.unsqueeze(3 - axis), 0.0)


def add_noise(views: Tensor, uniforms: Floats, bank: Tensor, largest: float, scale: float) -> None:
    """Add to each view a slice of the bank times u1 * largest * scale.

    The slice is U(0, 1) in each cell; `scale` is twice the fold's standard deviation, since the
    published noise is added after a normalisation that divides by that.
    """
    cells = views.shape[1:].numel()
    offsets = (uniforms[:, 0] * np.float32(BANK_OFFSETS)).astype(np.int64)
    rows = bank.as_strided((bank.numel() - cells + 1, cells), (1, 1))
    noise = rows[torch.from_numpy(offsets).to(bank.device)].view_as(views)
    amplitude = uniforms[:, 1].astype(np.float64) * (largest * scale)
    noise.mul_(_column(amplitude.astype(np.float32), views.device).unsqueeze(2))
    views.add_(noise)


def shifts(uniforms: Floats, largest: int) -> Indices:
    """Return integer shifts [n] in [-largest, largest - 1], each equally likely."""
    return (uniforms.astype(np.float64) * (2 * largest)).astype(np.int64) - largest


def roll(views: Tensor, by: Indices) -> Tensor:
    """Return each view rolled along time: frame t moves to frame t + by, round the end."""
    frames = torch.arange(views.shape[1], device=views.device)
    source = (frames - _column(by, views.device)) % views.shape[1]
    return views[torch.arange(len(views), device=views.device).unsqueeze(1), source]


def look(
    banks: Tensor, drawn: Look, input: Mapping[str, Any], bank: Tensor | None, scale: float
) -> Tensor:
    """Return augmented copies of filter banks [n, frames, mel_bins] under a recipe's `input`.

    In order: frequency mask, time mask, noise, roll; each off at 0. `bank` may be None only
    without noise.
    """
    views = banks.clone()
    if widest := int(input.get("frequency_mask") or 0):
        mask(views, 2, mask_range(drawn.fmask, widest, views.shape[2]))
    if widest := int(input.get("time_mask") or 0):
        mask(views, 1, mask_range(drawn.tmask, widest, views.shape[1]))
    if (largest := float(input.get("noise") or 0.0)) and bank is not None:
        add_noise(views, drawn.noise, bank, largest, scale)
    if furthest := int(input.get("roll") or 0):
        views = roll(views, shifts(drawn.roll, furthest))
    return views


def _column(values: NDArray[Any], device: torch.device) -> Tensor:
    """Return numpy values [n] as a tensor [n, 1] on the device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device).unsqueeze(1)
