"""Views: the same bits for every batch size, and the textbook's numbers."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from cmkd.audio.fbank import fbank
from cmkd.audio.views import Banks, Views, batches, plain
from cmkd.errors import ConfigError

RECIPES = st.fixed_dictionaries(
    {
        "sample_rate": st.just(16000),
        "mel_bins": st.sampled_from([16, 32]),
        "shift_ms": st.sampled_from([10.0, 20.0]),
        "frames": st.sampled_from([5, 24, 40]),
        "mixup": st.sampled_from([0.0, 0.5, 1.0]),
        "mixup_alpha": st.sampled_from([0.5, 10.0]),
        "frequency_mask": st.sampled_from([0, 4, 40]),
        "time_mask": st.sampled_from([0, 6, 60]),
        "noise": st.sampled_from([0.0, 0.1]),
        "roll": st.sampled_from([0, 10]),
        "sampling": st.sampled_from(["uniform", "balanced"]),
    }
)
TEACHINGS = st.sampled_from([None, "consistent", "independent", "clean"])
OFF = {"mixup": 0.0, "frequency_mask": 0, "time_mask": 0, "noise": 0.0, "roll": 0}


def whole(views, epoch: int, size: int):
    """Return an epoch's student, teacher and targets, made in batches of a size."""
    made = views.epoch(epoch)
    parts = [made.batch(n, min(n + size, len(made))) for n in range(0, len(made), size)]
    teacher = None if parts[0].teacher is None else torch.cat([p.teacher for p in parts])
    return torch.cat([p.student for p in parts]), teacher, torch.cat([p.targets for p in parts])


def same(one, other) -> bool:
    """Tell whether two epochs are equal to the bit."""
    return all(
        (a is None and b is None) or torch.equal(a.view(torch.int32), b.view(torch.int32))
        for a, b in zip(one, other, strict=True)
    )


@settings(max_examples=25, deadline=None)
@given(RECIPES, TEACHINGS, st.integers(0, 9), st.integers(0, 2), st.integers(0, 30))
def test_bits_do_not_depend_on_batch_size_or_memory(clips, part, teaching, seed, depth, epoch):
    indices = clips.subset(1, "train")
    place = (seed, 1, depth, 4.0, teaching)
    views = Views(clips, indices, part, *place)
    expected = whole(views, epoch, 32)
    for size in (1, 5, 16):
        assert same(whole(views, epoch, size), expected)
    for cache_bytes in (0, 7 * 4 * part["frames"] * part["mel_bins"]):
        bounded = Views(clips, indices, part, *place, cache_bytes=cache_bytes)
        assert same(whole(bounded, epoch, 5), expected)


@settings(max_examples=15, deadline=None)
@given(RECIPES, st.sampled_from(["frequency_mask", "time_mask", "noise", "roll"]))
def test_switching_one_off_is_the_same_view_without_it(clips, part, off):
    part = OFF | part | {"mixup": 0.0}
    indices = clips.subset(1, "train")
    on, without = (Views(clips, indices, p, 0, 1, 0, 4.0).epoch(0) for p in (part, part | {off: 0}))
    assert all(map(np.array_equal, on.draws.student, without.draws.student))
    assert np.array_equal(on.draws.order, without.draws.order)
    one, other = on.batch(0, 9), without.batch(0, 9)
    assert torch.equal(one.targets, other.targets)
    if not part[off]:
        assert torch.equal(one.student, other.student)
    elif off == "roll":
        by = np.floor(on.draws.student.roll[:9] * 2.0 * part["roll"]).astype(int) - part["roll"]
        rolled = [torch.roll(v, int(n), 0) for v, n in zip(other.student, by, strict=True)]
        assert torch.equal(one.student, torch.stack(rolled))
    elif off != "noise" and not part["noise"]:
        changed = one.student != other.student
        assert (one.student[changed] == 0).all()


def textbook(clips, indices, part, drawn, at):
    """Return one position's mixed bank by torchaudio, padded or cut."""
    first = clips.wave(indices[drawn.order[at]]) / 32768
    if drawn.mixes[at] < part["mixup"]:
        partner = clips.wave(indices[drawn.partner[at]]) / 32768
        fitted = np.zeros_like(first)
        fitted[: len(partner)] = partner[: len(first)]
        share = float(drawn.coefficient[at])
        first = share * first + (1 - share) * fitted
    result = torch.zeros(part["frames"], part["mel_bins"])
    if len(first) >= 400:
        made = kaldi.fbank(
            torch.from_numpy(first).float()[None],
            htk_compat=True,
            window_type="hanning",
            num_mel_bins=part["mel_bins"],
            frame_shift=part["shift_ms"],
        )[: part["frames"]]
        result[: len(made)] = made
    return result


@pytest.mark.parametrize("mixup", [0.0, 0.5, 1.0])
def test_banks_equal_the_textbook(clips, input_part, mixup):
    part = input_part | OFF | {"mixup": mixup}
    indices = clips.subset(0, "train")
    epoch = Views(clips, indices, part, 0, 0, 0, 4.0).epoch(3)
    batch = epoch.batch(0, len(epoch))
    mixed = epoch.draws.mixes < mixup
    assert mixed.mean() == pytest.approx(mixup, abs=0.25)
    for at, view in enumerate(batch.student):
        expected = textbook(clips, indices, part, epoch.draws, at)
        torch.testing.assert_close(view, expected, rtol=0, atol=2e-3)
        share = float(epoch.draws.coefficient[at]) if mixed[at] else 1.0
        labels = clips.labels[indices].astype(np.float64)
        first, partner = labels[epoch.draws.order[at]], labels[epoch.draws.partner[at]]
        target = share * first + (1 - share) * partner
        np.testing.assert_allclose(batch.targets[at], target, atol=1e-6)
    assert np.array_equal(batch.clips, indices[epoch.draws.order])


def test_compact_labels_give_the_targets_of_a_table(make_clips, input_part):
    from cmkd.data.labels import Labels

    table, compact = make_clips([900] * 12), make_clips([900] * 12)
    compact.labels = Labels.of([np.flatnonzero(row).tolist() for row in table.labels], 4)
    part, indices = input_part | {"sampling": "balanced"}, table.subset(0, "train")
    batches = [
        Views(clips, indices, part, 0, 0, 0, 4.0).epoch(1).batch(0, len(indices))
        for clips in (table, compact)
    ]
    assert torch.equal(batches[0].targets, batches[1].targets)
    assert np.array_equal(batches[0].clips, batches[1].clips)


def test_teaching_modes(clips, input_part):
    indices = clips.subset(0, "train")

    def batch(teaching, part):
        return Views(clips, indices, part, 0, 0, 1, 4.0, teaching).epoch(0).batch(2, 14)

    alone = batch(None, input_part)
    assert alone.teacher is None
    consistent = batch("consistent", input_part)
    assert consistent.teacher is consistent.student
    independent, clean = batch("independent", input_part), batch("clean", input_part)
    for other in (consistent, independent, clean):
        assert torch.equal(other.student, alone.student)
        assert torch.equal(other.targets, alone.targets)
    assert not torch.equal(independent.teacher, independent.student)
    # The same clips and mixup: without the looks all three teachers see the same.
    unlooked = input_part | {key: 0 for key in OFF if key != "mixup"}
    assert torch.equal(clean.teacher, batch(None, unlooked).student)
    assert torch.equal(batch("independent", unlooked).teacher, clean.teacher)


def test_noise_is_at_most_a_tenth_of_two_deviations_of_the_fold(clips, input_part):
    part = OFF | {key: input_part[key] for key in ("mel_bins", "shift_ms", "frames")}
    quiet, noisy = (
        Views(clips, range(40), part | {"noise": noise}, 0, 0, 0, 4.0).epoch(0)
        for noise in (0.0, 0.1)
    )
    added = noisy.batch(0, 40).student - quiet.batch(0, 40).student
    drawn = torch.from_numpy(noisy.draws.student.noise[:, 1])
    largest, mean = added.amax(dim=(1, 2)), added.mean(dim=(1, 2))
    torch.testing.assert_close(largest, drawn * 0.1 * 2 * 4.0, rtol=0.02, atol=1e-4)
    torch.testing.assert_close(mean, drawn * 0.1 * 4.0, rtol=0.1, atol=1e-4)
    assert added.min() > -1e-5


def test_unknown_teaching_is_refused(clips, input_part):
    with pytest.raises(ConfigError, match="'consistant', did you mean 'consistent'"):
        Views(clips, [3, 4], input_part, 0, 0, 0, 4.0, "consistant")


def test_balanced_sampling_prefers_rare_classes(make_clips, input_part):
    clips = make_clips([400] * 64)
    clips.labels[:] = 0
    clips.labels[:, 0] = 1
    clips.labels[:8] = [0, 1, 0, 0]
    views = Views(clips, range(64), input_part | {"sampling": "balanced"}, 0, 0, 0, 4.0)
    drawn = np.concatenate([views.epoch(epoch).draws.order for epoch in range(30)])
    # 8 clips of 1000 / 8 and 56 clips of 1000 / 56: each class half of the time.
    assert (drawn < 8).mean() == pytest.approx(0.5, abs=0.05)


def test_memory_is_bounded_and_never_written_by_augmentation(clips, input_part):
    part = input_part | {"mixup": 0.0}
    row = 4 * part["frames"] * part["mel_bins"]
    views = Views(clips, range(10, 20), part, 0, 0, 0, 4.0, cache_bytes=7 * row + 3)
    first = views.epoch(0).batch(0, 10).student.clone()
    assert views.banks._cache.numel() * 4 == 7 * row
    views.epoch(1).batch(0, 10)
    assert torch.equal(views.epoch(0).batch(0, 10).student, first)
    expected = torch.stack([plain(clips, index, part) for index in range(10, 20)])
    assert torch.equal(views.banks.rows(np.arange(10)), expected)


def test_filter_banks_in_memory_are_made_once(clips, input_part, monkeypatch):
    views = Views(clips, range(10, 20), input_part | {"mixup": 0.0}, 0, 0, 0, 4.0)
    views.epoch(0).batch(0, 10)

    def refused(*_):
        raise RuntimeError("made again")

    monkeypatch.setattr(views.banks, "_make", refused)
    assert len(views.epoch(1).batch(0, 10).student) == 10


def test_plain_pads_with_zeros_and_cuts(clips, input_part):
    part = input_part | {"frames": 12}
    for index, frames in ((0, 0), (1, 0), (2, 1), (39, 12)):
        view = plain(clips, index, part)
        wave = torch.from_numpy(clips.wave(index).astype(np.float32) / 32768)[None]
        made = fbank(wave, mel_bins=32)[0, :12]
        assert len(made) == frames
        assert torch.allclose(view[:frames], made, rtol=0, atol=1e-5)
        assert (view[frames:] == 0).all()


def test_batches_are_the_clips_in_order(clips, input_part):
    indices = np.array([7, 3, 30, 12, 5])
    parts = list(batches(clips, indices, input_part, 2))
    assert [len(part) for part in parts] == [2, 2, 1]
    expected = torch.stack([plain(clips, index, input_part) for index in indices])
    assert torch.equal(torch.cat(parts), expected)


def test_padded_waves_as_on_a_gpu_give_the_same_banks(clips, input_part):
    banks = Banks(clips, range(40), input_part)
    waves = [banks.wave(number) for number in range(40)]
    one, other = banks._make(waves), banks._make_padded(waves)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    assert torch.equal(one == 0, other == 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_batch_size_does_not_matter_and_draws_are_the_same(clips, input_part):
    views = [Views(clips, range(40), input_part, 0, 0, 0, 4.0, device=d) for d in ("cuda", "cpu")]
    on_gpu = whole(views[0], 0, 32)
    assert same(whole(views[0], 0, 5), on_gpu)
    expected = whole(views[1], 0, 32)
    torch.testing.assert_close(on_gpu[0].cpu(), expected[0], rtol=0, atol=1e-2)
    assert torch.equal(on_gpu[2].cpu(), expected[2])


def test_training_needs_only_numpy_and_torch():
    code = """
import sys
import cmkd.audio.statistics, cmkd.audio.views
heavy = {"torchaudio", "scipy", "pandas", "soundfile", "sklearn", "timm", "jsonschema"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
