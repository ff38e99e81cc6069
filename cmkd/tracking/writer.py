"""The one writer: brings the store up to date with the run folders of a suite."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.plan.suites import Job, Suite
from cmkd.progress import progress
from cmkd.reports.runs import DONE, FAILED, RunState, collect
from cmkd.tracking import store, views
from cmkd.tracking.entries import HASH, KEY, STATE, Entry, digest_of, entry_of, run_key, tags_of

METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # what one request may hold


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

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"MLflow: {self.added} runs added, {self.replaced} replaced, {self.unchanged} "
            f"unchanged, {self.waiting} not finished; see them with `cmkd ui`"
        )


def track(suite: Suite) -> TrackReport:
    """Replay every finished or failed run of the suite into MLflow and write the marker.

    The store is MLFLOW_TRACKING_URI, else the suite's `execution.tracking_uri`, else
    RESULTS/mlflow.db. The marker is RESULTS/logs/track-SUITE.json.
    """
    suite.results.mkdir(parents=True, exist_ok=True)
    uri = store.tracking_uri(suite)
    with _one_writer(suite.results / "logs" / ".track.lock"):
        client = store.client(uri)
        states = collect(suite)
        experiments = store.experiments(client, suite, {job.dataset for job in states})
        counts = _replay(client, suite, states, experiments)
        pages = _views(client, suite, states, experiments)
        report = TrackReport(suite.name, store.public(uri), experiments, pages, **counts)
        files.write_json(store.marker(suite), {"format": 1, **report.__dict__})
    return report


@contextlib.contextmanager
def _one_writer(path: Path) -> Iterator[None]:
    """Wait for another pass over the same results; file systems without locks do without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _replay(
    client: Any, suite: Suite, states: Mapping[Job, RunState], experiments: Mapping[str, str]
) -> dict[str, int]:
    """Bring the store up to date and return how many runs were treated how."""
    identity = store.results_id(suite.results)
    known = _known(client, list(experiments.values()), identity)
    counts = {"added": 0, "replaced": 0, "unchanged": 0, "waiting": 0}
    for job, state in progress(states.items(), len(states), "track"):
        old = known.get(run_key(identity, job), [])
        if state.status in (DONE, FAILED):
            counts[_update(client, suite, state, old, experiments[job.dataset])] += 1
        else:
            _mark(client, state, old)
            counts["waiting"] += 1
    return counts


def _views(
    client: Any, suite: Suite, states: Mapping[Job, RunState], experiments: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Write each experiment's saved views; return the pages that show them."""
    identity = store.results_id(suite.results)
    known = _known(client, list(experiments.values()), identity)
    keys = {job: known.get(run_key(identity, job)) for job in states}
    ids = {job: str(found[0].info.run_id) for job, found in keys.items() if found}
    pages = {}
    for dataset, experiment in experiments.items():
        of = [state for job, state in states.items() if job.dataset == dataset]
        pages[dataset] = views.write(client, suite, dataset, experiment, of, ids)
    return pages


def _known(client: Any, experiments: Sequence[str], identity: str) -> dict[str, list[Any]]:
    """Return the runs of these results that the store has, by key."""
    known: dict[str, list[Any]] = {}
    for experiment in experiments:
        token: str | None = None
        while True:
            page = client.search_runs(
                [experiment],
                filter_string=f"tags.`{KEY}` LIKE '{identity}/%'",
                max_results=5000,
                page_token=token,
            )
            for run in page:
                known.setdefault(run.data.tags[KEY], []).append(run)
            token = page.token
            if not token:
                break
    return known


def _update(client: Any, suite: Suite, state: RunState, old: Sequence[Any], experiment: str) -> str:
    """Write a run unless its content is there; the new one is whole before the old one goes."""
    tags = tags_of(suite, state, store.results_id(suite.results))
    digest = digest_of(state, tags)
    same = [run for run in old if run.data.tags.get(HASH) == digest]
    for run in same[:1]:
        _set_state(client, run, state.status)
    if not same:
        _write(client, experiment, entry_of(suite, state, tags), digest)
    for run in old:
        if run not in same[:1]:
            client.delete_run(run.info.run_id)
    if same:
        return "unchanged"
    return "replaced" if any(HASH in run.data.tags for run in old) else "added"


def _mark(client: Any, state: RunState, old: Sequence[Any]) -> None:
    """Say of runs whose folder is no longer finished that they are stale; drop what was cut off."""
    for run in old:
        if HASH in run.data.tags:
            _set_state(client, run, state.status)
        else:
            client.delete_run(run.info.run_id)


def _set_state(client: Any, run: Any, status: str) -> None:
    """Set the tag that tells whether the numbers are those wanted now."""
    if run.data.tags.get(STATE) != status:
        client.set_tag(run.info.run_id, STATE, status)


def _write(client: Any, experiment: str, entry: Entry, digest: str) -> None:
    """Write a run in as few calls as the store allows; the hash comes last."""
    from mlflow.entities import Metric, Param

    run = client.create_run(
        experiment, start_time=entry.start, tags=dict(entry.tags), run_name=entry.name
    )
    key = run.info.run_id
    metrics = [Metric(*curve) for curve in entry.metrics]
    params = [Param(name, value) for name, value in entry.params.items()]
    client.log_batch(key, metrics[:METRICS_AT_ONCE], params[:PARAMS_AT_ONCE])
    for start in range(METRICS_AT_ONCE, len(metrics), METRICS_AT_ONCE):
        client.log_batch(key, metrics[start : start + METRICS_AT_ONCE])
    for start in range(PARAMS_AT_ONCE, len(params), PARAMS_AT_ONCE):
        client.log_batch(key, params=params[start : start + PARAMS_AT_ONCE])
    if entry.manifest:
        client.log_inputs(key, [_dataset(entry)])
    for path in entry.artifacts:
        client.log_artifact(key, str(path))
    client.set_terminated(key, entry.status, entry.end)
    client.set_tag(key, HASH, digest)


def _dataset(entry: Entry) -> Any:
    """Return the prepared data as an MLflow dataset, known by its manifest's hash."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": "manifest.csv", "sha256": entry.manifest})
    data = Dataset(entry.tags["dataset"], entry.manifest[:16], "local", source)
    return DatasetInput(data, [InputTag("mlflow.data.context", "train and test")])
