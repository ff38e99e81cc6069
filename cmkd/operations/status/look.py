"""One look at a suite: every run and its data, from files and the queue, at one moment."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cmkd.operations.status import pace, squeue
from cmkd.operations.status.clock import Clock
from cmkd.operations.status.data import Data, Item
from cmkd.operations.status.pace import Left
from cmkd.operations.status.runs import DONE, LOST, STATES, Seen, Viewer, with_ending, with_queue
from cmkd.operations.status.squeue import Queue
from cmkd.plan.suites import Suite
from cmkd.scoring import lease

READERS = 8  # at once: on a cluster's file system each small file costs a round trip


@dataclass(frozen=True)
class Snapshot:
    """All that was seen of a suite at one moment (Unix seconds)."""

    suite: str
    results: Path
    time: float
    runs: tuple[Seen, ...]
    data: tuple[Item, ...]
    queue: Queue
    left: Left

    def counts(self) -> dict[str, int]:
        """Return how many runs are in each state, all states named."""
        found = Counter(seen.state for seen in self.runs)
        return {state: found[state] for state in STATES}

    @property
    def finished(self) -> bool:
        """Tell whether every run is done."""
        return all(seen.state == DONE for seen in self.runs)


def look(suite: Suite) -> Snapshot:
    """Return what a suite is doing now."""
    limit = lease.seconds(suite.execution)
    clock = Clock(suite.results, limit)
    viewer = Viewer(suite, clock, limit)  # resolves every recipe, before threads share the suite
    with ThreadPoolExecutor(READERS) as readers:
        listing = readers.submit(squeue.listing, suite)
        runs = list(readers.map(viewer.look, suite.jobs(), chunksize=1))
        queue = squeue.look(suite, listing.result())
    runs = [with_queue(seen, queue) for seen in runs]
    runs = _with_endings(runs, queue)
    unfinished = {seen.job.dataset for seen in runs if seen.state != DONE}
    finished = {job.dataset for job in suite.jobs()} - unfinished
    data = Data(suite, clock, limit, queue, finished).look()
    left = pace.left(suite, runs)
    return Snapshot(suite.name, suite.results, time.time(), tuple(runs), tuple(data), queue, left)


def _with_endings(runs: list[Seen], queue: Queue) -> list[Seen]:
    """Ask Slurm's accounting about silent runs whose jobs are no longer in the queue."""
    gone = [s.slurm for s in runs if s.state == LOST and s.slurm and not queue.holds(s.slurm)]
    endings = squeue.endings(gone) if queue.asked and gone else {}
    return [with_ending(seen, endings) for seen in runs] if endings else runs
