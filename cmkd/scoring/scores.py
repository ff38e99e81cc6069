"""Files of scores: NumPy archives without objects whose bytes depend on their content alone."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmkd import files

# The earliest date that a zip archive can hold: a file's bytes must not tell when it was made.
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays so that np.load(path, allow_pickle=False) reads them; ValueError for objects."""
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Return the arrays of a file by name, None where it is absent or damaged."""
    try:
        # From memory, since NumPy leaves a damaged archive open.
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return None


def write_scores(
    path: Path,
    ids: npt.NDArray[np.str_],
    classes: Sequence[str],
    logits: npt.NDArray[np.float32],
    targets: npt.NDArray[np.uint8],
    sources: npt.NDArray[np.str_],
    further: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write one split's scores: ids, sources [n], classes [c], logits and targets [n, c].

    `further` arrays stand behind these, for whoever knows their names.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids": np.asarray(ids, dtype=np.str_),
        "classes": np.asarray(classes, dtype=np.str_),
        "logits": np.asarray(logits, dtype=np.float32),
        "targets": np.asarray(targets, dtype=np.uint8),
        "sources": np.asarray(sources, dtype=np.str_),
    }
    write_npz(path, arrays | dict(further or {}))


def ids_hash(ids: Sequence[str] | npt.NDArray[np.str_]) -> str:
    """Return the sha256 of the sorted ids joined by newlines: which clips a number is about."""
    return files.sha256_text("\n".join(sorted(str(name) for name in ids)))
