"""ESC-50 and ESC-10 in their published layout (K. J. Piczak, ACM MM 2015): meta/esc50.csv, audio/.

Folds are the published ones. `only_esc10: true` keeps the clips that the table marks as ESC-10.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmkd.data.catalog import Row, locate, needs_recordings
from cmkd.errors import DataError

LAYOUT = "meta/esc50.csv and audio/"
COLUMNS = ("filename", "fold", "category", "esc10", "src_file")


def rows(entry: Mapping[str, Any], data_root: Path | None) -> list[Row]:
    """Return the table's clips; DataError if the table is not under `data_root` or is damaged."""
    if data_root is None:
        raise DataError(needs_recordings(entry, "no data_root says where its recordings are"))
    folder = home(entry, Path(data_root))
    prefix = "" if folder == Path(data_root) else f"{folder.name}/"
    only_esc10 = bool(entry.get("only_esc10"))
    return [
        _row(line, prefix)
        for line in table(folder / "meta" / "esc50.csv")
        if not only_esc10 or line["esc10"] == "True"
    ]


def home(entry: Mapping[str, Any], data_root: Path) -> Path:
    """Return the folder with meta/esc50.csv and audio/: `data_root` or one folder below it."""
    return locate(entry, data_root, lambda folder: [folder] * _is_home(folder), LAYOUT)


def _is_home(folder: Path) -> bool:
    """Tell whether a folder has the published layout."""
    return (folder / "meta" / "esc50.csv").is_file() and (folder / "audio").is_dir()


def table(path: Path) -> list[dict[str, str]]:
    """Read the published table; DataError names a column that is missing."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} lacks the column {missing[0]}: put the published table there.")
        lines = list(reader)
    for number, line in enumerate(lines, start=2):
        if not all(line[name] for name in COLUMNS):
            raise DataError(f"{path}, line {number}: a cell is empty; get the published table.")
    return lines


def _row(line: Mapping[str, str], prefix: str) -> Row:
    """Return one line of the table as a row; the clip's id is its file's stem."""
    name = line["filename"]
    return Row(
        clip=name.rsplit(".", 1)[0],
        path=f"{prefix}audio/{name}",
        split=line["fold"],
        labels=(line["category"],),
        source=line["src_file"],
    )
