"""Clips that a copy lacks, missing or damaged, where `on_missing: count`: counted, never replaced.

AudioSet's videos vanish, so that every copy is another one. What is gone is said by split and class
in audit.json under `left_out`, on one line, and by name where a class has no clip left.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cmkd.data.audit import Audit
from cmkd.data.catalog import Row, splits
from cmkd.data.manifest import Decoded

KINDS = ("listed", "missing", "undecodable", "kept")
Counts = Mapping[tuple[str, str], int]


def leave_out(
    entry: Mapping[str, Any],
    listed: Sequence[Row],
    present: Sequence[Row],
    decoded: Mapping[str, Decoded],
    audit: Audit,
) -> list[Row]:
    """Return the clips that can be used, and put what is lost into the audit.

    A split without any clip is a finding; a class without one in a split is a note.
    """
    kept = [row for row in present if not decoded[row.clip].problem]
    by_split = {"listed": _splits(listed), "present": _splits(present), "kept": _splits(kept)}
    by_class = {"listed": _classes(listed), "present": _classes(present), "kept": _classes(kept)}
    names = [str(name) for name in entry["classes"]]
    audit.left_out = {
        split: {
            **_losses(by_split, (split, "")),
            "classes": {name: _losses(by_class, (split, name)) for name in names},
        }
        for split in splits(entry)
    }
    for split, counts in audit.left_out.items():
        if present:  # else the audit has said that there is nothing at all
            _check(split, counts, audit)
    return kept


def line(left_out: Mapping[str, Any]) -> str:
    """Return one line: how many clips of each split are gone, and why."""
    return "left out: " + ", ".join(
        f"{split} {counts['missing'] + counts['undecodable']} of {counts['listed']} "
        f"({counts['missing']} missing, {counts['undecodable']} undecodable)"
        for split, counts in left_out.items()
    )


def _splits(rows: Sequence[Row]) -> Counter[tuple[str, str]]:
    """Return the number of clips of each split."""
    return Counter((row.split, "") for row in rows)


def _classes(rows: Sequence[Row]) -> Counter[tuple[str, str]]:
    """Return the number of clips of each split and class."""
    return Counter(pair for row in rows for pair in _pairs(row))


def _pairs(row: Row) -> Iterator[tuple[str, str]]:
    """Yield a clip's split with each of its classes."""
    for label in row.labels:
        yield row.split, label


def _losses(counts: Mapping[str, Counts], key: tuple[str, str]) -> dict[str, int]:
    """Return the four counts of a split, or of a class in it."""
    listed, present, kept = (counts[of].get(key, 0) for of in ("listed", "present", "kept"))
    return dict(zip(KINDS, (listed, listed - present, present - kept, kept), strict=True))


def _check(split: str, counts: Mapping[str, Any], audit: Audit) -> None:
    """Say that a split is empty, or else which of its classes are."""
    if counts["listed"] and not counts["kept"]:
        text = f"split {split} has none of its {counts['listed']} clips left"
        audit.stop(
            "empty split",
            f"{text} ({counts['missing']} missing, {counts['undecodable']} undecodable): "
            "put recordings under data_root.",
        )
        return
    for name, of in counts["classes"].items():
        if not of["kept"]:
            gone = f"{of['listed']} listed" if of["listed"] else "none listed"
            audit.note("empty class", f"split {split} has no clip of class '{name}' ({gone}).")
