"""Prepared clips, read one by one from one file; needs only numpy and PyYAML beside Python.

A clip takes about 120 bytes of memory. Samples are read, not mapped: pages of a mapped file count
as the process's own until the system takes them back, which looks like growth and may end a job.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data import catalog, manifest
from cmkd.data.labels import Labels
from cmkd.errors import DataError, nearest

ROLES = ("train", "val", "test")


class Clips:
    """The clips of one prepared dataset, in the order of manifest.csv.

    Attributes: `ids`, `splits`, `sources` (text arrays [n]); `labels` (`labels[indices]` is uint8
    [indices, classes], see `cmkd.data.labels`); `classes` (names, in the order of the columns of
    `labels`); `lengths` int64 [n], in samples; `entry` (the dataset's entry from recipe.yaml);
    `manifest_sha256`.
    """

    def __init__(self, prepared: Path) -> None:
        """Open a prepared folder; DataError if a file is missing, damaged or of another size."""
        self.folder = Path(prepared)
        self.entry = catalog.entry(_recipe_text(self.folder))
        self.classes: tuple[str, ...] = tuple(str(name) for name in self.entry["classes"])
        self._read_manifest()
        self.manifest_sha256 = manifest.check_sidecar(self.folder / "manifest.csv")
        self._open_samples()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.ids)

    def wave(self, index: int) -> NDArray[np.int16]:
        """Return a copy of one clip's samples, int16 at 16 kHz."""
        samples = np.empty(int(self.lengths[index]), dtype="<i2")
        if os.preadv(self._file, [samples], 2 * int(self._offsets[index])) != samples.nbytes:
            path, clip = self.folder / "clips.bin", self.ids[index]
            raise DataError(f"{path} ends within clip {clip}: run 'cmkd prepare --again'.")
        return samples.astype(np.int16, copy=False)

    def subset(self, fold: int, role: str) -> NDArray[np.int64]:
        """Return the indices of the clips that train, validate or test in a fold.

        With folds, `test` is the fold named, `train` all others and `val` empty; with a fixed
        split, fold is 0 and the splits of these names are meant. DataError for anything else.
        """
        if role not in ROLES:
            raise DataError(f"unknown role '{role}'{nearest(role, ROLES)}")
        names = catalog.splits(self.entry)
        if not self.entry.get("folds"):
            names = ("0",)
        if str(fold) not in names:
            known = ", ".join(names)
            raise DataError(f"dataset {self.entry['name']} has no fold {fold}; it has: {known}.")
        if not self.entry.get("folds"):
            return np.flatnonzero(self.splits == role)
        if role == "val":
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero((self.splits == str(fold)) == (role == "test"))

    def _read_manifest(self) -> None:
        """Read the columns of manifest.csv that training needs, a piece of the table at a time."""
        texts: dict[str, list[NDArray[np.str_]]] = {"clip": [], "split": [], "source": []}
        columns = {name: number for number, name in enumerate(self.classes)}

        def numbers() -> Iterator[list[int]]:
            for lines in manifest.read_table(self.folder / "manifest.csv", manifest.COLUMNS):
                table = dict(zip(manifest.COLUMNS, zip(*lines, strict=True), strict=True))
                for name, pieces in texts.items():
                    pieces.append(np.array(table[name], dtype=np.str_))
                for clip, names in zip(table["clip"], table["labels"], strict=True):
                    yield self._columns(clip, names, columns)

        self.labels = Labels.of(numbers(), len(columns))
        self.ids, self.splits, self.sources = map(manifest.text_array, texts.values())

    def _columns(self, clip: str, names: str, columns: dict[str, int]) -> list[int]:
        """Return the columns of a clip's classes; DataError for one that the recipe lacks."""
        found = [columns.get(name, -1) for name in names.split(";") if name]
        if -1 in found:
            name = [name for name in names.split(";") if name][found.index(-1)]
            table = self.folder / "manifest.csv"
            raise DataError(
                f"{table}: clip {clip} has the class '{name}', which the recipe beside it "
                f"lacks{nearest(name, columns)}; run 'cmkd prepare --again'."
            )
        return found

    def _open_samples(self) -> None:
        """Open clips.bin after checking that clips.csv describes it."""
        starts, lengths, at, same = [], [], 0, True
        for lines in manifest.read_table(self.folder / "clips.csv", manifest.INDEX_COLUMNS):
            clips, offsets, samples = zip(*lines, strict=True)
            same &= self.ids[at : at + len(clips)].tolist() == list(clips)
            at += len(clips)
            starts.append(_whole(offsets))
            lengths.append(_whole(samples))
        self._offsets = np.concatenate([_whole(()), *starts])
        self.lengths = np.concatenate([_whole(()), *lengths])
        path = self.folder / "clips.bin"
        if not path.is_file():
            raise DataError(f"{path} is missing: run 'cmkd prepare' for this dataset.")
        same &= at == len(self.ids) and path.stat().st_size == 2 * int(self.lengths.sum())
        if not same:
            raise DataError(f"{path} does not fit its tables: run 'cmkd prepare --again'.")
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)


def _whole(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return whole numbers as an array."""
    return np.array([int(text) for text in texts], dtype=np.int64)


def _recipe_text(folder: Path) -> str:
    """Return recipe.yaml, which is written last: without it a prepared folder is not finished."""
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise DataError(f"{folder} holds no finished dataset: run 'cmkd prepare' for it.")
    return path.read_text(encoding="utf-8")
