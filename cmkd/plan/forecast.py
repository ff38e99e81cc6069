"""What suites would take from here: trainings, hours, wall time, disk; shared runs counted once."""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cmkd.plan import costs, reruns
from cmkd.plan.agreement import Agreement
from cmkd.plan.pricing import ESTIMATED, UNKNOWN, Price, Prices
from cmkd.plan.reruns import DONE, TRAIN, Fate
from cmkd.plan.suites import Job, Suite


class Row(NamedTuple):
    """Jobs of one run that share a fate: how many trainings, what and why, the price of each."""

    dataset: str
    run: str
    trainings: int
    fate: Fate
    price: Price

    @property
    def seconds(self) -> float:
        """Device seconds of all of them; 0 for what is done."""
        return 0.0 if self.fate.what == DONE else self.trainings * cost(self.fate, self.price)


class Task(NamedTuple):
    """Something that takes a place for some seconds, once all of `after` are done."""

    seconds: float
    after: tuple[str, ...]


class Forecast:
    """The forecast of one suite; `before` are run folders that an earlier suite counts already."""

    def __init__(
        self, suite: Suite, device: str | None = None, before: Mapping[Path, str] | None = None
    ) -> None:
        """Take the suite, a part of a device's name, and the folders counted elsewhere by suite."""
        self.suite = suite
        self.agreement = Agreement(suite)
        self.prices = Prices(suite, device)
        self.before = before or {}

    @cached_property
    def fates(self) -> dict[Job, Fate]:
        """The fate of every job of the suite."""
        return reruns.fates(self.agreement)

    @cached_property
    def folders(self) -> dict[Path, str]:
        """The suite's run folders, each with the name of the suite that counts it."""
        mine = {path: self.suite.name for path in self._folders.values()}
        return mine | {path: name for path, name in self.before.items() if path in mine}

    @cached_property
    def _folders(self) -> dict[Job, Path]:
        """Every job's folder, absolute."""
        return {job: self.suite.folder(job).absolute() for job in self.suite.jobs()}

    @cached_property
    def own(self) -> dict[Job, Fate]:
        """The fates of the jobs that no earlier suite counts."""
        return {j: fate for j, fate in self.fates.items() if self._folders[j] not in self.before}

    @cached_property
    def pending(self) -> dict[Job, Fate]:
        """The jobs that would run and that no earlier suite counts."""
        return {job: fate for job, fate in self.own.items() if fate.what != DONE}

    @cached_property
    def shared(self) -> Counter[str]:
        """How many of the suite's jobs an earlier suite counts, by that suite's name."""
        return Counter(self.before[path] for path in self._folders.values() if path in self.before)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The runs with their fates, in the suite's order."""
        counts = Counter((job.dataset, job.run, fate) for job, fate in self.own.items())
        return tuple(
            Row(dataset, run, count, fate, self.prices.of(dataset, run))
            for (dataset, run, fate), count in counts.items()
        )

    def seconds_by_basis(self) -> dict[str, tuple[int, float]]:
        """Return {basis: (trainings and scorings to run, device seconds)}."""
        found: dict[str, tuple[int, float]] = {}
        for row in self.rows:
            if row.fate.what != DONE:
                count, seconds = found.get(row.price.basis, (0, 0.0))
                found[row.price.basis] = (count + row.trainings, seconds + row.seconds)
        return found

    @cached_property
    def jobs(self) -> reruns.Jobs:
        """The jobs that would run, those of earlier suites left out."""
        return reruns.jobs(self.agreement, self.own)

    @property
    def whole(self) -> bool:
        """Tell whether every pending run has a price."""
        return UNKNOWN not in self.seconds_by_basis()

    @property
    def threads(self) -> int:
        """Processors that one run takes where the device is a processor, else 0."""
        on_cpu = (self.prices.device or self.suite.execution["device"]).startswith("cpu")
        return int(self.suite.execution["threads"]) if on_cpu else 0

    def prepared_bytes(self) -> dict[str, float]:
        """Return the bytes of prepared clips that would be added, by the folder they go to."""
        suite, absent = self.suite, {}
        for name in dict.fromkeys(job.dataset for job in self.pending):
            if self.agreement.prepared_state(name) == "absent":
                absent[str(suite.prepared_folder(name))] = costs.prepared(suite.dataset(name))
        return absent

    def run_bytes(self) -> float:
        """Return the bytes of run folders that would be added."""
        new = [job for job, fate in self.pending.items() if fate.why == reruns.NEW]
        known: dict[tuple[str, str], float] = {}
        for job in new:
            if job[:2] not in known:
                known[job[0], job[1]] = self._folder_bytes(job)
        return sum(known[job[0], job[1]] for job in new)

    def _folder_bytes(self, job: Job) -> float:
        """Return what a run folder takes: that of a finished fold or seed, else by arithmetic."""
        for other, fate in self.fates.items():
            if other[:2] == job[:2] and fate.what == DONE:
                folder = self._folders[other]
                return float(sum(path.stat().st_size for path in folder.iterdir()))
        return costs.estimate(self.suite, [job]).runs

    def tasks(self) -> dict[str, Task]:
        """Return trainings and scorings as tasks that wait for each other."""
        found: dict[str, Task] = {}
        for job, fate in self.pending.items():
            price, name = self.prices.of(job.dataset, job.run), str(self._folders[job])
            above = [self._folders[p] for p in self.agreement.parents(job) if p in self._folders]
            if fate.what == TRAIN:
                after = tuple(f"train {path}" for path in above)
                found[f"train {name}"] = Task(price.boot + price.train, after)
            found[f"score {name}"] = Task(price.boot + price.evaluate, (f"train {name}",))
        return found


def cost(fate: Fate, price: Price) -> float:
    """Return the device seconds of a job."""
    return price.seconds if fate.what == TRAIN else price.evaluate


def forecasts(suites: Sequence[Suite], device: str | None = None) -> list[Forecast]:
    """Return a forecast of each suite; a run that several list is counted by the first."""
    found: list[Forecast] = []
    before: dict[Path, str] = {}
    for suite in suites:
        found.append(Forecast(suite, device, dict(before)))
        before = found[-1].folders | before
    return found


def makespan(tasks: Mapping[str, Task], places: int) -> float:
    """Return the seconds until all tasks are done when `places` of them run at once.

    A free place takes the first task that waits for nobody, in the given order, as Snakemake's
    scheduler about does. Tasks that are not among them count as done.
    """
    waiting = {name: {a for a in task.after if a in tasks} for name, task in tasks.items()}
    below: dict[str, list[str]] = {name: [] for name in tasks}
    for name, above in waiting.items():
        for one in above:
            below[one].append(name)
    order = {name: number for number, name in enumerate(tasks)}
    ready = [(order[name], name) for name, above in waiting.items() if not above]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < places:
            name = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + tasks[name].seconds, name))
        now, name = heapq.heappop(running)
        for other in below[name]:
            waiting[other].discard(name)
            if not waiting[other]:
                heapq.heappush(ready, (order[other], other))
    return now


def places(forecast: Forecast) -> int:
    """Return how many runs this machine would hold at once by `snakemake --cores all`."""
    if not forecast.threads:
        return 1
    return max(1, len(os.sched_getaffinity(0)) // forecast.threads)


def together(found: Iterable[Forecast]) -> dict[str, Task]:
    """Return the tasks of several suites as one."""
    return {name: task for one in found for name, task in one.tasks().items()}


def is_estimate(basis: str) -> bool:
    """Tell whether a basis is arithmetic on a device that is nobody's own."""
    return basis in (ESTIMATED, UNKNOWN)
