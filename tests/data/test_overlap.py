"""Sources that two prepared datasets share, worked by hand."""

import os
from pathlib import Path

import pytest

from cmkd.data import overlap


def manifest(folder: Path, *lines: str) -> Path:
    """Write a manifest of lines "clip split source"."""
    folder.mkdir(exist_ok=True)
    rows = [",".join([c, "p", s, "x", src]) for c, s, src in map(str.split, lines)]
    (folder / "manifest.csv").write_text("\n".join(["clip,path,split,labels,source", *rows, ""]))
    return folder


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """Two folds; the source 7 is in both."""
    return manifest(tmp_path / "folds", "a 1 7", "b 1 8", "c 2 7", "d 2 9")


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A fixed split whose clips are named by their source."""
    return manifest(tmp_path / "split", "7 train me", "8 val me", "9 test you", "10 train you")


def test_a_folds_test_sources_in_a_fixed_splits_training(folds: Path, split: Path) -> None:
    found = [overlap.shared_sources(folds, split, fold, 0, ("source", "clip")) for fold in (1, 2)]
    assert found == [["7"], ["7"]]


def test_a_fixed_splits_test_sources_in_a_folds_training(folds: Path, split: Path) -> None:
    in_columns = ("clip", "source")
    assert overlap.shared_sources(split, folds, 0, 1, in_columns) == ["9"]
    assert overlap.shared_sources(split, folds, 0, 2, in_columns) == []


def test_the_same_fold_of_a_larger_dataset_shares_what_is_in_two_folds(folds: Path) -> None:
    assert overlap.shared_sources(folds, folds, 1, 1) == ["7"]
    assert overlap.sources(folds, 1, "test") == {"7", "8"}
    assert overlap.sources(folds, 1, "train") == {"7", "9"}


def test_a_manifest_that_is_written_anew_is_read_anew(folds: Path) -> None:
    assert overlap.sources(folds, 1, "test") == {"7", "8"}
    manifest(folds, "a 1 70")
    os.utime(folds / "manifest.csv", (1e9, 1e9))
    assert overlap.sources(folds, 1, "test") == {"70"}


def test_only_ids_of_one_kind_are_compared() -> None:
    esc, fsd = {"source_ids": {"freesound": "source"}}, {"source_ids": {"freesound": "clip"}}
    assert overlap.columns(esc, fsd) == ("freesound", "source", "clip")
    assert overlap.columns(esc, {"source_ids": {"youtube": "clip"}}) is None
    assert overlap.columns(esc, {}) is None
