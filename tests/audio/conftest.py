"""Clips for the tests of audio: waves in memory, with the attributes of `cmkd.data.clips.Clips`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class WavesInMemory:
    """Noise of given lengths, with one or two of four classes."""

    def __init__(self, lengths: Sequence[int], entry: dict[str, Any] | None = None) -> None:
        generator = np.random.default_rng(7)
        self.waves = [
            (generator.standard_normal(n) * generator.uniform(300, 6000) + 50).astype(np.int16)
            for n in lengths
        ]
        self.labels = np.zeros((len(lengths), 4), dtype=np.uint8)
        for number, row in enumerate(self.labels):
            row[number % 4] = 1
            row[(number * number) % 4] = 1
        self.ids = np.array([f"clip-{n}" for n in range(len(lengths))])
        self.manifest_sha256 = "a" * 64
        self.entry = entry or {}

    def wave(self, index: int) -> np.ndarray:
        return self.waves[index].copy()

    def subset(self, fold: int, role: str) -> np.ndarray:
        held_out = np.arange(len(self.waves)) % 3 == fold
        return np.flatnonzero(held_out if role == "test" else ~held_out)


@pytest.fixture(scope="session")
def make_clips() -> Callable[..., WavesInMemory]:
    """Return the maker of clips from lengths in samples."""
    return WavesInMemory


@pytest.fixture(scope="session")
def clips() -> WavesInMemory:
    """Return 40 clips from nothing at all to longer than the front end looks at."""
    return WavesInMemory([0, 399, 400, *range(900, 900 + 37 * 131, 131)])


@pytest.fixture
def input_part() -> dict[str, Any]:
    """Return a recipe's `input`, small, with every augmentation on."""
    return {
        "behaviour": 1,
        "sample_rate": 16000,
        "mel_bins": 32,
        "shift_ms": 10.0,
        "frames": 24,
        "mixup": 0.5,
        "mixup_alpha": 10.0,
        "frequency_mask": 8,
        "time_mask": 10,
        "noise": 0.1,
        "roll": 10,
        "sampling": "uniform",
    }


@pytest.fixture(scope="session")
def recordings(shared: Path) -> list[np.ndarray]:
    """Return real recordings as int16 at 16 kHz: every 20th of the 400 clips of ESC-10."""
    import soundfile
    import torch
    from torchaudio.functional import resample

    paths = sorted((shared / "data" / "esc10" / "ESC-50-master" / "audio").glob("*.flac"))[::20]
    if not paths:
        pytest.skip("CMKD_SHARED has no data/esc10/ESC-50-master/audio/*.flac")
    waves = []
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        at_16k = resample(torch.from_numpy(samples), rate, 16000)
        waves.append((at_16k * 32767.0).round().clamp(-32768, 32767).to(torch.int16).numpy())
    return waves
