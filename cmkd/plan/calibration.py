"""Measurements of `cmkd plan --calibrate`: a few steps of each kind of work, kept in a file.

.cmkd/calibration.json: {"format": 1, "measurements": [...]}, the newest of each kind of work and
device. It is a cache: without it the estimate is one of arithmetic again.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cmkd import files

FILE = Path(".cmkd") / "calibration.json"
FORMAT = 1


class Measurement(NamedTuple):
    """Seconds of one kind of work on one device.

    `boot`: starting a program up to its own first line; `start`: reading, building, before the
    first step; `first` and `later`: a clip of the first epoch, which makes filter banks, and of
    those after it; `score`, `again`: a clip scored, and scored once more by other weights.
    `taken`: the share of its processor that other work had meanwhile (its own seconds are counted).
    `at_once`: so many ran beside each other while it was measured. `machine`, `versions` and `time`
    are for people.
    """

    likeness: str
    run: str
    device: str
    at_once: int
    boot: float
    start: float
    first: float
    later: float
    score: float
    again: float
    taken: float
    machine: str
    versions: Mapping[str, str]
    time: str


def read(path: Path | None = None) -> tuple[Measurement, ...]:
    """Return the stored measurements; none where the file is absent, damaged or of another form."""
    try:
        found = json.loads((path or FILE).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            return ()
        return tuple(Measurement(**one) for one in found["measurements"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def add(new: Iterable[Measurement], path: Path | None = None) -> Path:
    """Store measurements, each in place of an earlier one of its kind, device and company."""
    known = {_place(one): one for one in (*read(path), *new)}
    body: dict[str, Any] = {
        "format": FORMAT,
        "measurements": [one._asdict() for one in known.values()],
    }
    files.write_json(path or FILE, body)
    return path or FILE


def _place(one: Measurement) -> tuple[str, str, int]:
    """Return what a measurement replaces."""
    return one.likeness, one.device, one.at_once
