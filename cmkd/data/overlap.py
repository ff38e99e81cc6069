"""Recordings that two datasets share: sources of the one's test clips among the other's training.

ESC-50, ESC-10 and FSD50K all come from Freesound, and `source_ids` of their entries says which
column of the manifest holds its ids. Only the manifests are read.
"""

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMN = "source"


def columns(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return what two entries' source ids are of, and each one's column, or None if not alike."""
    first, second = a.get("source_ids") or {}, b.get("source_ids") or {}
    kind = next((name for name in first if name in second), None)
    return None if kind is None else (kind, str(first[kind]), str(second[kind]))


def shared_sources(
    prepared_a: Path,
    prepared_b: Path,
    fold_a: int = 0,
    fold_b: int = 0,
    in_columns: tuple[str, str] = (COLUMN, COLUMN),
) -> list[str]:
    """Return the sources of test clips of `a` that lie among training clips of `b`, sorted.

    Args:
        prepared_a: the prepared folder whose test clips are asked about.
        prepared_b: the prepared folder whose training clips made the weights.
        fold_a: the fold that is tested; 0 of a fixed split.
        fold_b: the fold that is left out of training; 0 of a fixed split.
        in_columns: columns of the manifests that hold the ids.
    """
    tested = sources(prepared_a, fold_a, "test", in_columns[0])
    return sorted(tested & sources(prepared_b, fold_b, "train", in_columns[1]))


def sources(prepared: Path, fold: int, role: str, column: str = COLUMN) -> frozenset[str]:
    """Return the sources of a fold's clips in a role, `train` or `test` (fold 0: a fixed split)."""
    manifest = prepared / "manifest.csv"
    found = _by_split(manifest, manifest.stat().st_mtime_ns, column)
    if fold:
        wanted = [split for split in found if (split == str(fold)) == (role == "test")]
    else:
        wanted = [role]
    return frozenset().union(*(found.get(split, frozenset()) for split in wanted))


@functools.lru_cache(maxsize=8)
def _by_split(manifest: Path, time: int, column: str) -> dict[str, frozenset[str]]:
    """Return the sources of each fold or split, read once as long as the file is not written."""
    found: dict[str, set[str]] = {}
    with open(manifest, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            found.setdefault(line["split"], set()).add(line[column])
    return {split: frozenset(ids) for split, ids in found.items()}
