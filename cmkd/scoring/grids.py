"""Weighted sums of systems on the grid of folds and seeds they share, and their clip variance."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cmkd.errors import RunError
from cmkd.scoring.influence import RunScore
from cmkd.scoring.metrics import Areas

Arm = Mapping[tuple[int, int], RunScore]
Groups = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Contrast:
    """A weighted sum of arms, run by run and clip by clip.

    Attributes:
        folds: the planned folds.
        seeds: for each fold, the seeds that every arm has.
        gains: for each fold, the weighted value of each run [seeds].
        influence: for each fold, the weighted influence values [seeds, clips].
        groups: for each fold, the number of each clip's source [clips]; None: clips on their own.
        notes: warnings for whoever reads the estimate.
    """

    folds: tuple[int, ...]
    seeds: tuple[tuple[int, ...], ...]
    gains: tuple[Areas, ...]
    influence: tuple[Areas, ...]
    groups: tuple[Groups, ...] | None
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Return the number of complete (fold, seed) pairs."""
        return sum(map(len, self.seeds))

    @property
    def value(self) -> float:
        """Return the mean over the folds that have runs of the mean over their seeds."""
        means = [gains.mean() for gains in self.gains if len(gains)]
        return float(np.mean(means)) if means else math.nan

    @property
    def is_full(self) -> bool:
        """Return whether every fold has the same seeds."""
        return len(set(self.seeds)) == 1

    def common(self) -> "Contrast":
        """Return the contrast on the seeds that every fold has, itself where there is none."""
        shared = set(self.seeds[0]).intersection(*self.seeds[1:])
        if self.is_full or not shared:
            return self
        kept = [[seed in shared for seed in seeds] for seeds in self.seeds]
        lost = sorted(set().union(*self.seeds) - shared)
        note = f"seed {', '.join(map(str, lost))} not in every fold, left out"
        return replace(
            self,
            seeds=tuple(tuple(sorted(shared)) for _ in self.folds),
            gains=tuple(g[k] for g, k in zip(self.gains, kept, strict=True)),
            influence=tuple(u[k] for u, k in zip(self.influence, kept, strict=True)),
            notes=(*self.notes, note),
        )

    def clip_variances(self) -> tuple[float, float, int | None]:
        """Return V_C, V_E and the number of sources (None where clips stand for themselves).

        V_E is NaN where no fold has two seeds.
        """
        clip, both = 0.0, 0.0
        for fold in range(len(self.folds)):
            mean = self.influence[fold].mean(axis=0)
            clip += self._spread(fold, mean[None])
            seeds = len(self.seeds[fold])
            if seeds > 1:
                apart = self.influence[fold] - mean
                both += self._spread(fold, apart) / ((seeds - 1) * seeds)
        several = any(len(seeds) > 1 for seeds in self.seeds)
        square = len(self.folds) ** 2
        return clip / square, both / square if several else math.nan, self._sources()

    def _spread(self, fold: int, values: Areas) -> float:
        """Return Q / (Q - 1) * sum over rows and sources of (sum of values)^2 / clips^2."""
        clips = int(values.shape[1])
        if self.groups is None:
            return float(np.sum(values**2)) / (clips * (clips - 1))
        groups = self.groups[fold]
        count = int(groups.max()) + 1
        sums = [np.bincount(groups, row, count) for row in values]
        return count / (count - 1) * float(np.sum(np.square(sums))) / clips**2

    def _sources(self) -> int | None:
        """Return the number of sources in all folds together."""
        if self.groups is None:
            return None
        return sum(int(groups.max()) + 1 for groups in self.groups)


def contrast(
    arms: Sequence[tuple[float, Arm]], folds: Sequence[int], seeds: int | Sequence[int]
) -> Contrast:
    """Form the weighted sum of arms on the (fold, seed) pairs that all of them have.

    Raises:
        RunError: two runs of a fold that were scored on different clips or labels.
    """
    notes: list[str] = []
    distinct = [(weight, _distinct(arm, notes)) for weight, arm in arms]
    wanted = None if isinstance(seeds, int) else set(seeds)
    keys = set(distinct[0][1]).intersection(*(arm for _, arm in distinct[1:]))
    kept = [
        tuple(sorted(s for f, s in keys if f == fold and (wanted is None or s in wanted)))
        for fold in folds
    ]
    gains, influence, groups = [], [], []
    for fold, chosen in zip(folds, kept, strict=True):
        runs = [[(weight, arm[fold, seed]) for weight, arm in distinct] for seed in chosen]
        _check_same_clips(fold, [run for row in runs for _, run in row])
        gains.append(np.array([math.fsum(w * run.value for w, run in row) for row in runs]))
        influence.append(np.array([_weighted(row) for row in runs]))
        groups.append(_groups(runs[0][0][1]) if runs else None)
    notes += _rare_classes(arm[fold, s] for _, arm in distinct for fold, s in sorted(arm))
    return Contrast(
        folds=tuple(folds),
        seeds=tuple(kept),
        gains=tuple(gains),
        influence=tuple(influence),
        groups=_usable(folds, groups, notes),
        notes=tuple(dict.fromkeys(notes)),
    )


def _weighted(row: Sequence[tuple[float, RunScore]]) -> Areas:
    """Return the weighted sum of the influence values of one (fold, seed) [clips]."""
    total = np.zeros_like(row[0][1].influence)
    for weight, run in row:
        total = total + weight * run.influence
    return total


def _distinct(arm: Arm, notes: list[str]) -> dict[tuple[int, int], RunScore]:
    """Return the runs of an arm without those whose predictions another seed made already."""
    kept: dict[tuple[int, int], RunScore] = {}
    seen: dict[tuple[int, str], int] = {}
    for (fold, seed), run in sorted(arm.items(), key=lambda item: item[0]):
        first = seen.setdefault((fold, run.hash or f"seed {seed}"), seed)
        if first == seed:
            kept[fold, seed] = run
        else:
            notes.append(
                f"fold {fold}: seeds {first} and {seed} made identical predictions, "
                f"seed {seed} left out"
            )
    return kept


def _check_same_clips(fold: int, runs: Sequence[RunScore]) -> None:
    """Refuse runs of one fold that were scored on different clips or against other labels."""
    for run in runs[1:]:
        if not np.array_equal(run.ids, runs[0].ids):
            odd = sorted(set(run.ids.tolist()) ^ set(runs[0].ids.tolist()))
            raise RunError(
                f"fold {fold}: runs were scored on different clips ({len(odd)} differ, such as "
                f"'{odd[0]}'); evaluate them again on the same prepared data"
            )
        if run.labels != runs[0].labels:
            raise RunError(
                f"fold {fold}: runs were scored against different labels; evaluate them again "
                "on the same prepared data"
            )


def _groups(run: RunScore) -> Groups | None:
    """Return the number of each clip's source, or None where none is known."""
    if run.sources is None:
        return None
    return np.unique(run.sources, return_inverse=True)[1].astype(np.intp)


def _usable(
    folds: Sequence[int], groups: Sequence[Groups | None], notes: list[str]
) -> tuple[Groups, ...] | None:
    """Return the sources of all folds, or None where some are unknown or a fold has only one."""
    known = [found for found in groups if found is not None]
    if len(known) < len(groups):
        return None
    for fold, found in zip(folds, known, strict=True):
        if not found.any():
            notes.append(f"fold {fold} has a single source, clips taken as independent")
            return None
    return tuple(known)


def _rare_classes(runs: Iterable[RunScore]) -> list[str]:
    """Return notes on the classes left out of mAP and on those with few positive clips."""
    left_out: set[str] = set()
    few: set[str] = set()
    for run in runs:
        left_out.update(run.left_out)
        few.update(run.few)
    notes = []
    if left_out:
        notes.append(f"{len(left_out)} classes with fewer than 2 positive clips left out of mAP")
    if few:
        notes.append(f"{len(few)} classes have fewer than 5 positive clips")
    return notes
