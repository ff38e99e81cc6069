"""Reading what others write at this moment: files may be damaged, half there or gone again."""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.operations.status.clock import Clock

TAIL = 4096  # bytes of a log's end that are read
LONGEST = 400  # characters of a cause


class Stamped(NamedTuple):
    """A JSON object and its file's time of change in Unix seconds."""

    value: dict[str, Any]
    changed: float


class Ending(NamedTuple):
    """How a log ends: its last line, whether that tells of an error, seconds since it changed."""

    line: str
    error: bool
    age: float


def read(path: os.PathLike[str]) -> Stamped | None:
    """Return the object in a JSON file with the file's time, or None (absent, damaged, no object).

    The time is asked of the opened file: only opening makes NFS ask its server.
    """
    found = _read(path)
    return found if found is not None and found.value else None


def stamped(path: os.PathLike[str]) -> Stamped | None:
    """Return the same of a file that says something by being there, {} where it is damaged.

    A lease is written in place, so one that is just being written may be read in halves.
    """
    return _read(path)


def _read(path: os.PathLike[str]) -> Stamped | None:
    """Return a file's object, or {} where it is damaged, with its time; None where it is absent."""
    try:
        with open(path, "rb") as file:
            changed = os.fstat(file.fileno()).st_mtime
            content = file.read()
    except OSError:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = {}
    return Stamped(value if isinstance(value, dict) else {}, changed)


def entries(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return what lies in a folder by name; nothing where it is not there or cannot be read."""
    try:
        with os.scandir(folder) as found:
            return {entry.name: entry for entry in found}
    except OSError:
        return {}


def stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return an entry's size and times, or None where it has gone."""
    try:
        return entry.stat()
    except OSError:
        return None


def ending(path: Path, clock: Clock) -> Ending | None:
    """Return how a log ends, or None where there is none."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            file.seek(max(0, found.st_size - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return None
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("cmkd: ")]
    error = bool(said) or "Traceback (most recent call last)" in text
    last = said[-1] if said else (lines[-1] if lines else "")
    return Ending(short(last.removeprefix("cmkd: ")), error, clock.age(found.st_mtime))


def short(text: object) -> str:
    """Return a text as one line of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def number(value: object) -> float | None:
    """Return a finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """Return a whole number, or None for anything else."""
    found = number(value)
    return None if found is None or found != int(found) else int(found)


def word(value: object) -> str | None:
    """Return a text or number as a text of one line, or None for anything else and for ""."""
    named = isinstance(value, str | int) and not isinstance(value, bool)
    return short(value) or None if named else None
