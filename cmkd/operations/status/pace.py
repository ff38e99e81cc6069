"""How long what is left of a suite takes, at the pace of its finished runs."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cmkd.operations.status import reading
from cmkd.operations.status.reading import number
from cmkd.operations.status.runs import DONE, EVALUATE, RUNNING, Seen
from cmkd.plan.suites import Suite

SAMPLE = 3  # finished runs of a name that are looked at
COSTS = ("cost.json", "cost-evaluate.json")


class Left(NamedTuple):
    """What is left: runs; seconds of one device for those with a measure; how many have none.

    A run's measure is the median of the finished runs of its name on its data set (training and
    scoring), for one at work what its own progress says.
    """

    runs: int
    seconds: float
    unknown: int


def left(suite: Suite, runs: Sequence[Seen]) -> Left:
    """Return what is left of a suite."""
    missing = [seen for seen in runs if seen.state != DONE]
    pace: dict[tuple[str, str], float | None] = {}
    if missing:
        wanted = {(seen.job.dataset, seen.job.run) for seen in missing}
        pace = _pace(suite, (seen for seen in runs if seen.state == DONE), wanted)
    each = [_one(seen, pace.get((seen.job.dataset, seen.job.run))) for seen in missing]
    known = [seconds for seconds in each if seconds is not None]
    return Left(len(missing), sum(known), len(missing) - len(known))


def _pace(
    suite: Suite, done: Iterable[Seen], wanted: set[tuple[str, str]]
) -> dict[tuple[str, str], float | None]:
    """Return the median seconds of finished runs by data set and name, of some of each."""
    found: dict[tuple[str, str], list[float]] = {}
    for seen in done:
        key = (seen.job.dataset, seen.job.run)
        if key in wanted and len(found.get(key, ())) < SAMPLE:
            seconds = _seconds(suite.folder(seen.job))
            if seconds is not None:
                found.setdefault(key, []).append(seconds)
    return {key: statistics.median(values) for key, values in found.items()}


def _seconds(folder: Path) -> float | None:
    """Return what a run took, training and scoring; None where its cost is not written."""
    total = 0.0
    for name in COSTS:
        cost = reading.read(folder / name)
        seconds = cost.value.get("seconds") if cost else None
        value = number(seconds.get("total")) if isinstance(seconds, dict) else None
        if value is None and name == COSTS[0]:
            return None
        total += value or 0.0
    return total


def _one(seen: Seen, pace: float | None) -> float | None:
    """Return the seconds that one run still takes, or None."""
    if seen.state == RUNNING and seen.left is not None:
        return seen.left
    if seen.stage == EVALUATE and seen.state == RUNNING:
        return 0.0
    return pace
