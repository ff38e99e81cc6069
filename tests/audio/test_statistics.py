"""Statistics against numpy on all cells at once, and the file that carries them."""

import json

import numpy as np
import pytest
import torch

from cmkd import files
from cmkd.audio import statistics as module
from cmkd.audio.statistics import comparison, drift, statistics, write_statistics
from cmkd.audio.views import plain
from cmkd.errors import DataError

FRONTEND = {"mel_bins": 32, "shift_ms": 10.0, "frames": 24, "sample_rate": 16000}
PUBLISHED = {"mean": -6.6268077, "std": 5.358466, "source": "ast egs/esc50"}


def test_equal_numpy_on_stacked_banks_of_the_training_clips(clips):
    indices = clips.subset(1, "train")
    found = statistics(clips, indices, FRONTEND)
    cells = torch.stack([plain(clips, index, FRONTEND) for index in indices]).double().numpy()
    assert found["mean"] == pytest.approx(cells.mean(), rel=1e-12)
    assert found["std"] == pytest.approx(cells.std(), rel=1e-12)
    assert found["clips"] == len(indices)
    assert found["frames"] == 24 * len(indices)


def test_other_clips_do_not_matter(make_clips):
    clips = make_clips([2000] * 12)
    train = clips.subset(0, "train")
    before = statistics(clips, train, FRONTEND)
    for index in clips.subset(0, "test"):
        clips.waves[index][:] = 0
    assert statistics(clips, train, FRONTEND) == before
    clips.waves[train[0]][:] = 0
    assert statistics(clips, train, FRONTEND) != before


def test_augmentation_does_not_enter(clips, input_part):
    indices = clips.subset(1, "train")
    assert statistics(clips, indices, input_part) == statistics(clips, indices, FRONTEND)


def test_no_clips_or_silence_are_refused(make_clips):
    with pytest.raises(DataError, match="no training clip"):
        statistics(make_clips([800]), np.array([], dtype=np.int64), FRONTEND)
    with pytest.raises(DataError, match="all training clips sound alike"):
        statistics(make_clips([0, 10]), [0, 1], FRONTEND)


@pytest.mark.parametrize("published", [None, PUBLISHED])
def test_the_file_and_the_printed_line(make_clips, tmp_path, monkeypatch, capsys, published):
    clips = make_clips([3000] * 9, {"published_statistics": published} if published else {})
    monkeypatch.setattr(module, "Clips", lambda prepared: clips)
    out = tmp_path / "stats" / "mel32" / "fold-1.json"
    write_statistics(tmp_path, 1, FRONTEND | {"mixup": 0.5}, out)
    record = json.loads(out.read_text())
    expected = statistics(clips, clips.subset(1, "train"), FRONTEND)
    assert {key: record[key] for key in expected} == expected
    assert record["format"] == 1
    assert record["manifest"] == "a" * 64
    assert record["frontend"] == FRONTEND
    assert record["published"] == published
    assert files.sidecar(out).read_text() == files.sha256_file(out) + "\n"
    printed = capsys.readouterr().out.strip().splitlines()
    far = [f"  note: {drift(record)}"] if published else []
    assert printed == [comparison(record), *far]


def test_the_difference_is_ours_minus_theirs():
    record = {"clips": 320, "mean": -6.5, "std": 5.25, "frontend": FRONTEND, "published": PUBLISHED}
    assert comparison(record) == (
        "statistics of 320 training clips (32 mel bins, 10 ms, 24 frames): mean -6.5000, "
        "std 5.2500; against the published constants (ast egs/esc50): mean +0.1268, std -0.1085"
    )
    assert "no published constants" in comparison(record | {"published": None})


AUDIOSET = {"mean": -4.2677393, "std": 4.5689974, "source": "ast"}


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (-4.2677393, 4.5689974, None),
        (-4.56, 4.2, None),
        (-4.58, 4.5689974, "the mean is -0.31 and the std +0 % off the published constants."),
        (-4.2677393, 5.1, "the mean is +0.00 and the std +12 % off"),
        (-3.3834944, 3.8869045, "the mean is +0.88 and the std -15 % off"),
    ],
)
def test_statistics_far_from_the_published_are_explained(mean, std, said):
    found = drift({"mean": mean, "std": std, "published": AUDIOSET})
    assert found.startswith(said) if said else found == ""
    if said:
        assert "re-upload at 32 kHz had mean -3.4 and std 3.9" in found
        assert "ast issues 85 and 108" in found and "Compare results on one copy only" in found


def test_without_published_constants_nothing_is_far():
    assert drift({"mean": 0.0, "std": 1.0, "published": None}) == ""
