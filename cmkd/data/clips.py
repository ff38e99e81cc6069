"""Prepared clips as one memory-mapped int16 array; needs only numpy and PyYAML beside Python."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd.data import catalog, manifest
from cmkd.errors import DataError, nearest

ROLES = ("train", "val", "test")


class Clips:
    """The clips of one prepared dataset, in the order of manifest.csv.

    Attributes: `ids`, `splits`, `sources` (text arrays [n]); `labels` uint8 [n, classes];
    `classes` (names, in the order of the columns of `labels`); `lengths` int64 [n], in samples;
    `entry` (the dataset's entry from recipe.yaml); `manifest_sha256`.
    """

    def __init__(self, prepared: Path) -> None:
        """Open a prepared folder; DataError if a file is missing, damaged or of another size."""
        self.folder = Path(prepared)
        self.entry = catalog.entry(_recipe_text(self.folder))
        self.classes: tuple[str, ...] = tuple(str(name) for name in self.entry["classes"])
        table = manifest.read_table(self.folder / "manifest.csv", manifest.COLUMNS)
        self.manifest_sha256 = manifest.check_sidecar(self.folder / "manifest.csv")
        self.ids = np.array([line["clip"] for line in table], dtype=np.str_)
        self.splits = np.array([line["split"] for line in table], dtype=np.str_)
        self.sources = np.array([line["source"] for line in table], dtype=np.str_)
        self.labels = self._targets([line["labels"] for line in table])
        self._open_samples()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.ids)

    def wave(self, index: int) -> NDArray[np.int16]:
        """Return a copy of one clip's samples, int16 at 16 kHz."""
        start = int(self._offsets[index])
        return np.array(self._samples[start : start + int(self.lengths[index])], dtype=np.int16)

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

    def _targets(self, labels: Sequence[str]) -> NDArray[np.uint8]:
        """Return 1 where a clip has a class, [n, classes]."""
        column = {name: number for number, name in enumerate(self.classes)}
        targets = np.zeros((len(labels), len(column)), dtype=np.uint8)
        for number, names in enumerate(labels):
            for name in filter(None, names.split(";")):
                if name not in column:
                    clip, table = self.ids[number], self.folder / "manifest.csv"
                    raise DataError(
                        f"{table}: clip {clip} has the class '{name}', which the recipe beside it "
                        f"lacks{nearest(name, column)}; run 'cmkd prepare --again'."
                    )
                targets[number, column[name]] = 1
        return targets

    def _open_samples(self) -> None:
        """Map clips.bin after checking that clips.csv describes it."""
        table = manifest.read_table(self.folder / "clips.csv", manifest.INDEX_COLUMNS)
        self._offsets = np.array([int(line["offset"]) for line in table], dtype=np.int64)
        self.lengths = np.array([int(line["samples"]) for line in table], dtype=np.int64)
        path = self.folder / "clips.bin"
        if not path.is_file():
            raise DataError(f"{path} is missing: run 'cmkd prepare' for this dataset.")
        same_clips = [line["clip"] for line in table] == self.ids.tolist()
        if not same_clips or path.stat().st_size != 2 * int(self.lengths.sum()):
            raise DataError(f"{path} does not fit its tables: run 'cmkd prepare --again'.")
        self._samples = np.memmap(path, dtype="<i2", mode="r")


def _recipe_text(folder: Path) -> str:
    """Return recipe.yaml, which is written last: without it a prepared folder is not finished."""
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise DataError(f"{folder} holds no finished dataset: run 'cmkd prepare' for it.")
    return path.read_text(encoding="utf-8")
