"""The one writer: brings the store up to date with the run folders of a suite."""

import contextlib
import fcntl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.plan.suites import Job, Suite
from cmkd.progress import progress
from cmkd.reports.runs import DONE, FAILED, RunState, collect
from cmkd.tracking import live, store, trouble, upload, views
from cmkd.tracking.entries import HASH, KEY, STATE, digest_of, entry_of, run_key, tags_of

COUNTS = ("added", "replaced", "unchanged", "waiting", "running")
Known = dict[str, list[Any]]  # the store's runs by key


@dataclass(frozen=True)
class TrackReport:
    """What one pass did: counts of runs, each dataset's experiment and the pages that show it."""

    suite: str
    store: str
    experiments: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    waiting: int = 0
    running: int = 0

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"MLflow: {self.added} runs added, {self.replaced} replaced, {self.unchanged} "
            f"unchanged, {self.waiting + self.running} not finished; see them with `cmkd ui`"
        )


@dataclass
class Copy:
    """The copy of a suite's runs in a store: its client, experiments by dataset, ids of runs.

    `shown` tells whether runs that are still being trained are shown, too.
    """

    client: Any
    suite: Suite
    identity: str
    experiments: Mapping[str, str]
    shown: bool = False
    ids: dict[Job, str] = field(default_factory=dict)

    def known(self, jobs: Iterable[Job] | None = None) -> Known:
        """Return what the store has of these jobs, or of all the results, by key."""
        known: Known = {}
        chosen = [(list(self.experiments.values()), f"tags.`{KEY}` LIKE '{self.identity}/%'")]
        if jobs is not None:
            chosen = [
                ([self.experiments[job.dataset]], f"tags.`{KEY}` = '{self.key(job)}'")
                for job in jobs
            ]
        for experiments, wanted in chosen:
            for run in _search(self.client, experiments, wanted):
                known.setdefault(run.data.tags[KEY], []).append(run)
        return known

    def key(self, job: Job) -> str:
        """Return the key of a job's run."""
        return run_key(self.identity, job)

    def replay(self, states: Iterable[RunState], known: Known) -> dict[str, int]:
        """Bring the store up to date and return how many runs were treated how."""
        counts = dict.fromkeys(COUNTS, 0)
        for state in states:
            old = known.get(self.key(state.job), [])
            if state.status in (DONE, FAILED):
                counts[self._update(state, old)] += 1
            else:
                counts[self._unfinished(state, old)] += 1
        return counts

    def merge(self, known: Known) -> None:
        """Take away what was written twice: by two writers, or because an answer was lost.

        Of equal runs all writers keep the same one. What another writer has not finished is left
        to it, or to the next pass.
        """
        for runs in known.values():
            kept: dict[str, Any] = {}
            for run in sorted(runs, key=lambda run: str(run.info.run_id)):
                tags = run.data.tags
                lost = tags.get(upload.WRITER) == upload.TOKEN and live.LIVE not in tags
                double = kept.setdefault(tags[HASH], run) is not run if HASH in tags else lost
                if double:
                    upload.delete(self.client, run)
        self.ids |= {
            job: min(str(run.info.run_id) for run in done)
            for job in self.suite.jobs()
            if (done := [run for run in known.get(self.key(job), []) if HASH in run.data.tags])
        }

    def show(self, states: Mapping[Job, RunState]) -> dict[str, dict[str, str]]:
        """Write each experiment's saved views; return the pages that show them."""
        pages = {}
        for dataset, experiment in self.experiments.items():
            of = [state for job, state in states.items() if job.dataset == dataset]
            pages[dataset] = views.write(
                self.client, self.suite, dataset, experiment, of, self.ids, self._tree()
            )
        return pages

    def _tree(self) -> str:
        """Return what tells these results from others in a shared store, "" in their own."""
        own = store.tracking_uri(self.suite) == store.own_uri(self.suite)
        return "" if own else self.identity

    def _update(self, state: RunState, old: Sequence[Any]) -> str:
        """Write a run unless it is there; the new one is whole before the old one goes."""
        tags = tags_of(self.suite, state, self.identity)
        digest = digest_of(state, tags)
        same = [run for run in old if run.data.tags.get(HASH) == digest]
        if same:
            _set_state(self.client, same[0], state.status)
            self.ids[state.job] = str(same[0].info.run_id)
        else:
            entry = entry_of(self.suite, state, tags)
            experiment = self.experiments[state.job.dataset]
            self.ids[state.job] = upload.write(self.client, experiment, entry, digest)
        for run in old:
            if run not in same[:1]:
                upload.delete(self.client, run)
        if same:
            return "unchanged"
        return "replaced" if any(HASH in run.data.tags for run in old) else "added"

    def _unfinished(self, state: RunState, old: Sequence[Any]) -> str:
        """Mark what is no longer wanted, drop what was cut off, show what is being trained."""
        shown = [run for run in old if live.LIVE in run.data.tags and HASH not in run.data.tags]
        for run in old:
            if HASH in run.data.tags:
                _set_state(self.client, run, state.status)
            elif run not in shown[:1]:
                upload.delete(self.client, run)
        sight = live.look(self.suite, state) if self.shown or shown else None
        if sight is None:
            for run in shown[:1]:
                upload.delete(self.client, run)
            return "waiting"
        tags = tags_of(self.suite, state, self.identity)
        experiment = self.experiments[state.job.dataset]
        live.show(self.client, experiment, sight, tags, shown[0] if shown else None)
        return "running" if sight.alive else "waiting"


def track(suite: Suite) -> TrackReport:
    """Replay every finished or failed run of the suite into MLflow and write the marker.

    The store is MLFLOW_TRACKING_URI, else the suite's `execution.tracking_uri`, else
    RESULTS/mlflow.db. The marker is RESULTS/logs/track-SUITE.json.

    Raises:
        StoreError: the store does not answer for about a minute, or it refuses.
    """
    uri = store.tracking_uri(suite)
    with one_writer(suite), trouble.told(uri):
        copy, states = open_copy(suite), collect(suite)
        with trouble.patience(trouble.PATIENT):
            known = copy.known()
            counts = copy.replay(progress(states.values(), len(states), "track"), known)
            copy.merge(copy.known())
            return write_marker(copy, states, counts)


def open_copy(suite: Suite, shown: bool = False) -> Copy:
    """Reach the store, make the experiments that are not there, and return the suite's copy.

    Raises:
        StoreError: the store does not answer, or it refuses.
    """
    client = store.client(store.tracking_uri(suite))
    identity = store.results_id(suite.results)
    with trouble.patience(trouble.BRIEF):
        experiments = store.experiments(client, suite, {job.dataset for job in suite.jobs()})
    return Copy(client, suite, identity, experiments, shown)


def write_marker(
    copy: Copy, states: Mapping[Job, RunState], counts: Mapping[str, int]
) -> TrackReport:
    """Write the saved views and the marker, and return what was done."""
    address = store.public(store.tracking_uri(copy.suite))
    report = TrackReport(copy.suite.name, address, copy.experiments, copy.show(states), **counts)
    files.write_json(store.marker(copy.suite), {"format": 1, **report.__dict__})
    return report


@contextlib.contextmanager
def one_writer(suite: Suite) -> Iterator[None]:
    """Wait for another pass over the same results; file systems without locks do without."""
    path: Path = suite.results / "logs" / ".track.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _search(client: Any, experiments: Sequence[str], wanted: str) -> Iterator[Any]:
    """Yield the runs of each experiment that a filter finds, page by page."""
    for experiment in experiments:
        token: str | None = None
        while True:
            page = client.search_runs(
                [experiment], filter_string=wanted, max_results=5000, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                break


def _set_state(client: Any, run: Any, status: str) -> None:
    """Set the tag that tells whether the numbers are those wanted now."""
    if run.data.tags.get(STATE) != status:
        client.set_tag(run.info.run_id, STATE, status)
