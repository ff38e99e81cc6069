"""Ensembles of runs: the mean of their members' probabilities, from their scores files alone.

At each fold and seed where all members are done, their scores.npz (headline readouts) give the
scores of one more system, whose value, interval, gain and rank come about as any run's do. Over
seeds, the members of every seed make one system a fold, which stands under the first seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cmkd.errors import InputError, RunError
from cmkd.plan import names
from cmkd.plan.ensembles import Ensemble
from cmkd.reports import gains
from cmkd.reports.gains import Design, Grid, Outcome
from cmkd.reports.runs import RunState, ids_hash
from cmkd.scoring.combine import Labels, mean_probabilities
from cmkd.scoring.influence import RunScore, run_score
from cmkd.scoring.metrics import all_metrics

if TYPE_CHECKING:
    from cmkd.reports.board import Board

KIND = "ensemble"  # its class and its direction
Cell = tuple[int, int]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Combined:
    """An ensemble on one dataset.

    Attributes:
        design: what is planned: the members' folds and seeds, or the first seed for one over seeds.
        members: the states behind each (fold, seed), complete or not.
        grid: scores by (fold, seed) of the complete ones.
        values: their metric, over all classes with a positive clip as in metrics.json.
        complaints: a sentence for each one that cannot be formed.
    """

    design: Design
    members: Mapping[Cell, Sequence[RunState]]
    grid: Grid
    values: Mapping[Cell, float]
    complaints: tuple[str, ...]

    @property
    def states(self) -> list[RunState]:
        """Return the states behind the values, fold by fold."""
        return [state for cell in self.values for state in self.members[cell]]


def combine(
    ensemble: Ensemble, states: Mapping[str, Sequence[RunState]], metric: str, labels: Labels
) -> Combined:
    """Form an ensemble wherever all its members are done; `states` are those of each run."""
    members = _cells(ensemble, [states[run] for run in ensemble.runs])
    folds, seeds = (tuple(dict.fromkeys(cell[i] for cell in members)) for i in (0, 1))
    grid: dict[Cell, RunScore] = {}
    values: dict[Cell, float] = {}
    complaints = []
    for cell, of in members.items():
        if all(state.done for state in of):
            try:
                grid[cell], values[cell] = _form(of, metric, labels)
            except InputError as error:
                place = f"fold {cell[0]}" + ("" if ensemble.over_seeds else f", seed {cell[1]}")
                complaints.append(f"not formed on {place}: {error}")
    return Combined(Design(metric, folds, seeds), members, grid, values, tuple(complaints))


def _cells(ensemble: Ensemble, runs: Sequence[Sequence[RunState]]) -> dict[Cell, list[RunState]]:
    """Return the members of each (fold, seed) that all runs have planned, in the runs' order."""
    by_cell = [{(state.job.fold, state.job.seed): state for state in of} for of in runs]
    common = [cell for cell in by_cell[0] if all(cell in of for of in by_cell)]
    found: dict[Cell, list[RunState]] = {}
    first = {fold: seed for fold, seed in reversed(common)}
    for fold, seed in common:
        cell = (fold, first[fold] if ensemble.over_seeds else seed)
        found.setdefault(cell, []).extend(of[fold, seed] for of in by_cell)
    return found


def _form(states: Sequence[RunState], metric: str, labels: Labels) -> tuple[RunScore, float]:
    """Return score and metric of the mean of some runs' probabilities on one fold.

    Raises:
        RunError: a scores file is damaged, or of other clips, classes or labels than the first.
        DataError: the metric is undefined.
    """
    read = [_arrays(state.folder / "scores.npz") for state in states]
    for state, arrays in zip(states[1:], read[1:], strict=True):
        _same(states[0], read[0], state, arrays)
    logits = mean_probabilities((arrays["logits"] for arrays in read), labels)
    first = read[0]
    whole = all_metrics(logits, first["targets"], labels)[metric]
    score = run_score(
        logits, first["targets"], metric, first["ids"], first.get("sources"), first["classes"]
    )
    return score, score.value if whole is None else whole


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a scores file, its clips in the order of their ids."""
    arrays = gains.arrays(path)
    order = np.argsort(arrays["ids"])
    rows = ("ids", "logits", "targets", "sources")
    return {name: of[order] if name in rows else of for name, of in arrays.items()}


def _same(one: RunState, first: Arrays, other: RunState, second: Arrays) -> None:
    """Refuse members whose scores are of other clips, other classes or other labels."""
    pair = f"{_name(one)} and {_name(other)}"
    if not np.array_equal(first["classes"], second["classes"]):
        raise RunError(f"{pair} have other classes; evaluate them on the same prepared data")
    if not np.array_equal(first["ids"], second["ids"]):
        odd = sorted(set(first["ids"].tolist()) ^ set(second["ids"].tolist()))
        raise RunError(
            f"{pair} were scored on different clips ({len(odd)} differ, such as '{odd[0]}'); "
            "evaluate them again on the same prepared data"
        )
    if not np.array_equal(first["targets"], second["targets"]):
        raise RunError(f"{pair} were scored against different labels; evaluate them again")


def _name(state: RunState) -> str:
    """Return a member's run and seed."""
    return f"{state.job.run} (seed {state.job.seed})"


def row(board: "Board", ensemble: Ensemble) -> dict[str, Any]:
    """Return an ensemble's row of the leaderboard, its notes one by one."""
    combined = board.combined(ensemble)
    value = gains.score(combined.design, combined.grid, combined.values)
    over_alone = _over_alone(board, ensemble, combined)
    own = [board.states[run] for run in ensemble.runs]
    return {
        **{"dataset": board.dataset, "run": ensemble.row, "student": ensemble.row, "teacher": ""},
        **{"class": KIND, "teacher_class": "", "direction": KIND},
        "readout": "+".join(dict.fromkeys(board.headline(run) for run in ensemble.runs)),
        "headline": True,
        "metric": board.metric,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        **over_alone.cells("gain_alone"),
        **Outcome().cells("gain_teacher"),
        "label": value.label,
        "done": len(combined.values),
        "planned": len(combined.members),
        **_prices(combined, board.prices.row),
        "weights_origin": "+".join(dict.fromkeys(board.weights(run) for run in ensemble.runs)),
        "ids_hash": ids_hash(combined.states),
        "notes": [
            *_who(ensemble, own),
            *combined.complaints,
            *value.notes,
            *over_alone.notes,
        ],
    }


def _over_alone(board: "Board", ensemble: Ensemble, combined: Combined) -> Outcome:
    """Return the gain over the ensemble of the students alone, where a member was taught.

    A member without a teacher stands for itself in it.
    """
    taught = [run for run in ensemble.runs if names.parse(run).teacher is not None]
    if not taught:
        return Outcome()
    alone = {run: str(board.alone(names.parse(run)) or "") for run in taught}
    missing = [run for run, student in alone.items() if not student]
    if missing:
        text = f"the student alone of {missing[0]} is not in the suite, so there is no gain"
        return Outcome(notes=(text,))
    reference = ensemble._replace(runs=tuple(alone.get(run, run) for run in ensemble.runs))
    what = f"the mean of {', '.join(dict.fromkeys(reference.runs))}"
    found = gains.gain(combined.design, combined.grid, board.combined(reference).grid, what)
    if found.value is None:
        return found
    return replace(found, notes=(*found.notes, f"its gain over alone is over {what}"))


def _prices(
    combined: Combined, cells: Callable[[Sequence[RunState]], Mapping[str, float | None]]
) -> dict[str, float | int | None]:
    """Return the price cells: sizes and operations of all members together, hours of all runs.

    `cells` (`Prices.row`) gives means of sizes and sums of hours of some runs.
    """
    found = dict(cells(combined.states))
    each = len(combined.states) / len(combined.values) if combined.values else 0.0
    params, gflops = (found[name] for name in ("params", "gflops"))
    return found | {
        "params": None if params is None else round(params * each),
        "gflops": None if gflops is None else gflops * each,
        "clips_per_second": None,
    }


def _who(ensemble: Ensemble, own: Sequence[Sequence[RunState]]) -> list[str]:
    """Return who the members are, and those of which runs are missing."""
    seeds = dict.fromkeys(state.job.seed for state in own[0])
    over = f" over the seeds {', '.join(map(str, seeds))}" if ensemble.over_seeds else ""
    done = [sum(state.done for state in states) for states in own]
    missing = [
        f"{run} {count}/{len(states)}"
        for run, count, states in zip(ensemble.runs, done, own, strict=True)
        if count < len(states)
    ]
    return [
        f"the mean of the probabilities of {', '.join(ensemble.runs)}{over}",
        f"members not done yet: {', '.join(missing)}" if missing else "",
    ]
