"""Scores and paired gains of runs, read from their folders, with their intervals."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmkd.errors import InputError, RunError
from cmkd.reports.runs import RunState
from cmkd.scoring.influence import RunScore, run_score
from cmkd.scoring.intervals import Estimate, estimate, rank_intervals

Grid = Mapping[tuple[int, int], RunScore]


@dataclass(frozen=True)
class Outcome:
    """A value or gain for one row: fractions, None where there is none, and remarks."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    label: str = ""
    notes: tuple[str, ...] = ()

    def cells(self, name: str) -> dict[str, float | None]:
        """Return the row's three cells of a gain called `name`."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Design:
    """What was planned for a dataset of a suite; every run is expected on each fold and seed."""

    metric: str
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    rng_per_fold: bool = True  # whether the folds of a seed are independent trainings

    @property
    def planned(self) -> int:
        """Return the number of runs a row stands for."""
        return len(self.folds) * len(self.seeds)

    @property
    def fixed_split(self) -> bool:
        """Tell whether the dataset has one published split instead of folds."""
        return self.folds == (0,)

    def estimate(self, arms: Sequence[tuple[float, Grid]]) -> Estimate:
        """Return the weighted sum of arms; streams of a training are keyed by (seed, fold)."""
        return estimate(arms, self.folds, self.seeds, self.rng_per_fold, self.fixed_split)

    def ranks(self, arms: Mapping[str, Grid]) -> dict[str, tuple[int, int]]:
        """Return each system's rank interval; none where the systems cannot be compared."""
        try:
            return rank_intervals(arms, self.folds, self.seeds, self.rng_per_fold, self.fixed_split)
        except InputError:
            return {}


@dataclass
class Scores:
    """The scored runs of one dataset: each scores file is read once."""

    metric: str
    _read: dict[Path, RunScore] = field(default_factory=dict)

    def grid(self, states: Sequence[RunState], readout: str) -> tuple[Grid, list[str]]:
        """Return the scores of the done runs by (fold, seed) for one readout, and complaints."""
        grid: dict[tuple[int, int], RunScore] = {}
        complaints = []
        for state in states:
            if readout in readouts(state):
                try:
                    grid[state.job.fold, state.job.seed] = self._score(_file(state, readout))
                except InputError as error:
                    complaints.append(str(error))
        return grid, complaints

    def _score(self, path: Path) -> RunScore:
        """Return one file's score and influence values."""
        if path not in self._read:
            self._read[path] = load(path, self.metric)
        return self._read[path]


def load(path: Path, metric: str) -> RunScore:
    """Read a scores file (ids, classes, logits, targets, sources) as metric and influence values.

    Raises:
        RunError: the file is absent or damaged.
    """
    return run_score(metric=metric, **arrays(path))


def arrays(path: Path) -> dict[str, Any]:
    """Return a scores file's arrays by name; RunError where it is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ("logits", "targets", "ids", "classes")}
            return found | ({"sources": file["sources"]} if "sources" in file else {})
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} cannot be read ({error}); evaluate this run again (cmkd evaluate)"
        ) from error


def readouts(state: RunState) -> dict[str, Mapping[str, Any]]:
    """Return the metrics of each readout of a done run, the headline first."""
    if not state.done:
        return {}
    headline = str(state.metrics["readout"])
    others = state.metrics.get("readouts") or {}
    return {headline: state.metrics} | {
        name: found for name, found in others.items() if name != headline
    }


def _file(state: RunState, readout: str) -> Path:
    """Return the scores file of a readout; the headline's has no suffix."""
    headline = state.metrics["readout"] == readout
    return state.folder / ("scores.npz" if headline else f"scores-{readout}.npz")


def score(plan: Design, grid: Grid, values: Mapping[tuple[int, int], float]) -> Outcome:
    """Return a system's own value and interval.

    The value is the mean of metrics.json: an mAP there is over classes with one positive clip,
    the interval's width is that of the classes with two.
    """
    if not values:
        return Outcome(label="not run")
    mean = _mean(values)
    try:
        found = plan.estimate([(1.0, grid)])
    except InputError as error:
        return Outcome(mean, notes=(str(error),))
    half = found.half_width() if not math.isnan(found.low) else math.nan
    return Outcome(mean, _cell(mean - half), _cell(mean + half), found.label, _notes(found))


def gain(plan: Design, taught: Grid, reference: Grid, against: str) -> Outcome:
    """Return the gain paired by clip, fold and seed; a remark where it cannot be had."""
    if not taught or not reference:
        return Outcome()
    try:
        found = plan.estimate([(1.0, taught), (-1.0, reference)])
    except InputError as error:
        return Outcome(notes=(f"no gain over {against}: {error}",))
    if not found.runs:
        return Outcome(notes=(f"no fold and seed in common with {against}",))
    return Outcome(
        _cell(found.value), _cell(found.low), _cell(found.high), found.label, _notes(found)
    )


def _mean(values: Mapping[tuple[int, int], float]) -> float:
    """Return the mean over folds of the mean over seeds."""
    folds: dict[int, list[float]] = {}
    for (fold, _), value in sorted(values.items()):
        folds.setdefault(fold, []).append(value)
    return math.fsum(math.fsum(of) / len(of) for of in folds.values()) / len(folds)


def _cell(value: float) -> float | None:
    """Return a number for a table, None for NaN."""
    return None if math.isnan(value) else value + 0.0  # no minus zero


def _notes(found: Estimate) -> tuple[str, ...]:
    """Return an estimate's remarks one by one."""
    return tuple(note for note in found.note.split("; ") if note)
