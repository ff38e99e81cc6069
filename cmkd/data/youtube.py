"""Recordings of YouTube segments in a tree of any shape, found by the id in the file's name.

A name is an id of 11 characters (which may begin with "-" and hold "_"), an optional `Y` before it
(PANNs) and optional times behind it: `_30.000`, `_30`, `_30000_40000` (milliseconds), `_30.0-40.0`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cmkd.errors import DataError

# What libsndfile reads, and behind it what people have too: decoding says what to do with those.
READ = ("wav", "flac", "ogg", "opus", "oga", "mp3", "aiff", "aif", "au", "w64", "rf64", "caf")
UNREAD = ("m4a", "mp4", "aac", "webm", "mkv", "wma")
TIMES = r"(?:_(\d+(?:\.\d+)?)(?:[_-]\d+(?:\.\d+)?)?)?"
# At most one of the two fits: the times' "_" stands behind 11 characters, or behind Y and 11.
NAMES = [re.compile(rf"{before}([\w-]{{11}}){TIMES}", re.ASCII) for before in ("", "Y")]
OTHER_TIMES = 1.0  # seconds by which a file's begin may differ from the list's
NAMED = 3


class Found(NamedTuple):
    """The path of each id, relative to the tree, and what is worth saying: (kind, sentence)."""

    paths: dict[str, str]
    notes: tuple[tuple[str, str], ...]


def find(root: Path, starts: Mapping[str, float]) -> Found:
    """Look for the recordings of ids, whose segments begin at `starts` seconds, below a folder.

    Of several files for one id the first is taken, those that libsndfile reads before others, by
    path; a file whose name has other times than its segment is another segment's.
    """
    found: dict[str, str] = {}
    further: list[str] = []
    others: list[str] = []
    for path in walk(root):
        clip, start = read_name(path, starts)
        if clip is None:
            continue
        if start is not None and not _begins(start, starts[clip]):
            others.append(path)
        elif clip in found:
            further.append(max(path, found[clip], key=_rank))
            found[clip] = min(path, found[clip], key=_rank)
        else:
            found[clip] = path
    return Found(found, tuple(_notes(further, others)))


def walk(
    root: Path, inside: str = "", seen: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it, sorted in each folder.

    Links to folders are followed; a folder inside itself is not. DataError for one that cannot be
    read.
    """
    try:
        status = os.stat(root / inside)
        here = (status.st_dev, status.st_ino)
        if here in seen:
            return
        with os.scandir(root / inside) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise DataError(f"folder {root / inside} cannot be read: {error.strerror}.") from None
    for name, is_folder in names:
        path = f"{inside}/{name}" if inside else name
        if is_folder:
            yield from walk(root, path, seen | {here})
        else:
            yield path


def read_name(path: str, known: Mapping[str, float]) -> tuple[str | None, float | None]:
    """Return the known id in a recording's name and the time behind it, None where either lacks."""
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    if suffix.lower() not in (*READ, *UNREAD):
        return None, None
    for form in NAMES:
        match = form.fullmatch(stem)
        if match and match[1] in known:
            # The same text as the list's, so that two million ids are in memory once.
            return match[1], None if match[2] is None else float(match[2])
    return None, None


def _begins(named: float, listed: float) -> bool:
    """Tell whether a time in a name, in seconds or milliseconds, is the segment's begin."""
    return min(abs(named - listed), abs(named / 1000 - listed)) < OTHER_TIMES


def _rank(path: str) -> tuple[bool, str]:
    """Return what sorts files of one id: those that libsndfile reads come first."""
    return path.rpartition(".")[2].lower() in UNREAD, path


def _notes(further: list[str], others: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what is said of files that were not taken."""
    if further:
        text = f"further recordings of clips that have one already: {len(further)}"
        yield "second recording", f"{text}; the first by name is taken, not {_few(further)}."
    if others:
        text = f"recordings whose names have other times than the lists: {len(others)}"
        yield "other times", f"{text}; taken for other segments of the videos: {_few(others)}."


def _few(paths: list[str]) -> str:
    """Return the first three and how many more there are."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(sorted(paths)[:NAMED]) + more
