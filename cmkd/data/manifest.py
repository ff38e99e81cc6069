"""manifest.csv (a row a clip) and clips.csv (where its samples lie): written, read, checked."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
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


def manifest_text(rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> str:
    """Return manifest.csv; seconds are written to the microsecond."""
    lines = []
    for row in rows:
        clip = decoded[row.clip]
        labels = ";".join(row.labels)
        facts = (f"{clip.seconds:.6f}", clip.sample_rate, clip.channels, clip.sha256)
        lines.append((row.clip, row.path, row.split, labels, row.source, *facts))
    return _csv_text(COLUMNS, lines)


def index_text(rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> str:
    """Return clips.csv: the first sample of each clip in clips.bin and how many it has."""
    lines, offset = [], 0
    for row in rows:
        lines.append((row.clip, offset, decoded[row.clip].samples))
        offset += decoded[row.clip].samples
    return _csv_text(INDEX_COLUMNS, lines)


def _csv_text(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return CSV text with Unix line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return out.getvalue()


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a prepared table; DataError if it is missing, changed since, or has other columns."""
    if not path.is_file():
        raise DataError(f"{path} is missing: run 'cmkd prepare' for this dataset.")
    check_sidecar(path)
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise DataError(f"{path} has other columns than expected: run 'cmkd prepare --again'.")
        return list(reader)


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
