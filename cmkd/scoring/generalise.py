"""Intervals for models that were not run: students and teachers as drawn at random.

On a table of gains, students x teachers, with row means r, column means q and the residuals' mean
square V_I = MS / (I J):

    H^2 = t(I - 1)^2 var(r) / I + t(J - 1)^2 max(var(q) / J - V_I, 0) + z^2 V_C

For a contrast of classes the variances are those within classes of each student's, and of each
teacher's, own contrast; both terms are kept whole, which is conservative.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cmkd.scoring.intervals import LEVEL, quantile

MODELS_NEEDED = 3  # of each class

Interval = tuple[float, float]


def over_pairs(gains: npt.ArrayLike, v_clip: float) -> Interval | None:
    """Return the 95 % interval of the mean gain over new students and teachers.

    Args:
        gains: [students, teachers], every pair once.
        v_clip: clip variance V_C of the mean.

    Returns None with fewer than three students or teachers.
    """
    table = np.asarray(gains, dtype=np.float64)
    students, teachers = table.shape
    if min(students, teachers) < MODELS_NEEDED:
        return None
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns[None] + table.mean()
    square = float(np.sum(rest**2)) / ((students - 1) * (teachers - 1))
    between = float(np.var(columns, ddof=1)) / teachers - square / (students * teachers)
    half = math.sqrt(
        quantile(LEVEL, students - 1) ** 2 * float(np.var(rows, ddof=1)) / students
        + quantile(LEVEL, teachers - 1) ** 2 * max(between, 0.0)
        + quantile(LEVEL, math.inf) ** 2 * v_clip
    )
    middle = float(table.mean())
    return middle - half, middle + half


def over_classes(
    value: float,
    students: Mapping[str, Sequence[float]],
    teachers: Mapping[str, Sequence[float]],
    v_clip: float,
) -> Interval | None:
    """Return the 95 % interval of a contrast of classes over new models of the same classes.

    Args:
        value: the contrast, mean over students of their own contrasts.
        students: each student's own contrast, by its class.
        teachers: each teacher's own contrast, by its class.
        v_clip: clip variance V_C of the contrast.

    Returns None where a class has fewer than three students or teachers.
    """
    groups = [*students.values(), *teachers.values()]
    if not students or not teachers or min(map(len, groups)) < MODELS_NEEDED:
        return None
    spread = _within(students) + _within(teachers)
    half = math.sqrt(spread + quantile(LEVEL, math.inf) ** 2 * v_clip)
    return value - half, value + half


def _within(contrasts: Mapping[str, Sequence[float]]) -> float:
    """Return t^2 times the variance of the mean, from the spread within classes."""
    count = sum(map(len, contrasts.values()))
    nu = count - len(contrasts)
    squares = sum(float(np.sum((np.array(of) - np.mean(of)) ** 2)) for of in contrasts.values())
    return quantile(LEVEL, nu) ** 2 * squares / nu / count
