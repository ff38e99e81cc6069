"""Folds for clips that come without: by source, balanced over classes, a pure function of names."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cmkd.data.catalog import Row
from cmkd.errors import DataError
from cmkd.files import sha256_text


def by_source(rows: Sequence[Row], folds: Sequence[str], dataset: str) -> list[Row]:
    """Return the rows with a fold each; all clips of a source get the same one.

    Sources are dealt out largest first, among equals those with the rarest class first, then by the
    hash of their names; each goes where its classes are scarcest, among equals to the smallest
    fold. With one clip a source and one label a clip, folds differ by at most one clip a class.

    Raises:
        DataError: there are fewer sources than folds.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.source].append(row)
    if len(groups) < len(folds):
        raise DataError(
            f"dataset {dataset}: its clips come from {len(groups)} sources, too few for "
            f"{len(folds)} folds; declare fewer folds, or correct the sources."
        )
    totals = _classes(rows)
    counts = {fold: Counter[str]() for fold in folds}
    sizes = dict.fromkeys(folds, 0)
    fold_of = {}
    for source in sorted(groups, key=lambda name: _turn(name, groups[name], totals)):
        classes = _classes(groups[source])
        fold = min(folds, key=lambda one: (_crowd(classes, counts[one], totals), sizes[one]))
        fold_of[source] = fold
        counts[fold] += classes
        sizes[fold] += len(groups[source])
    return [replace(row, split=fold_of[row.source]) for row in rows]


def _classes(rows: Sequence[Row]) -> Counter[str]:
    """Return how many clips have each class."""
    return Counter(label for row in rows for label in row.labels)


def _turn(source: str, rows: Sequence[Row], totals: Mapping[str, int]) -> tuple[int, int, str]:
    """Return what sources are sorted by before they are dealt out."""
    rarest = min(totals[label] for row in rows for label in row.labels)
    return -len(rows), rarest, sha256_text(source)


def _crowd(classes: Mapping[str, int], fold: Mapping[str, int], totals: Mapping[str, int]) -> float:
    """Return how much of these classes a fold has already, each weighed by its rarity."""
    return sum(count * fold.get(name, 0) / totals[name] for name, count in sorted(classes.items()))
