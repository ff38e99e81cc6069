"""Augmentations against torchaudio's transforms and the published formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.transforms import FrequencyMasking, TimeMasking

from cmkd.audio import augment
from cmkd.audio.draws import BANK_OFFSETS, Look, Subset, draws

LARGEST_UNIFORM = float(np.nextafter(np.float32(1), np.float32(0)))
UNIFORMS = st.floats(0.0, LARGEST_UNIFORM, width=32)


def with_uniforms(transform, specgram, uniforms):
    """Return torchaudio's masking of [mel, time], torch.rand giving these numbers."""
    numbers = iter(uniforms)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape: torch.tensor([next(numbers)]))
        return transform(specgram)


def rows(*pairs) -> np.ndarray:
    return np.array(pairs, dtype=np.float32)


@settings(max_examples=150, deadline=None)
@given(UNIFORMS, UNIFORMS, st.integers(1, 48), st.integers(4, 40), st.integers(4, 40))
def test_masks_equal_torchaudios_given_its_uniforms(u0, u1, widest, frames, mel_bins):
    bank = torch.ones(1, frames, mel_bins)
    for axis, transform in ((2, FrequencyMasking(widest)), (1, TimeMasking(widest))):
        theirs = with_uniforms(transform, bank[0].T, [u0, u1]).T
        ours = bank.clone()
        augment.mask(ours, axis, augment.mask_range(rows([u0, u1]), widest, bank.shape[axis]))
        assert torch.equal(ours[0], theirs)


def test_masks_by_hand():
    starts, ends = augment.mask_range(rows([0.5, 0.5], [0.0, 0.9]), 24, 128)
    assert starts.tolist() == [58, 115]  # 0.5 * (128 - 12), 0.9 * 128
    assert ends.tolist() == [70, 115]
    views = torch.full((2, 3, 128), -7.0)
    augment.mask(views, 2, (starts, ends))
    assert (views == 0).sum(dim=(1, 2)).tolist() == [3 * 12, 0]
    assert (views[0, :, 58:70] == 0).all()


def test_masks_are_narrower_than_the_recipe_says():
    starts, ends = augment.mask_range(rows([LARGEST_UNIFORM, LARGEST_UNIFORM]), 24, 128)
    assert (ends - starts).tolist() == [23]
    assert ends.tolist() <= [128]


@pytest.mark.parametrize("largest", [0.1, 0.05])
def test_noise_is_uniform_cells_times_a_uniform_amplitude_and_two_deviations(largest):
    std = 5.358466
    bank = np.random.default_rng(0).random(BANK_OFFSETS + 12, np.float32)
    uniforms = rows([0.25, 0.5], [0.0, LARGEST_UNIFORM], [LARGEST_UNIFORM, 0.125])
    views = torch.full((3, 3, 4), -2.0)
    augment.add_noise(views, uniforms, torch.from_numpy(bank), largest, 2 * std)
    for view, offset, amplitude in zip(
        views, (BANK_OFFSETS // 4, 0, BANK_OFFSETS - 1), (0.5, 1.0, 0.125), strict=True
    ):
        cells = bank[offset : offset + 12].reshape(3, 4).astype(np.float64)
        expected = -2.0 + cells * amplitude * largest * 2 * std
        np.testing.assert_allclose(view.numpy(), expected, atol=1e-6)


def test_shifts_are_from_minus_ten_to_nine_equally_often():
    uniforms = (np.arange(2000, dtype=np.float32) + np.float32(0.5)) / 2000
    values, counts = np.unique(augment.shifts(uniforms, 10), return_counts=True)
    assert values.tolist() == list(range(-10, 10))
    assert set(counts) == {100}
    extremes = augment.shifts(np.array([0.0, LARGEST_UNIFORM], dtype=np.float32), 10)
    assert extremes.tolist() == [-10, 9]


@pytest.mark.parametrize("frames", [1, 7, 24])
def test_roll_equals_torchs(frames):
    views = torch.randn(20, frames, 5, generator=torch.Generator().manual_seed(0))
    by = np.arange(-10, 10)
    expected = [torch.roll(view, int(n), 0) for view, n in zip(views, by, strict=True)]
    assert torch.equal(augment.roll(views, by), torch.stack(expected))


def test_mix_by_hand():
    first, second = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    mixed = augment.mix(first, second, torch.tensor([0.75, 0.5]))
    assert mixed.tolist() == [[0.75, 0.25], [0.0, 1.0]]


def textbook(bank, look, part, mean, std, noise):
    """Return one view as the sibling code makes it: masks, normalise, noise, roll."""
    masked = with_uniforms(FrequencyMasking(part["frequency_mask"]), bank.T[None], look.fmask)
    masked = with_uniforms(TimeMasking(part["time_mask"]), masked, look.tmask)[0].T
    normalised = (masked - mean) / (2 * std)
    normalised = normalised + noise * float(look.noise[1]) * part["noise"]
    return torch.roll(normalised, int(np.floor(look.roll * 20)) - 10, 0)


def test_look_then_normalising_is_the_published_order():
    part = {"frequency_mask": 24, "time_mask": 30, "noise": 0.1, "roll": 10}
    mean, std = -6.6268077, 5.358466
    generator = torch.Generator().manual_seed(0)
    banks = torch.randn(8, 50, 32, generator=generator) * 4 - 6
    drawn = draws(Subset(8), 0, 1, 0, 0, {}).student
    noise = torch.rand(BANK_OFFSETS + 1600, generator=generator)
    views = augment.look(banks, drawn, part, noise, 2 * std)
    for number, view in enumerate(views):
        look = Look(*(uniforms[number] for uniforms in drawn))
        offset = int(look.noise[0] * BANK_OFFSETS)
        cells = noise[offset : offset + 1600].view(50, 32)
        expected = textbook(banks[number], look, part, mean, std, cells)
        torch.testing.assert_close((view - mean) / (2 * std), expected, rtol=0, atol=2e-6)


def test_everything_off_copies():
    banks = torch.randn(3, 10, 8)
    part = {"frequency_mask": 0, "time_mask": 0, "noise": 0.0, "roll": 0}
    views = augment.look(banks, draws(Subset(3), 0, 1, 0, 0, {}).student, part, None, 1.0)
    assert torch.equal(views, banks)
    assert views.data_ptr() != banks.data_ptr()
