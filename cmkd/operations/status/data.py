"""Downloads, prepared data sets and statistics of a suite: done, at work, failed, waiting."""

import dataclasses
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from cmkd import files
from cmkd.operations.status import reading
from cmkd.operations.status.clock import Clock
from cmkd.operations.status.runs import (
    AGAIN,
    DONE,
    FAILED,
    LOST,
    MEND,
    ON,
    QUEUED,
    RUNNING,
    STALE,
    WAITING,
)
from cmkd.operations.status.squeue import Key, Queue
from cmkd.plan.agreement import Agreement
from cmkd.plan.downloads import MARKER
from cmkd.plan.suites import Suite

# Seconds without a word in the log after which it is odd: a download and a preparation report their
# progress, but copy and hash large files between; statistics say nothing until they are done.
PATIENCE = {"download": 600.0, "prepare": 600.0, "stats": 3600.0}


@dataclass(frozen=True)
class Item:
    """A download, a prepared data set or a file of statistics, and its state.

    kind: "download", "prepare" or "stats"; name: the data set, for statistics with front end and
    fold; the rest as for a run.
    """

    kind: str
    dataset: str
    name: str
    state: str
    cause: str = ""
    log: Path | None = None
    advice: str | None = None
    heartbeat: float | None = None
    slurm: str | None = None
    reason: str | None = None


class Data:
    """Looks at a suite's data; `finished` are the data sets whose runs are all done."""

    def __init__(
        self, suite: Suite, clock: Clock, limit: float, queue: Queue, finished: Set[str]
    ) -> None:
        """Take a suite, the file system's clock, its limit, the queue and what is finished."""
        self.suite, self.clock, self.limit, self.queue = suite, clock, limit, queue
        self.finished = finished
        self.agreement = Agreement(suite)
        self.logs = suite.results / "logs"

    def look(self) -> list[Item]:
        """Return all of them: downloads, prepared data sets, statistics."""
        datasets = tuple(dict.fromkeys(job.dataset for job in self.suite.jobs()))
        owners = dict.fromkeys(filter(None, map(self.suite.fetched, datasets)))
        items = [self._download(owner) for owner in owners]
        items += [self._prepared(dataset) for dataset in datasets]
        return items + [item for dataset in datasets for item in self._statistics(dataset)]

    def _download(self, owner: str) -> Item:
        """Return the state of one dataset's download."""
        item = Item("download", owner, owner, WAITING)
        if (self.suite.downloads / owner / MARKER).is_file():
            return dataclasses.replace(item, state=DONE)
        return self._by_log(item, self.logs / "download" / f"{owner}.log", ("download", owner))

    def _prepared(self, dataset: str) -> Item:
        """Return the state of one prepared data set."""
        item = Item("prepare", dataset, dataset, WAITING)
        state = self.agreement.prepared_state(dataset)
        if state == "sound":
            return dataclasses.replace(item, state=DONE)
        log, key = self.logs / "prepare" / f"{dataset}.log", ("prepare", dataset)
        if state == "other":
            cause = "made from another entry of datasets.yaml than the one wanted now"
            item = dataclasses.replace(item, state=STALE, cause=cause, advice=AGAIN)
            # The log of what lies there says nothing of what is to come.
            end = reading.ending(log, self.clock)
            if end is None or (not end.error and end.age > self._patience(item)):
                return self._queued(item, key)
        return self._by_log(item, log, key)

    def _statistics(self, dataset: str) -> Iterator[Item]:
        """Yield the statistics of a data set, by front end and fold."""
        jobs = [job for job in self.suite.jobs() if job.dataset == dataset]
        pairs = dict.fromkeys(
            (self.suite.frontend(dataset, job.run).name, job.fold) for job in jobs
        )
        for frontend, fold in pairs:
            item = Item("stats", dataset, f"{dataset} {frontend} fold {fold}", WAITING)
            folder = self.suite.prepared_folder(dataset) / "stats" / frontend
            path = folder / f"fold-{fold}.json"
            if path.is_file() and files.sidecar(path).is_file():
                yield self._made(item, path)
                continue
            log = self.logs / "stats" / dataset / frontend / f"fold-{fold}.log"
            yield self._by_log(item, log, ("stats", dataset, frontend, str(fold)))

    def _made(self, item: Item, path: Path) -> Item:
        """Return statistics that are there: done, or of another manifest."""
        if self.agreement.statistics_agree(path, item.dataset):
            return dataclasses.replace(item, state=DONE)
        cause = "made from another manifest than the one that lies there"
        return dataclasses.replace(item, state=STALE, cause=cause, advice=AGAIN)

    def _by_log(self, item: Item, log: Path, key: Key) -> Item:
        """Judge what is not there by its log; nobody needs it where all its runs are done."""
        end = reading.ending(log, self.clock)
        if item.dataset in self.finished and item.state == WAITING:
            return dataclasses.replace(item, cause="not there; no run needs it")
        if end is None:
            return self._queued(item, key)
        found = dataclasses.replace(item, log=log, heartbeat=end.age)
        if end.error:
            found = dataclasses.replace(found, state=FAILED, cause=end.line, advice=MEND)
        elif end.age <= self._patience(item):
            found = dataclasses.replace(found, state=RUNNING, cause=end.line)
        elif item.state == WAITING:
            last = f"; its log ends: {end.line}" if end.line else ""
            cause = f"no record of an end: killed, or its files were removed{last}"
            found = dataclasses.replace(found, state=LOST, cause=cause, advice=ON)
        return self._queued(found, key)

    def _patience(self, item: Item) -> float:
        """Return the seconds after which silence is odd."""
        return max(self.limit, PATIENCE[item.kind])

    def _queued(self, item: Item, key: Key) -> Item:
        """Add what Slurm's queue knows."""
        entry = self.queue.jobs.get(key)
        if entry is None:
            return item
        if not entry.pending:
            return dataclasses.replace(item, state=RUNNING, slurm=entry.number, advice=None)
        return dataclasses.replace(item, state=QUEUED, slurm=entry.number, reason=entry.reason,
                                   advice=None)  # fmt: skip
