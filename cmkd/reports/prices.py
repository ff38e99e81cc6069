"""What runs cost: device hours with the teacher's share, size, speed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cmkd.plan import names
from cmkd.plan.suites import Job
from cmkd.reports.runs import RunState


class Prices:
    """The costs of a suite's runs.

    A student pays its own hours and an equal share of its teacher's, which is what the teacher paid
    (its own teacher's share included) divided by the number of its students in the suite.
    """

    def __init__(self, states: Mapping[Job, RunState]) -> None:
        """Count each teacher's students once."""
        self._states = states
        self._students = Counter(teacher for job in states if (teacher := _teacher(job)))

    def own(self, job: Job) -> float | None:
        """Return the device hours of one run, None where none were written."""
        state = self._states.get(job)
        if state is None or not state.done:
            return None
        known = [value for cost in state.cost.values() if (value := hours(cost)) is not None]
        return sum(known) if known else None

    def total(self, job: Job) -> float | None:
        """Return one run's device hours with its share of its teacher's, None where unknown."""
        own, teacher = self.own(job), _teacher(job)
        if own is None or teacher is None:
            return own
        above = self.total(teacher)
        return None if above is None else own + above / self._students[teacher]

    def row(self, states: Sequence[RunState]) -> dict[str, float | int | None]:
        """Return the price cells of a row: hours add up over its done runs, the rest are means."""
        done = [state for state in states if state.done]
        flops = _mean(number(state, "flops") for state in done)
        params = _mean(number(state, "parameters") for state in done)
        return {
            "params": None if params is None else round(params),
            "gflops": None if flops is None else flops / 1e9,
            "gpu_hours": _sum(self.own(state.job) for state in done),
            "gpu_hours_total": _sum(self.total(state.job) for state in done),
            "clips_per_second": _mean(number(state, "clips_per_second") for state in done),
        }


def hours(cost: Mapping[str, Any]) -> float | None:
    """Return the device hours of a cost file: a device is a GPU, or the CPU that took its place."""
    value = cost.get("device_hours")
    return float(value) if isinstance(value, int | float) else None


def number(state: RunState, name: str) -> float | None:
    """Return a number of cost.json."""
    value = state.cost.get("train", {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def _teacher(job: Job) -> Job | None:
    """Return the job of a job's teacher."""
    teacher = names.parse(job.run).teacher
    return None if teacher is None else job._replace(run=str(teacher))


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, None where any value is missing or there is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if found and len(known) == len(found) else None


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values, None where there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
