"""AudioSet (Gemmeke et al., ICASSP 2017): published segment lists and the user's own recordings.

Google publishes ids, times and labels, not the audio. Recordings are found by YouTube id anywhere
below `data_root` (`cmkd.data.youtube`), one file a segment, cut to it already: a longer one is not
cut here, since nobody can tell whether it begins at the segment or at the video; it counts as
undecodable. The entry's `lists` name the files of each split.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from cmkd.data import youtube
from cmkd.data.catalog import Row, Rows, locate, needs_recordings, splits
from cmkd.errors import ConfigError, DataError, nearest

LONGEST_SECONDS = 11.0  # segments have at most 10 s; tools that cut them round up
HEADER_LINES = 3
COUNT = re.compile(r"num_segs=(\d+)")
LINE = re.compile(r'([\w-]{11}),\s*(\d+\.\d+),\s*(\d+\.\d+),\s*"([^",]+(?:,[^",]+)*)"', re.ASCII)
REMEDY = "get the published list anew, and open it in no spreadsheet"


class Segment(NamedTuple):
    """A line of a list: YouTube id, where it begins in its video in seconds, ids of its classes."""

    clip: str
    start: float
    mids: tuple[str, ...]


def rows(entry: Mapping[str, Any], data_root: Path | None) -> Rows:
    """Return every segment of the entry's lists; one without a recording has the path ID.*

    Raises:
        DataError: a list is absent, or damaged, with its file and line.
        ConfigError: the entry lacks `lists` or `mids`.
    """
    if data_root is None:
        raise DataError(needs_recordings(entry, "no data_root says where its recordings are"))
    names, starts, found = _names(entry), {}, Rows()
    same: dict[tuple[str, ...], tuple[str, ...]] = {}
    for split, lists in _lists(entry).items():
        for name in lists:
            for clip, start, mids in segments(find_list(entry, Path(data_root), name), names):
                labels = tuple(names[mid] for mid in mids)
                starts[clip] = start
                found.append(Row(clip, f"{clip}.*", split, same.setdefault(labels, labels), clip))
    there = youtube.find(Path(data_root), starts)
    for number, row in enumerate(found):
        found[number] = replace(row, path=there.paths.get(row.clip, row.path))
    found.notes = there.notes
    return found


def _names(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of each class by its id in the ontology."""
    mids = [str(mid) for mid in entry.get("mids", ())]
    if len(mids) != len(entry["classes"]):
        raise ConfigError(
            f"dataset {entry['name']}: reader audioset needs an id (mids) for each of its "
            f"{len(entry['classes'])} classes and has {len(mids)}; name classes/audioset.csv"
        )
    return dict(zip(mids, map(str, entry["classes"]), strict=True))


def _lists(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of the lists of each split."""
    found = entry.get("lists")
    if not isinstance(found, Mapping) or set(found) != set(splits(entry)):
        raise ConfigError(
            f"dataset {entry['name']}: 'lists' must name the segment lists of each of its splits "
            f"({', '.join(splits(entry))}), as in {{train: [balanced_train_segments.csv], ...}}"
        )
    return {split: [str(name) for name in files] for split, files in found.items()}


def find_list(entry: Mapping[str, Any], data_root: Path, name: str) -> Path:
    """Return a list's path: in `data_root` or one folder below it."""

    def look(folder: Path) -> list[Path]:
        return [folder / name] if (folder / name).is_file() else []

    return locate(entry, data_root, look, name, "keep one")


def segments(path: Path, names: Mapping[str, str]) -> Iterator[Segment]:
    """Yield a published list's segments, after its three header lines; DataError names the line."""
    count = 0
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        wanted = _header(path, [file.readline() for _ in range(HEADER_LINES)])
        for number, line in enumerate(file, start=HEADER_LINES + 1):
            if line.strip():
                yield _segment(line.strip(), names, f"{path}, line {number}")
                count += 1
    if count != wanted:
        raise DataError(
            f"{path} has {count} segments where its second line says {wanted}: it was cut off or "
            f"added to; {REMEDY}."
        )


def _header(path: Path, lines: list[str]) -> int:
    """Return how many segments a list's header promises."""
    said = COUNT.search(lines[1])
    if said is None or not all(line.lstrip('"').startswith("# ") for line in lines):
        raise DataError(
            f"{path}, lines 1 to {HEADER_LINES}: the three lines of the published header (# ... "
            f"num_segs=...) are not there; {REMEDY}."
        )
    return int(said[1])


def _segment(line: str, names: Mapping[str, str], where: str) -> Segment:
    """Return a line as a segment."""
    match = LINE.fullmatch(line)
    if match is None:
        _refuse(line, where)
    clip, start, _, mids = match.groups()
    for mid in mids.split(","):
        if mid not in names:
            raise DataError(
                f"{where}: '{mid}' is no class of this dataset{nearest(mid, names)}; {REMEDY}."
            )
    return Segment(clip, float(start), tuple(mids.split(",")))


def _refuse(line: str, where: str) -> NoReturn:
    """Say what a spreadsheet, most likely, did to a line."""
    cells = [cell.strip() for cell in line.split(",")]
    if not re.fullmatch(r"[\w-]{11}", cells[0], re.ASCII):
        problem = f"'{cells[0]}' is no YouTube id of 11 characters"
    elif len(cells) < 4 or not all(re.fullmatch(r"\d+\.\d+", cell) for cell in cells[1:3]):
        problem = f"'{', '.join(cells[1:3])}' is no begin and end in seconds such as 30.000, 40.000"
    else:
        problem = "its classes do not stand in double quotes"
    raise DataError(f"{where}: {problem}; {REMEDY}.")
