"""Filter banks against torchaudio: float64 to the last digits, float32 as far as it goes."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.compliance import kaldi

from cmkd.audio import fbank as module
from cmkd.audio.fbank import fbank, frame_count, mel_weights, samples_for
from cmkd.errors import ConfigError, DataError

SECONDS = torch.arange(16000, dtype=torch.float64) / 16000
FRONTENDS = [(128, 10.0), (64, 20.0), (40, 12.5), (23, 40.0), (80, 7.3)]


def torchaudios(waves: Tensor, mel_bins: int = 128, shift_ms: float = 10.0) -> Tensor:
    """Return torchaudio's filter banks of waves [batch, samples]."""
    options = {"htk_compat": True, "window_type": "hanning", "dither": 0.0, "use_energy": False}
    sizes = {"num_mel_bins": mel_bins, "frame_shift": shift_ms, "sample_frequency": 16000}
    return torch.stack([kaldi.fbank(wave[None], **options, **sizes) for wave in waves])


def noise(seed: int = 0) -> Tensor:
    return torch.randn(16000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clicks() -> Tensor:
    wave = torch.zeros(16000, dtype=torch.float64)
    wave[[0, 401, 5000, 5003, 15999]] = torch.tensor([1, -1, 0.5, 1, 1], dtype=torch.float64)
    return wave


def brown() -> Tensor:
    wave = noise(1).cumsum(0)
    return 0.5 * wave / wave.abs().max() * (1 + torch.sin(2 * math.pi * 3 * SECONDS))


NOT_TONES = {
    "white noise": 0.2 * noise(),
    "quiet noise with an offset": 0.001 * noise() + 0.1,
    "modulated brown noise": brown(),
    "clicks": clicks(),
    "silence": torch.zeros(16000, dtype=torch.float64),
}
TONES = {
    "full-scale sine": torch.sin(2 * math.pi * 440 * SECONDS),
    "full-scale chirp": torch.sin(2 * math.pi * (50 * SECONDS + 3900 * SECONDS**2)),
}


def largest(name: str, gap: Tensor, record_property) -> float:
    """Return the largest difference, printed and put into the report."""
    value = float(gap.abs().max())
    print(f"fbank, {name}: largest difference {value:.2e}")
    record_property(name, value)
    return value


@pytest.mark.parametrize("name", [*NOT_TONES, *TONES])
@pytest.mark.parametrize(("mel_bins", "shift_ms"), FRONTENDS)
def test_float64_equals_torchaudio_float64(name, mel_bins, shift_ms, record_property):
    wave = (NOT_TONES | TONES)[name][None]
    ours = fbank(wave, mel_bins=mel_bins, shift_ms=shift_ms)
    theirs = torchaudios(wave, mel_bins, shift_ms)
    assert ours.dtype == torch.float64
    assert ours.shape == theirs.shape
    assert largest(f"float64, {name}", ours - theirs, record_property) < 1e-9


@pytest.mark.parametrize("name", NOT_TONES)
def test_float32_is_near_torchaudio_where_there_is_energy(name, record_property):
    wave = NOT_TONES[name].float()[None]
    ours, theirs = fbank(wave), torchaudios(wave)
    loud = theirs > math.log(1e-3)
    assert ours.dtype == torch.float32
    assert largest(f"float32, {name}", ours - theirs, record_property) < 1e-2
    if loud.any():
        gap = (ours - theirs)[loud]
        assert largest(f"float32, {name}, energy > 1e-3", gap, record_property) < 5e-4


@pytest.mark.parametrize("name", TONES)
def test_float32_on_full_scale_tones_is_no_worse_than_torchaudio(name, record_property):
    wave = TONES[name].float()[None]
    exact = torchaudios(wave.double())
    ours = largest(f"ours in float32, {name}", fbank(wave) - exact, record_property)
    theirs = largest(f"torchaudio in float32, {name}", torchaudios(wave) - exact, record_property)
    assert 0 < ours <= 2 * theirs
    loud = exact > math.log(1e-3)
    gap = (fbank(wave) - exact)[loud]
    assert largest(f"ours, {name}, energy > 1e-3", gap, record_property) < 5e-4


def test_real_recordings(recordings, record_property):
    gaps, loud_gaps, exact_gaps = [], [], []
    for samples in recordings:
        wave = torch.from_numpy(samples / np.float32(32768))[None]
        ours, theirs = fbank(wave), torchaudios(wave)
        gaps.append((ours - theirs).abs().max())
        loud = theirs > math.log(1e-3)
        loud_gaps.append((ours - theirs)[loud].abs().max() if loud.any() else torch.tensor(0.0))
        exact_gaps.append((fbank(wave.double()) - torchaudios(wave.double())).abs().max())
    count = f"{len(gaps)} recordings"
    assert largest(f"float64, {count}", torch.stack(exact_gaps), record_property) < 1e-9
    assert largest(f"float32, {count}", torch.stack(gaps), record_property) < 1e-2
    gap = torch.stack(loud_gaps)
    assert largest(f"float32, {count}, energy > 1e-3", gap, record_property) < 5e-4


@pytest.mark.parametrize("mel_bins", [4, 23, 64, 128, 256])
def test_mel_weights_are_torchaudios_to_the_bit(mel_bins):
    theirs, _ = kaldi.get_mel_banks(mel_bins, 512, 16000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
    assert torch.equal(mel_weights(mel_bins), theirs)


def test_an_empty_filter_gives_the_floor():
    # With 128 filters and 512 points filter 3 falls between two bins.
    assert torch.all(fbank(noise()[None])[..., 3] == math.log(2.0**-23))


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (80000, 498)]
)
def test_frames_are_whole_windows(samples, frames):
    assert fbank(torch.zeros(2, samples)).shape == (2, frames, 128)
    assert frame_count(samples) == frames


@pytest.mark.parametrize("frames", [0, 1, 2, 512])
def test_samples_for_is_just_enough(frames):
    samples = samples_for(frames, 16000, 20.0)
    assert frame_count(samples, 16000, 20.0) == frames
    assert frame_count(max(samples - 1, 0), 16000, 20.0) == max(frames - 1, 0)


def test_bits_do_not_depend_on_the_batch():
    waves = torch.stack([noise(seed).float() for seed in range(9)])
    alone = torch.cat([fbank(wave[None]) for wave in waves])
    assert torch.equal(fbank(waves), alone)
    assert torch.equal(fbank(waves.flip(0)), alone.flip(0))


def test_bits_do_not_depend_on_the_clip_before():
    long, short = noise(1).float()[None], noise(2).float()[None, :7000]
    first = [fbank(long), fbank(short)]
    fbank(torch.full((1, 20000), 1.0), mel_bins=64)
    again = [fbank(short), fbank(torch.ones(1, 9000)), fbank(long), fbank(short)]
    assert torch.equal(again[0], first[1])
    assert torch.equal(again[2], first[0])
    assert torch.equal(again[3], first[1])


def test_threads_do_not_share_memory():
    waves = [noise(seed).float()[None] for seed in range(8)]
    alone = [fbank(wave) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fbank, waves))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("clips", [1, 3, 4, 9])
def test_chunks_as_on_a_gpu_give_the_same_numbers(clips, monkeypatch):
    waves = torch.stack([noise(seed) for seed in range(clips)])
    alone = fbank(waves)
    monkeypatch.setattr(module, "_chunk", lambda device: 4)
    torch.testing.assert_close(fbank(waves), alone, rtol=0, atol=1e-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_bits_do_not_depend_on_the_batch():
    waves = torch.stack([noise(seed).float() for seed in range(40)]).cuda()
    whole = fbank(waves)
    assert torch.equal(fbank(waves[:1]), whole[:1])
    assert torch.equal(fbank(waves[:33]), whole[:33])
    torch.testing.assert_close(whole.cpu(), fbank(waves.cpu()), rtol=0, atol=1e-2)


def test_input_is_left_alone_and_no_gradient_flows():
    wave = noise().float()[None].requires_grad_()
    before = wave.detach().clone()
    assert not fbank(wave).requires_grad
    assert torch.equal(wave, before)


@pytest.mark.parametrize(
    "waves", [torch.zeros(16000), torch.zeros(1, 16000, dtype=torch.int16), torch.zeros(1, 2, 900)]
)
def test_other_waves_are_refused(waves):
    with pytest.raises(DataError, match=r"\[batch, samples\].*x / 32768"):
        fbank(waves)


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="mel_bins 3 is too few"):
        fbank(torch.zeros(1, 800), mel_bins=3)
    with pytest.raises(ConfigError, match=r"shift_ms 0\.01 .* less than one sample"):
        fbank(torch.zeros(1, 800), shift_ms=0.01)
