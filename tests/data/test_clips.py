import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmkd import files
from cmkd.data import toy as reader
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.errors import DataError

Text = Callable[[dict[str, Any]], str]


@pytest.fixture
def prepared(toy: dict[str, Any], text: Text, tmp_path: Path) -> Path:
    prepare(text(toy), tmp_path / "toy", None, workers=1)
    return tmp_path / "toy"


def test_clips_are_what_the_reader_made(prepared: Path, toy: dict[str, Any]) -> None:
    clips = Clips(prepared)
    rows = sorted(reader.rows(toy, None), key=lambda row: row.clip)
    assert clips.ids.tolist() == [row.clip for row in rows] and len(clips) == 36
    assert clips.classes == ("rising", "clicks", "hiss")
    for index in (0, 7, 35):
        assert np.array_equal(clips.wave(index), reader.samples(toy, rows[index]))
        assert [clips.classes[k] for k in np.flatnonzero(clips.labels[index])] == list(
            rows[index].labels
        )
    assert clips.labels.dtype == np.uint8 and (clips.labels.sum(axis=1) == 1).all()
    assert clips.sources.tolist() == clips.ids.tolist()
    assert clips.manifest_sha256 == files.sha256_file(prepared / "manifest.csv")


def test_a_wave_is_a_copy_that_may_be_written(prepared: Path) -> None:
    clips = Clips(prepared)
    before = clips.wave(3)
    clips.wave(3)[:] = 0
    assert np.array_equal(clips.wave(3), before) and before.any()


def test_a_fold_tests_and_the_others_train(prepared: Path) -> None:
    clips = Clips(prepared)
    test, train, val = (clips.subset(2, role) for role in ("test", "train", "val"))
    assert set(clips.splits[test]) == {"2"} and set(clips.splits[train]) == {"1"}
    assert len(test) == len(train) == 18 and val.size == 0
    assert {array.dtype for array in (test, train, val)} == {np.dtype(np.int64)}


def test_a_fixed_split_goes_by_name(toy_multi: dict[str, Any], text: Text, tmp_path: Path) -> None:
    prepare(text(toy_multi), tmp_path, None, workers=1)
    clips = Clips(tmp_path)
    parts = [clips.subset(0, role) for role in ("train", "val", "test")]
    assert [len(part) for part in parts] == [36, 12, 12]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(60))
    assert set(clips.labels.sum(axis=1)) == {1, 2, 3}
    with pytest.raises(DataError, match="has no fold 1; it has: 0"):
        clips.subset(1, "train")


def test_unknown_folds_and_roles_are_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match="dataset toy has no fold 3; it has: 1, 2"):
        Clips(prepared).subset(3, "test")
    with pytest.raises(DataError, match="unknown role 'tests', did you mean 'test'?"):
        Clips(prepared).subset(1, "tests")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("recipe.yaml", "holds no finished dataset: run 'cmkd prepare'"),
        ("manifest.csv", "manifest.csv is missing: run 'cmkd prepare'"),
        ("clips.bin", "clips.bin is missing: run 'cmkd prepare'"),
        ("manifest.csv.sha256", "does not match manifest.csv.sha256"),
    ],
)
def test_an_unfinished_folder_is_refused(prepared: Path, name: str, said: str) -> None:
    (prepared / name).unlink()
    with pytest.raises(DataError, match=said):
        Clips(prepared)


def test_changed_files_are_refused(prepared: Path) -> None:
    samples = (prepared / "clips.bin").read_bytes()
    (prepared / "clips.bin").write_bytes(samples[:-2])
    with pytest.raises(DataError, match="does not fit its tables"):
        Clips(prepared)
    (prepared / "clips.bin").write_bytes(samples)
    table = prepared / "clips.csv"
    table.write_text(table.read_text().replace("8000", "7999", 1))
    with pytest.raises(DataError, match=r"clips\.csv does not match"):
        Clips(prepared)


def test_a_recipe_without_a_clips_class_is_refused(
    prepared: Path, toy: dict[str, Any], text: Text
) -> None:
    (prepared / "recipe.yaml").write_text(text(toy | {"classes": ["rising", "clicks"]}))
    with pytest.raises(DataError, match="clip hiss-00000 has the class 'hiss', which the recipe"):
        Clips(prepared)


def test_training_needs_no_decoder() -> None:
    heavy = "{'soundfile', 'torch', 'torchaudio', 'pandas', 'scipy', 'jsonschema'}"
    code = f"import sys, cmkd.data.clips; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_shrinks_while_it_is_read_is_said(prepared: Path) -> None:
    clips = Clips(prepared)
    samples = (prepared / "clips.bin").read_bytes()
    with open(prepared / "clips.bin", "r+b") as file:
        file.truncate(len(samples) - 2)
    with pytest.raises(DataError, match=r"clips\.bin ends within clip rising-00011"):
        clips.wave(35)
    assert len(clips.wave(34)) == 8000


def test_a_table_of_many_pieces_is_read_whole(
    toy: dict[str, Any], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Clips(prepared)
    monkeypatch.setattr("cmkd.data.manifest.PIECE", 7)
    pieces = Clips(prepared)
    for name in ("ids", "splits", "sources", "lengths"):
        assert getattr(whole, name).tolist() == getattr(pieces, name).tolist()
    assert whole.labels.tolist() == pieces.labels.tolist()
    assert np.array_equal(whole.wave(30), pieces.wave(30))
