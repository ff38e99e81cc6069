"""The leaderboard's columns and the words for its numbers."""

import math
from typing import TypeGuard

import pandas as pd

COLUMNS = [
    *("rank_low", "rank_high", "dataset", "run", "student", "teacher", "class", "teacher_class"),
    *("direction", "readout", "metric", "value", "low", "high"),
    *("gain_alone", "gain_alone_low", "gain_alone_high"),
    *("gain_teacher", "gain_teacher_low", "gain_teacher_high", "label", "done", "planned"),
    *("params", "gflops", "gpu_hours", "gpu_hours_total", "clips_per_second"),
    *("weights_origin", "ids_hash", "notes"),
]
INTEGERS = ("rank_low", "rank_high", "done", "planned", "params")
TEXTS = (
    *("dataset", "run", "student", "teacher", "class", "teacher_class", "direction", "readout"),
    *("metric", "label", "weights_origin", "ids_hash", "notes"),
)
METRICS = {"accuracy": "accuracy", "map": "mAP"}


def frame(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows as a table with exactly the leaderboard's columns and fixed types."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    types = {name: "float64" for name in COLUMNS if name not in TEXTS}
    types |= dict.fromkeys(INTEGERS, "Int64")
    types |= dict.fromkeys(TEXTS, "object")
    return table.astype(types)


def headlines(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run's headline readout: the first of its rows."""
    return table.drop_duplicates(["dataset", "run"])


def known(value: object) -> TypeGuard[float]:
    """Tell whether a cell holds a number."""
    return value is not None and not pd.isna(value)


def percent(value: object) -> str:
    """Return a fraction in percent, one decimal: 0.712 -> "71.2", an empty cell -> ""."""
    return f"{100 * float(value):.1f}" if known(value) else ""


def points(value: object) -> str:
    """Return a difference of fractions in points, signed: 0.021 -> "+2.1", an empty cell -> ""."""
    if not known(value):
        return ""
    text = f"{100 * float(value):+.1f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else "0.0"


def with_interval(value: object, low: object, high: object, signed: bool = False) -> str:
    """Return "71.2 [69.1, 73.3]", or the value alone where there is no interval.

    A score's interval (not a gain's, which is signed) is shown within what a score can be.
    """
    form = points if signed else percent
    text = form(value)
    if not (text and known(low) and known(high)):
        return text
    ends = (low, high) if signed else within(low, high)
    return f"{text} [{form(ends[0])}, {form(ends[1])}]"


def within(low: float, high: float) -> tuple[float, float]:
    """Return the part of a score's interval that lies between 0 and 1."""
    return max(low, 0.0), min(high, 1.0)


def is_cut(rows: pd.DataFrame) -> bool:
    """Tell whether a score's interval goes past what a score can be, in any row."""
    return bool(((rows["low"] < 0) | (rows["high"] > 1)).any())


def rank(low: object, high: object) -> str:
    """Return "2", "1–3" or ""."""
    if not known(low):
        return ""
    return f"{low}" if low == high else f"{low}\N{EN DASH}{high}"


def hours(value: object) -> str:
    """Return hours with two significant digits: 0.0123 -> "0.012", 123.4 -> "123"."""
    if not known(value):
        return ""
    number = float(value)
    if number <= 0:
        return "0"
    return f"{number:.{max(0, 1 - math.floor(math.log10(number)))}f}"


def millions(value: object) -> str:
    """Return a count in millions: 5288548 -> "5.3 M", 26000 -> "0.026 M"."""
    return f"{hours(float(value) / 1e6)} M" if known(value) else ""
