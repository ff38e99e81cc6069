"""What can go wrong, as one small tree; every message says what to do next.

CmkdError
├── InputError            the user can mend it (exit code 2)
│   ├── ConfigError       a suite, model, dataset, recipe or run name
│   ├── DataError         a dataset, a clip, a prepared folder
│   ├── RunError          a run folder: missing, damaged, made from something else
│   └── StoreError        the MLflow store: not reachable, or it refuses
├── BudgetError           the suite's budget does not reach for a training (exit code 2)
├── TrainingError         learning went wrong: non-finite loss, never left chance (exit code 2)
├── ProcessLost           one of a training's processes was killed (exit code as of its signal)
└── Stopped               stopped in time with state saved; run the same again (exit code 75)
    └── LeaseLost         another copy of this job has taken its run over (exit code 75)
"""

import difflib
from collections.abc import Iterable


class CmkdError(Exception):
    """Anything cmkd says in one sentence instead of a traceback."""

    exit_code = 2


class InputError(CmkdError):
    """Wrong input: the message names what, where and what to do."""


class ConfigError(InputError):
    """Wrong configuration: a suite, a catalogue entry, a recipe or the name of a run."""


class DataError(InputError):
    """Wrong data: a dataset, a clip or a prepared folder."""


class RunError(InputError):
    """A run folder that is missing, damaged or made from something else."""


class StoreError(InputError):
    """An MLflow store that cannot be reached, refuses, or is none."""


class BudgetError(CmkdError):
    """A training that the suite's `execution: budget_gpu_hours` does not reach for."""


class TrainingError(CmkdError):
    """Learning that cannot give a result, with epoch, step and likely causes."""


class ProcessLost(CmkdError):
    """One of the processes of a training was killed, or ended without a word."""


class Stopped(CmkdError):
    """Stopped at a step boundary with its state saved."""

    exit_code = 75


class LeaseLost(Stopped):
    """Another copy of this job has taken its run over; nothing more was written.

    Exit code 75, since the state is saved by that copy and the same command succeeds after it.
    """


def nearest(word: object, known: Iterable[object]) -> str:
    """Return ", did you mean X?" for the nearest known word, or the list of known words."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f", did you mean '{close[0]}'?"
    return f"; known: {', '.join(names) or 'none'}"
