"""manifest.csv (a row a clip) and clips.csv (where its samples lie): written, read, checked."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmkd import files
from cmkd.data.catalog import Row
from cmkd.errors import DataError

COLUMNS = (
    "clip",
    "path",
    "split",
    "labels",
    "source",
    "seconds",
    "sample_rate",
    "channels",
    "sha256",
)
INDEX_COLUMNS = ("clip", "offset", "samples")
PIECE = 4096  # lines that are held as text at a time


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding told of one clip.

    `samples` counts 16 kHz samples; `seconds`, `sample_rate` and `channels` are the recording's
    own; `sha256` is that of the int16 little-endian samples; `scale` is what they were divided by
    to fit full scale; `clipped` counts samples beyond it after resampling; `problem` is a
    sentence's end if the clip cannot be used, "" otherwise.
    """

    clip: str
    samples: int = 0
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    sha256: str = ""
    scale: float = 1.0
    clipped: int = 0
    notes: tuple[str, ...] = ()
    problem: str = ""


def write_manifest(path: Path, rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> None:
    """Write manifest.csv; seconds are written to the microsecond."""
    _write_table(path, COLUMNS, (_line(row, decoded[row.clip]) for row in rows))


def _line(row: Row, clip: Decoded) -> tuple[object, ...]:
    """Return a clip's line of manifest.csv."""
    facts = (f"{clip.seconds:.6f}", clip.sample_rate, clip.channels, clip.sha256)
    return (row.clip, row.path, row.split, ";".join(row.labels), row.source, *facts)


def write_index(path: Path, rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> None:
    """Write clips.csv: the first sample of each clip in clips.bin and how many it has."""
    _write_table(path, INDEX_COLUMNS, _index(rows, decoded))


def _index(rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> Iterator[tuple[object, ...]]:
    """Yield each clip's line of clips.csv."""
    offset = 0
    for row in rows:
        samples = decoded[row.clip].samples
        yield row.clip, offset, samples
        offset += samples


def _write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Write CSV with Unix line ends, line by line."""
    with (
        files.replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def read_table(path: Path, columns: Sequence[str]) -> Iterator[list[list[str]]]:
    """Yield the lines of a prepared table, some at a time.

    DataError if the table is missing, was changed since, or has other columns.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: run 'cmkd prepare' for this dataset.")
    check_sidecar(path)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        damaged = f"{path} has other columns than expected: run 'cmkd prepare --again'."
        if tuple(next(reader, ())) != tuple(columns):
            raise DataError(damaged)
        while lines := list(islice(reader, PIECE)):
            if any(len(line) != len(columns) for line in lines):
                raise DataError(damaged)
            yield lines


def text_array(pieces: Iterable[NDArray[np.str_]]) -> NDArray[np.str_]:
    """Return pieces of a column as one array; the longest text sets its width."""
    return np.concatenate([np.empty(0, dtype=np.str_), *pieces])


def check_sidecar(path: Path) -> str:
    """Return the sha256 of a prepared file; DataError if the file beside it names another."""
    digest = files.sha256_file(path)
    beside = files.sidecar(path)
    if not beside.is_file() or beside.read_text(encoding="utf-8").strip() != digest:
        raise DataError(
            f"{path} does not match {beside.name}: it was changed or cut off; "
            "run 'cmkd prepare --again'."
        )
    return digest
