import hashlib
import time
from typing import Any

import numpy as np
import pytest

from cmkd.data import toy as reader
from cmkd.data.catalog import Row
from cmkd.errors import ConfigError


def test_a_clip_depends_on_seed_and_id_alone(toy: dict[str, Any]) -> None:
    row = reader.rows(toy, None)[5]
    first = reader.samples(toy, row)
    larger = toy | {"clips_per_class": 99, "folds": [1, 2, 3]}
    assert np.array_equal(first, reader.samples(larger, row))
    assert not np.array_equal(first, reader.samples(toy | {"seed": 4}, row))


def test_samples_stay_the_same_from_version_to_version(toy: dict[str, Any]) -> None:
    # Coarse on purpose: another processor's sine may differ in the last bit of a double.
    wave = reader.samples(toy, Row("rising-00000", "", "1", ("rising",), "rising-00000"))
    coarse = (wave.astype(np.int32) + 128) >> 8
    assert hashlib.sha256(coarse.astype("<i2").tobytes()).hexdigest()[:16] == "ac60048f165de094"


def test_single_label_clips_are_dealt_evenly_to_folds(toy: dict[str, Any]) -> None:
    rows = reader.rows(toy, None)
    counts = {(row.labels, row.split): 0 for row in rows}
    for row in rows:
        counts[row.labels, row.split] += 1
    assert set(counts.values()) == {6} and len(counts) == 6
    assert len({row.clip for row in rows}) == len(rows) == 36


def test_multi_label_clips_have_one_to_three_classes_and_a_fixed_split(
    toy_multi: dict[str, Any],
) -> None:
    rows = reader.rows(toy_multi, None)
    assert {len(row.labels) for row in rows} == {1, 2, 3}
    shares = [sum(row.split == split for row in rows) for split in ("train", "val", "test")]
    assert shares == [36, 12, 12]


@pytest.mark.parametrize("name", sorted(reader.EVENTS))
def test_every_sound_is_audible_varied_and_within_full_scale(
    toy: dict[str, Any], name: str
) -> None:
    rows = [Row(f"{name}-{n}", "", "1", (name,), "") for n in range(8)]
    waves = np.stack([reader.samples(toy, row) for row in rows]).astype(np.float64)
    peaks = np.abs(waves).max(axis=1)
    assert waves.shape == (8, 8000)
    assert peaks.min() > 1000 and peaks.max() < 32767 and len(set(peaks)) == 8
    assert np.abs(np.corrcoef(waves) - np.eye(8)).max() < 0.9


def test_events_rise_above_their_background(toy: dict[str, Any]) -> None:
    # A rising chirp at full ratio must move the spectrum's centre up between its halves.
    random = np.random.default_rng(0)
    for name, sign in (("rising", 1), ("falling", -1)):
        sound = reader.EVENTS[name](random, 8000)
        halves = [np.abs(np.fft.rfft(half)).argmax() for half in (sound[:4000], sound[4000:])]
        assert sign * (halves[1] - halves[0]) > 0


def test_clicks_are_even_in_a_rhythm_and_uneven_otherwise() -> None:
    def spread(name: str) -> float:
        sound = np.abs(reader.EVENTS[name](np.random.default_rng(5), 16000))
        loud = np.flatnonzero(sound > 0.3 * sound.max())
        gaps = np.diff(loud)[np.diff(loud) > 400]
        return float(gaps.std() / gaps.mean())

    assert spread("rhythm") < 0.1 < spread("clicks")


def test_an_unknown_sound_is_named_with_the_nearest(toy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no such toy sound 'rysing', did you mean 'rising'?"):
        reader.rows(toy | {"classes": ["rysing"]}, None)


def test_a_clip_takes_about_two_milliseconds(toy: dict[str, Any]) -> None:
    rows = reader.rows(toy | {"seconds": 2.0}, None)
    start = time.process_time()
    for row in rows:
        reader.samples(toy | {"seconds": 2.0}, row)
    assert (time.process_time() - start) / len(rows) < 0.02  # ten times the usual: a busy machine
