"""What a reader must know of `peek`, whose epoch was chosen on the test clips.

A run's own row takes each run's own best epoch. Published for ESC-50 is one epoch shared by all
folds, the best of the mean over the folds (ast, egs/esc50), which is said beside it; with one fold
both are the same. Either is too good by construction.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cmkd.reports.runs import RunState
from cmkd.scoring.scores import read_npz

PEEK = "peek"
TOO_GOOD = "its epoch was chosen on the test clips"


def notes(states: Sequence[RunState]) -> list[str]:
    """Return the remarks of a row of `peek`."""
    return [TOO_GOOD, shared(states)]


def shared(states: Sequence[RunState]) -> str:
    """Return what one best epoch for all folds gives, "" where that is not known or nothing else.

    The epoch is chosen for each seed by itself, the first one on ties; seeds that lack a fold or
    the scores by epoch (scores-epochs.npz) of one are left out.
    """
    folds = {state.job.fold for state in states}
    found: dict[int, float] = {}
    epochs = []
    for seed in dict.fromkeys(state.job.seed for state in states):
        of_seed = [_values(s.folder) for s in states if s.job.seed == seed and s.done]
        known = [values for values in of_seed if values is not None]
        if len(known) < len(folds) or len({len(values) for values in known}) > 1:
            continue
        mean = np.mean(known, axis=0)
        best = int(np.argmax(mean))
        found[seed] = float(mean[best])
        epochs.append(f"{best + 1} for seed {seed}")
    if len(folds) < 2 or not found:
        return ""
    value = 100 * float(np.mean(list(found.values())))
    return f"one epoch for all folds, as published, gives {value:.1f} % (epoch {', '.join(epochs)})"


def _values(folder: Path) -> npt.NDArray[np.float64] | None:
    """Return a run's test score after each epoch, None where it is not there."""
    found = read_npz(folder / "scores-epochs.npz")
    return None if found is None else np.asarray(found["values"], dtype=np.float64)
