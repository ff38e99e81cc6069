"""Views: augmented filter banks before normalisation, the same for every model and batch size.

Order, as published: load, mixup on waves, filter bank, pad or cut to `frames`, frequency mask, time
mask, noise, roll; each model applies its own affine map afterwards. Noise, published after a
normalisation that divides by two standard deviations, is scaled by that here. Padding and masks are
0 in log-mel units.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmkd.audio import augment
from cmkd.audio.draws import (
    Draws,
    Indices,
    Look,
    Subset,
    balanced_weights,
    draws,
    noise_bank,
)
from cmkd.audio.fbank import fbank, frame_count, samples_for
from cmkd.errors import ConfigError, nearest

CACHE_BYTES = 1 << 30
TEACHINGS = ("consistent", "independent", "clean")


class Clips(Protocol):
    """What is needed of `cmkd.data.clips.Clips`: labels [n, classes] and int16 waves."""

    labels: Any  # an array, or what gives one for an array of clips

    def wave(self, index: int) -> NDArray[np.int16]:
        """Return the 16 kHz samples of a clip."""


class Batch(NamedTuple):
    """Some positions of an epoch.

    student float32 [b, frames, mel_bins]; teacher: the same object when teaching is consistent,
    another tensor when not, None without a teacher; targets float32 [b, classes], mixed like the
    waves; clips int64 [b]: index of each position's (first) clip.
    """

    student: Tensor
    teacher: Tensor | None
    targets: Tensor
    clips: Indices


class Banks:
    """Filter banks of some clips without augmentation, kept in memory as far as they fit."""

    def __init__(
        self,
        clips: Clips,
        indices: Sequence[int] | Indices,
        input: Mapping[str, Any],
        cache_bytes: int = CACHE_BYTES,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take clips, the indices of those wanted, a recipe's `input`, and where to work."""
        self.clips = clips
        self.indices = np.asarray(indices, dtype=np.int64)
        self.device = torch.device(device)
        self.rate = int(input.get("sample_rate", 16000))
        self.shift_ms = float(input["shift_ms"])
        self.shape = (int(input["frames"]), int(input["mel_bins"]))
        self.samples = samples_for(self.shape[0], self.rate, self.shift_ms)
        kept = min(len(self.indices), cache_bytes // (4 * self.shape[0] * self.shape[1]))
        self._cache = torch.empty(kept, *self.shape, device=self.device)
        self._filled = np.zeros(kept, dtype=bool)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.indices)

    def rows(self, numbers: Indices) -> Tensor:
        """Return banks float32 [n, frames, mel_bins] of clips, given as numbers within indices."""
        kept = len(self._cache)
        if kept < len(self) and (numbers >= kept).any():
            return self._some_kept(numbers)
        new = np.unique(numbers[~self._filled[numbers]])
        if len(new):
            self._cache[torch.from_numpy(new)] = self._make([self.wave(i) for i in new])
            self._filled[new] = True
        return self._cache[torch.from_numpy(numbers)]

    def _some_kept(self, numbers: Indices) -> Tensor:
        """Return rows of which some are beyond the memory's bound."""
        inside = numbers < len(self._cache)
        result = torch.empty(len(numbers), *self.shape, device=self.device)
        if inside.any():
            result[torch.from_numpy(inside)] = self.rows(numbers[inside])
        made = self._make([self.wave(i) for i in numbers[~inside]])
        result[torch.from_numpy(~inside)] = made
        return result

    def mixed(self, first: Indices, second: Indices, share: Tensor) -> Tensor:
        """Return banks of mixed waves; the partner is padded or cut to the first clip's length."""
        waves = []
        for one, other, part in zip(first, second, share, strict=True):
            wave = self.wave(one)
            partner = torch.zeros_like(wave)
            found = self.wave(other)[: len(wave)]
            partner[: len(found)] = found
            waves.append(augment.mix(wave[None], partner[None], part)[0])
        return self._make(waves)

    def wave(self, number: int) -> Tensor:
        """Return a clip's samples in [-1, 1), no more than the frames look at."""
        samples = self.clips.wave(int(self.indices[number]))[: self.samples]
        return torch.from_numpy(np.multiply(samples, 1.0 / 32768.0, dtype=np.float32))

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the banks of all clips in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.rows(np.arange(start, min(start + size, len(self)), dtype=np.int64))

    def _make(self, waves: Sequence[Tensor]) -> Tensor:
        """Return the banks of waves, padded to `frames`; on a CPU clip by clip."""
        if self.device.type != "cpu":
            return self._make_padded(waves)
        banks = torch.zeros(len(waves), *self.shape)
        for wave, bank in zip(waves, banks, strict=True):
            made = fbank(wave[None], self.rate, self.shape[1], self.shift_ms)[0]
            bank[: len(made)] = made
        return banks

    def _make_padded(self, waves: Sequence[Tensor]) -> Tensor:
        """Return the banks of waves that are padded to one length; then padding frames become 0."""
        padded = torch.zeros(len(waves), self.samples)
        for row, wave in zip(padded, waves, strict=True):
            row[: len(wave)] = wave
        banks = fbank(padded.to(self.device), self.rate, self.shape[1], self.shift_ms)
        ends = torch.tensor([frame_count(len(w), self.rate, self.shift_ms) for w in waves])
        beyond = torch.arange(self.shape[0]) >= ends.unsqueeze(1)
        return banks.masked_fill_(beyond.to(self.device).unsqueeze(2), 0.0)


class Views:
    """The augmented views of a training: `views.epoch(e).batch(start, stop)`."""

    def __init__(
        self,
        clips: Clips,
        indices: Sequence[int] | Indices,
        input: Mapping[str, Any],
        seed: int,
        fold: int,
        depth: int,
        std: float,
        teaching: str | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
        device: str | torch.device = "cpu",
    ) -> None:
        """Take the training clips, a recipe's `input`, what seeds the draws and the noise's scale.

        `depth` is the number of teachers above the run, `std` the fold's computed standard
        deviation, `teaching` None for a run without a teacher. Raises ConfigError for a teaching
        mode that is not known.
        """
        if teaching is not None and teaching not in TEACHINGS:
            known = nearest(teaching, TEACHINGS)
            raise ConfigError(f"objective: unknown teaching '{teaching}'{known}")
        self.input = dict(input)
        self.teaching = teaching
        self.scale = 2.0 * std
        self.place = (seed, fold, depth)
        self.probability = float(input.get("mixup") or 0.0)
        room = cache_bytes if self.probability < 1.0 else 0
        self.banks = Banks(clips, indices, input, room, device)
        balanced = input.get("sampling", "uniform") == "balanced"
        weights = balanced_weights(clips.labels, self.banks.indices) if balanced else None
        self.subset = Subset(len(self.banks), weights)
        self.noise = self._noise_bank()

    def epoch(self, epoch: int) -> "Epoch":
        """Return an epoch, counted from 0; any epoch at any time, in any order."""
        return Epoch(self, draws(self.subset, *self.place, epoch, self.input))

    def targets(self, numbers: Indices) -> Tensor:
        """Return labels float32 [n, classes] of training clips, given as numbers within indices."""
        labels = self.banks.clips.labels[self.banks.indices[numbers]]
        return torch.from_numpy(np.asarray(labels, dtype=np.float32))

    def _noise_bank(self) -> Tensor | None:
        """Return the noise bank on the device, None without noise."""
        if not self.input.get("noise"):
            return None
        cells = self.banks.shape[0] * self.banks.shape[1]
        return torch.from_numpy(noise_bank(*self.place, cells)).to(self.banks.device)


class Epoch:
    """One epoch: any range of its positions, whatever came before."""

    def __init__(self, views: Views, drawn: Draws) -> None:
        """Take the views it belongs to and what was drawn for it."""
        self.views = views
        self.draws = drawn

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.draws.order)

    def batch(self, start: int, stop: int) -> Batch:
        """Return the positions from start up to, not including, stop."""
        at = slice(start, stop)
        drawn, views = self.draws, self.views
        first, second = drawn.order[at], drawn.partner[at]
        mixes = drawn.mixes[at] < views.probability
        share = torch.from_numpy(np.where(mixes, drawn.coefficient[at], np.float32(1.0)))
        banks = _banks(views.banks, first, second, mixes, share)
        student = self._look(banks, drawn.student, at)
        teacher = self._teacher(banks, student, at)
        targets = augment.mix(views.targets(first), views.targets(second), share)
        targets = targets.to(banks.device)
        return Batch(student, teacher, targets, views.banks.indices[first])

    def _teacher(self, banks: Tensor, student: Tensor, at: slice) -> Tensor | None:
        """Return what the teacher sees: the student's views, views of its own, or clean banks."""
        if self.views.teaching == "consistent":
            return student
        if self.views.teaching == "independent":
            return self._look(banks, self.draws.teacher, at)
        return banks if self.views.teaching == "clean" else None

    def _look(self, banks: Tensor, drawn: Look, at: slice) -> Tensor:
        """Return augmented copies of a batch's banks."""
        rows = Look(*(uniforms[at] for uniforms in drawn))
        return augment.look(banks, rows, self.views.input, self.views.noise, self.views.scale)


def _banks(
    banks: Banks, first: Indices, second: Indices, mixes: NDArray[np.bool_], share: Tensor
) -> Tensor:
    """Return a batch's banks: the plain ones from memory, the mixed ones made anew."""
    if not mixes.any():
        return banks.rows(first)
    chosen = torch.from_numpy(mixes)
    result = torch.empty(len(first), *banks.shape, device=banks.device)
    result[chosen.to(banks.device)] = banks.mixed(first[mixes], second[mixes], share[chosen])
    if not mixes.all():
        result[~chosen.to(banks.device)] = banks.rows(first[~mixes])
    return result


def plain(clips: Clips, index: int, input: Mapping[str, Any]) -> Tensor:
    """Return one clip's filter bank float32 [frames, mel_bins], padded or cut, not augmented."""
    return Banks(clips, [index], input, cache_bytes=0).rows(np.zeros(1, dtype=np.int64))[0]


def batches(
    clips: Clips,
    indices: Sequence[int] | Indices,
    input: Mapping[str, Any],
    size: int,
    device: str | torch.device = "cpu",
) -> Iterator[Tensor]:
    """Yield un-augmented banks float32 [up to size, frames, mel_bins] of clips, in order."""
    return Banks(clips, indices, input, cache_bytes=0, device=device).batches(size)
