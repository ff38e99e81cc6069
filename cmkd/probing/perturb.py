"""Clips that were shifted in time, drowned in noise or made louder, for the same filter banks.

They have what `audio.views.Banks` needs of clips, so a probe hears exactly what scoring hears but
for the one thing that was changed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from cmkd.audio.views import Clips

Wave = NDArray[np.int16]
FULL_SCALE = 32767
RATE = 16_000


class Perturbed:
    """Clips whose waves go through a function (index, int16 wave) -> int16 wave."""

    def __init__(self, clips: Clips, change: Callable[[int, Wave], Wave], longest: int) -> None:
        """Take the clips, the change, and the samples that the filter banks look at."""
        self.clips, self.change, self.longest = clips, change, longest

    @property
    def labels(self) -> Any:
        """Return the clips' own labels."""
        return self.clips.labels

    def wave(self, index: int) -> Wave:
        """Return a clip cut to what the filter banks look at, then changed."""
        return self.change(index, self.clips.wave(index)[: self.longest])


def shift(milliseconds: float) -> Callable[[int, Wave], Wave]:
    """Roll a clip within its own length: what leaves at the end comes in at the front.

    So nothing is lost, and no silence comes in that the model has never heard.
    """
    samples = round(milliseconds * RATE / 1000)
    return lambda index, wave: np.roll(wave, samples)


def noise(snr: float) -> Callable[[int, Wave], Wave]:
    """Add white Gaussian noise at a signal-to-noise ratio in dB; a clip has always the same."""

    def change(index: int, wave: Wave) -> Wave:
        power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
        drawn = Generator(Philox(key=index)).standard_normal(len(wave))
        return _whole(wave + drawn * np.sqrt(power / 10 ** (snr / 10)))

    return change


def level(decibels: float) -> Callable[[int, Wave], Wave]:
    """Make a clip louder or quieter by so many dB; what goes beyond full scale is clipped."""
    return lambda index, wave: _whole(wave * 10 ** (decibels / 20))


def _whole(samples: NDArray[np.float64]) -> Wave:
    """Round to int16 within full scale."""
    return np.clip(np.rint(samples), -FULL_SCALE - 1, FULL_SCALE).astype(np.int16)
