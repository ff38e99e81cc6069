"""Shifts, noise and levels of clips."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmkd.probing import perturb

RAMP = np.arange(-400, 400, dtype=np.int16)


def test_a_shift_rolls_within_the_clip() -> None:
    moved = perturb.shift(10)(0, RAMP)  # 160 samples
    assert moved[160:].tolist() == RAMP[:-160].tolist()
    assert moved[:160].tolist() == RAMP[-160:].tolist()
    assert perturb.shift(0)(0, RAMP).tolist() == RAMP.tolist()


@pytest.mark.parametrize("snr", [0, 10, 30])
def test_noise_has_the_power_asked_for(snr: int) -> None:
    time = np.arange(48_000) / 16_000
    wave = (3000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    added = perturb.noise(snr)(7, wave).astype(float) - wave
    measured = 10 * np.log10(np.mean(wave.astype(float) ** 2) / np.mean(added**2))
    assert measured == pytest.approx(snr, abs=0.1)


def test_noise_is_a_clips_own_and_always_the_same() -> None:
    noisy = perturb.noise(0)
    assert np.array_equal(noisy(1, RAMP), noisy(1, RAMP))
    assert not np.array_equal(noisy(1, RAMP), noisy(2, RAMP))


def test_silence_stays_silent() -> None:
    silence = np.zeros(100, dtype=np.int16)
    assert not perturb.noise(0)(0, silence).any()
    assert len(perturb.noise(0)(0, silence[:0])) == 0


def test_a_level_is_a_factor_and_clips_at_full_scale() -> None:
    loud = perturb.level(20)(0, np.array([100, -100, 30_000, -30_000], dtype=np.int16))
    assert loud.tolist() == [1000, -1000, 32_767, -32_768]
    assert perturb.level(-20)(0, np.array([1000], dtype=np.int16)).tolist() == [100]


def test_clips_are_cut_to_what_is_heard_before_they_are_changed() -> None:
    clips = SimpleNamespace(labels="labels", wave=lambda index: RAMP)
    seen = perturb.Perturbed(clips, perturb.shift(10), 400)
    assert seen.labels == "labels"
    assert seen.wave(0).tolist() == np.roll(RAMP[:400], 160).tolist()
