"""Kaldi log-mel filter banks in torch, the front end of the paper and its sibling codes.

The formula is that of `torchaudio.compliance.kaldi.fbank` with htk_compat, a Hanning window of
25 ms, no dither and no energy, arranged so that a clip's temporaries stay in the processor's cache:

- pre-emphasis is done once on the wave and not in each frame. The replicate rule at a frame's first
  sample has no effect, since the window is zero there; the frame's mean `m`, which Kaldi takes off
  before the pre-emphasis, comes back as `(1 - 0.97) m`;
- power is the squares of real and imaginary part, added up inside the mel product;
- the mel matrix, mostly zeros, is multiplied band by band.

The sibling codes take off the wave's mean first; each frame's mean goes anyway, so that step is
left out: it changes nothing but rounding.
"""

import functools
import math
import threading
from typing import NamedTuple

import torch
from torch import Tensor

from cmkd.errors import ConfigError, DataError

WINDOW_MS = 25.0
PREEMPHASIS = 0.97
LOW_HZ = 20.0
EPSILON = torch.finfo(torch.float32).eps  # Kaldi's floor, the same in float64
BAND = 16  # mel filters multiplied at once: fewest useless products, without narrow matrices
CHUNK = 32  # clips at once on a GPU: always so many, or its kernels' bits would follow the batch
MEL_BINS_MIN = 4

_kept = threading.local()


class Framing(NamedTuple):
    """Sizes in samples: of a window, of its shift and of the Fourier transform."""

    window: int
    shift: int
    transform: int


class Tables(NamedTuple):
    """What depends on sizes only: mel bands (first bin, last bin, weights), and two windows.

    `window` [window] is for the emphasised wave, `offset` [window] for each frame's sum.
    """

    sizes: Framing
    mel_bins: int
    window: Tensor
    offset: Tensor
    bands: tuple[tuple[int, int, Tensor], ...]


def framing(sample_rate: int = 16000, shift_ms: float = 10.0) -> Framing:
    """Return the sizes that Kaldi takes for a rate (Hz) and a shift (ms).

    Raises ConfigError where the shift is less than one sample.
    """
    window = int(sample_rate * WINDOW_MS * 0.001)
    shift = int(sample_rate * shift_ms * 0.001)
    if window < 2 or shift < 1:
        raise ConfigError(
            f"input: shift_ms {shift_ms} at sample_rate {sample_rate} is less than one sample; "
            "give a longer shift (the paper has 10.0)"
        )
    return Framing(window, shift, 1 << (window - 1).bit_length())


def frame_count(samples: int, sample_rate: int = 16000, shift_ms: float = 10.0) -> int:
    """Return how many whole windows fit into so many samples (Kaldi's snip_edges)."""
    sizes = framing(sample_rate, shift_ms)
    return 0 if samples < sizes.window else _frames(samples, sizes)


def samples_for(frames: int, sample_rate: int = 16000, shift_ms: float = 10.0) -> int:
    """Return the number of samples that so many frames look at."""
    sizes = framing(sample_rate, shift_ms)
    return (frames - 1) * sizes.shift + sizes.window if frames > 0 else 0


def mel_weights(mel_bins: int, sample_rate: int = 16000) -> Tensor:
    """Return Kaldi's triangular mel filters, float32 [mel_bins, transform / 2].

    Computed in float32 as torchaudio does, whatever the filter bank's own precision, so that
    both have the same filters to the bit. The bin at half the rate has no weight.
    """
    transform = framing(sample_rate).transform
    low = 1127.0 * math.log(1.0 + LOW_HZ / 700.0)
    high = 1127.0 * math.log(1.0 + 0.5 * sample_rate / 700.0)
    step = (high - low) / (mel_bins + 1)
    number = torch.arange(mel_bins).unsqueeze(1)
    left, centre, right = (low + (number + edge) * step for edge in (0, 1.0, 2.0))
    hertz = sample_rate / transform * torch.arange(transform // 2, dtype=torch.float32)
    mel = 1127.0 * (1.0 + hertz / 700.0).log().unsqueeze(0)
    rising = (mel - left) / (centre - left)
    falling = (right - mel) / (right - centre)
    return torch.minimum(rising, falling).clamp_(min=0.0)


@torch.no_grad()
def fbank(
    waves: Tensor, sample_rate: int = 16000, mel_bins: int = 128, shift_ms: float = 10.0
) -> Tensor:
    """Return log-mel filter banks [batch, frames, mel_bins] of waves [batch, samples] in [-1, 1].

    float32 or float64 in, the same out; natural logarithm; frames = 1 + (samples - window) // shift
    and none for clips shorter than a window. On a CPU clip by clip, on a GPU in chunks of fixed
    size: a row's bits do not depend on the batch it stands in. No gradient flows.
    Raises DataError for waves of another shape or type, ConfigError for impossible sizes.
    """
    _check(waves, mel_bins)
    frames = frame_count(waves.shape[1], sample_rate, shift_ms)
    banks = waves.new_empty(waves.shape[0], frames, mel_bins)
    if not banks.numel():
        return banks
    tables = _tables(sample_rate, mel_bins, shift_ms, waves.dtype, waves.device)
    chunk = _chunk(waves.device)
    work = _workspace(tables, chunk, waves.shape[1])
    for some, result in zip(waves.split(chunk), banks.split(chunk), strict=True):
        if len(some) == chunk:
            work.fill(some, result)
        else:  # the rest of the last chunk is silence
            whole = torch.nn.functional.pad(some, (0, 0, 0, chunk - len(some)))
            filled = waves.new_empty(chunk, frames, mel_bins)
            work.fill(whole, filled)
            result.copy_(filled[: len(some)])
    return banks


def _chunk(device: torch.device) -> int:
    """Return how many clips are worked out at once: on a CPU one, which fits its cache."""
    return 1 if device.type == "cpu" else CHUNK


def _check(waves: Tensor, mel_bins: int) -> None:
    """Raise for what no filter bank can be made of."""
    if waves.dim() != 2 or waves.dtype not in (torch.float32, torch.float64):
        raise DataError(
            f"filter banks need float32 or float64 waves [batch, samples], not {waves.dtype} "
            f"of shape {list(waves.shape)}; convert int16 samples with x / 32768"
        )
    if mel_bins < MEL_BINS_MIN:
        raise ConfigError(f"input: mel_bins {mel_bins} is too few; give {MEL_BINS_MIN} or more")


class _Workspace:
    """Memory in which a chunk of clips is worked out, kept from clip to clip.

    On a CPU fresh memory costs more than the Fourier transform. `narrow` cuts it to a chunk's size;
    it is as large as the longest chunk so far.
    """

    def __init__(self, tables: Tables, n: int, samples: int) -> None:
        """Make room for n clips of so many samples."""
        sizes, mel_bins, window = tables.sizes, tables.mel_bins, tables.window
        rows = n * _frames(samples, sizes)
        bins = sizes.transform // 2 + 1
        self.tables = tables
        self.wave_room = window.new_empty(n * samples)
        self.windowed_room = window.new_zeros(rows, sizes.transform)
        self.spectrum_room = window.new_empty(rows, bins, dtype=window.dtype.to_complex())
        self.energy_room = window.new_empty(rows, mel_bins)
        self.narrow(n, samples)

    def holds(self, n: int, samples: int) -> bool:
        """Tell whether n clips of so many samples fit in."""
        rows = n * _frames(samples, self.tables.sizes)
        return n * samples <= len(self.wave_room) and rows <= len(self.energy_room)

    def narrow(self, n: int, samples: int) -> None:
        """Set the views of this memory that `fill` works on."""
        sizes = self.tables.sizes
        self.shape = (n, samples)
        self.frames = _frames(samples, sizes)
        rows = n * self.frames
        emphasised = self.wave_room[: n * samples].view(n, samples)
        emphasised[:, 0] = 0.0  # it meets a zero of the window, and must be finite
        self.after_first = emphasised[:, 1:]
        self.framed = emphasised.unfold(-1, sizes.window, sizes.shift)
        self.windowed = self.windowed_room[:rows]
        self.inside = self.windowed.view(n, self.frames, -1)[..., : sizes.window]
        self.spectrum = self.spectrum_room[:rows]
        self.parts = torch.view_as_real(self.spectrum).view(rows, -1)
        self.energies = self.energy_room[:rows]
        self.products = self._products()

    def _products(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return for each mel band the powers it looks at, its weights and where to write."""
        bands = self.tables.bands
        places = self.energies.split([weights.shape[1] for *_, weights in bands], dim=1)
        return [
            (self.parts[:, 2 * first : 2 * last], weights, place)
            for (first, last, weights), place in zip(bands, places, strict=True)
        ]

    def fill(self, waves: Tensor, banks: Tensor) -> None:
        """Write the filter banks of `waves` [n, samples] into `banks` [n, frames, mel_bins]."""
        torch.sub(waves[:, 1:], waves[:, :-1], alpha=PREEMPHASIS, out=self.after_first)
        torch.mul(self.framed, self.tables.window, out=self.inside)
        sums = _frame_sums(waves, self.frames, self.tables.sizes)
        self.inside.addcmul_(sums.unsqueeze(-1), self.tables.offset)
        torch.fft.rfft(self.windowed, out=self.spectrum)
        self.parts.square_()
        for powers, weights, place in self.products:
            torch.mm(powers, weights, out=place)
        torch.log(self.energies.clamp_(min=EPSILON), out=banks.view(self.energies.shape))


def _workspace(tables: Tables, n: int, samples: int) -> _Workspace:
    """Return this thread's workspace, made anew for another front end or a longer clip."""
    work: _Workspace | None = getattr(_kept, "work", None)
    if work is None or work.tables is not tables or not work.holds(n, samples):
        work = _kept.work = _Workspace(tables, n, samples)
    elif work.shape != (n, samples):
        work.narrow(n, samples)
    return work


def _frames(samples: int, sizes: Framing) -> int:
    """Return how many whole windows fit into at least a window's samples."""
    return 1 + (samples - sizes.window) // sizes.shift


def _frame_sums(waves: Tensor, frames: int, sizes: Framing) -> Tensor:
    """Return each frame's sum [n, frames], from sums of blocks that overlapping frames share."""
    block = math.gcd(sizes.window, sizes.shift)
    used = (frames - 1) * sizes.shift + sizes.window
    sums = waves[:, :used].view(len(waves), -1, block).sum(-1)
    return sums.unfold(-1, sizes.window // block, sizes.shift // block).sum(-1)


@functools.lru_cache(maxsize=16)
def _tables(
    sample_rate: int, mel_bins: int, shift_ms: float, dtype: torch.dtype, device: torch.device
) -> Tables:
    """Return windows and mel bands, made once for each front end, precision and device."""
    sizes = framing(sample_rate, shift_ms)
    window = torch.hann_window(sizes.window, periodic=False, dtype=dtype)
    offset = -(1.0 - PREEMPHASIS) / sizes.window * window  # times a frame's sum: its mean's share
    bands = tuple(
        (first, last, band.to(device, dtype))
        for first, last, band in map(_band, mel_weights(mel_bins, sample_rate).split(BAND))
    )
    return Tables(sizes, mel_bins, window.to(device), offset.to(device), bands)


def _band(group: Tensor) -> tuple[int, int, Tensor]:
    """Return the range of bins a group of filters looks at, and its weights [2 bins, filters].

    Each weight stands twice, for the squares of the real and the imaginary part.
    """
    seen = group.sum(0).nonzero().flatten().tolist() or [0]
    first, last = seen[0], seen[-1] + 1
    return first, last, group[:, first:last].repeat_interleave(2, dim=1).T.contiguous()
