"""What every rendering of the leaderboard says about it: header, column names, cells, remarks."""

from collections.abc import Sequence

import pandas as pd

from cmkd.reports import columns

HEADINGS = (
    "rank",
    "run",
    "direction",
    "{metric}, %",
    "gain over alone",
    "gain over teacher",
    "label",
    "runs",
    "params",
    "GFLOPs",
    "hours",
    "hours, total",
    "clips/s",
    "weights",
)
LEFT = ("run", "direction", "label", "weights")
DIRECTIONS = {
    "alone": "alone",
    "cnn_to_transformer": "CNN → transformer",
    "transformer_to_cnn": "transformer → CNN",
    "same_class": "same class",
    "self": "self",
    "ensemble": "ensemble",
}
LABELS = {
    "runs+clips": "over new trainings and new test clips",
    "seed means": "over new trainings and new test clips, from the means of each seed",
    "one run per fold": "over folds, one training each (test clips are inside)",
    "one seed": "over folds with one seed in all of them: no verdict may rest on it",
    "clips only": "over test clips only: it says nothing about training again",
    "incomplete": "a fold has no run yet, so there is no interval",
    "not run": "no run is done yet",
}
GAIN_MAP = (
    "A gain in mAP is over classes with at least two positive test clips, a value over those with "
    "at least one, so a gain may differ from the difference of two values in the last digits."
)


PEEK = (
    "Rows marked (peek) are too good by construction: their epoch was chosen on the test clips, "
    "the published habit for ESC-50. They are not ranked and teach nobody."
)
ENSEMBLES = (
    "Rows ens:NAME are ensembles: the mean of the probabilities of the runs that the remarks name. "
    "Their gain over alone is over the ensemble of the same students alone."
)
BUDGET = (
    "The suite's budget of device hours (execution: budget_gpu_hours) ended it: runs that it did "
    "not reach for are missing below, as done/planned shows. Raised, the same command goes on."
)
CUT = (
    "Intervals of values are shown within 0 and 100; where runs are few the formula goes past "
    "these, and leaderboard.csv holds what it gives."
)


def run_counts(rows: pd.DataFrame) -> tuple[int, int]:
    """Return how many runs of a dataset are done and planned; a run's readouts count once.

    Ensembles are no runs.
    """
    runs = rows[rows["direction"] != "ensemble"]
    counts = runs.groupby("run")[["done", "planned"]].max().sum()
    return int(counts["done"]), int(counts["planned"])


def explanation(rows: pd.DataFrame) -> list[str]:
    """Return the sentences above a dataset's table."""
    labels = [label for label in LABELS if label in set(rows["label"])]
    metric = columns.METRICS.get(next(iter(rows["metric"]), ""), "the metric")
    sentences = [
        f"Values are {metric} on the test clips in percent, gains are in points and paired by "
        "clip, fold and seed; brackets hold 95 % intervals.",
        "Rank: the best and the worst place a run may have, by tests of its differences to the "
        "others (Holm's rule); only complete runs with their headline readout are ranked.",
        "Label: what the interval covers: "
        + "; ".join(f"{label} = {LABELS[label]}" for label in labels)
        + ".",
        "Runs: done/planned. Hours: device hours of all done runs; the total adds each run's share "
        "of its teacher's, divided among the teacher's students.",
    ]
    sentences += marks(rows)
    sentences += [BUDGET] if rows["notes"].str.contains(r"not done \d+/\d+: budget").any() else []
    sentences += [CUT] if columns.is_cut(rows) else []
    return [*sentences, GAIN_MAP] if "map" in set(rows["metric"]) else sentences


def marks(rows: pd.DataFrame) -> list[str]:
    """Return the sentences on rows that are no plain runs, where there are any."""
    peeked, combined = (rows["readout"] == "peek").any(), (rows["direction"] == "ensemble").any()
    return [*([PEEK] if peeked else []), *([ENSEMBLES] if combined else [])]


def title(row: pd.Series, headline: bool) -> str:
    """Return a row's name: the run's, and the readout's where it is a further one."""
    return str(row["run"]) if headline else f"{row['run']} ({row['readout']})"


def headings(rows: pd.DataFrame) -> list[str]:
    """Return the column names of a dataset's table."""
    metric = columns.METRICS.get(next(iter(rows["metric"]), ""), "value")
    return [heading.format(metric=metric) for heading in HEADINGS]


def cells(row: pd.Series, headline: bool) -> list[str]:
    """Return a row's texts, in the order of HEADINGS; the run's name is bare."""
    return [
        columns.rank(row["rank_low"], row["rank_high"]),
        title(row, headline),
        DIRECTIONS.get(row["direction"], row["direction"].replace("_to_", " → ")),
        columns.with_interval(row["value"], row["low"], row["high"]) or "–",
        *(gain(row, name) for name in ("gain_alone", "gain_teacher")),
        row["label"],
        f"{row['done']}/{row['planned']}",
        columns.millions(row["params"]),
        columns.hours(row["gflops"]),
        columns.hours(row["gpu_hours"]),
        columns.hours(row["gpu_hours_total"]),
        columns.hours(row["clips_per_second"]),
        row["weights_origin"],
    ]


def gain(row: pd.Series, name: str) -> str:
    """Return a gain with its interval, "" for a row without one."""
    ends = (row[f"{name}_low"], row[f"{name}_high"])
    return columns.with_interval(row[name], *ends, signed=True)


def remarks(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return {remark: rows it is about}, in the order of the rows.

    A run stands for all its readouts where its headline one has the remark.
    """
    found: dict[str, list[str]] = {}
    for (_, row), headline in zip(rows.iterrows(), leaders(rows), strict=True):
        for note in filter(None, row["notes"].split("; ")):
            if not note.startswith("data: "):
                named = found.setdefault(note, [])
                named.extend([] if row["run"] in named else [title(row, headline)])
    return found


def leaders(rows: pd.DataFrame) -> Sequence[bool]:
    """Tell for each row whether it is its run's headline readout."""
    return [bool(first) for first in ~rows.duplicated(["dataset", "run"])]
