"""One run written into the store, its hash last; a run that vanishes meanwhile is written again."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from cmkd.tracking import trouble
from cmkd.tracking.entries import HASH, Curve, Entry

METRICS_AT_ONCE, PARAMS_AT_ONCE = 850, 100  # a request may hold 1000 things, 100 of them params
WRITER, TOKEN = "cmkd.writer", uuid.uuid4().hex[:12]  # which process wrote a run
ATTEMPTS = 3


def write(client: Any, experiment: str, entry: Entry, digest: str) -> str:
    """Write a finished run and return MLflow's id of it.

    A writer on another machine takes a run without a hash for one that was cut off and deletes it;
    then it is written once more, and the double that this may leave is taken away afterwards.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _write(client, experiment, entry, digest)
        except Exception as error:
            if not trouble.is_gone(error):
                raise
    return _write(client, experiment, entry, digest)


def _write(client: Any, experiment: str, entry: Entry, digest: str) -> str:
    """Write a run in as few calls as the store allows; the hash comes last."""
    key = begin(client, experiment, entry, entry.tags)
    log(client, key, entry.metrics, entry.params)
    if entry.manifest:
        trouble.insist(lambda: client.log_inputs(key, [_dataset(entry)]))
    for path in entry.artifacts:
        client.log_artifact(key, str(path))
    client.set_terminated(key, entry.status, entry.end)
    client.set_tag(key, HASH, digest)
    return key


def begin(client: Any, experiment: str, entry: Entry, tags: Mapping[str, str]) -> str:
    """Create a run with its tags and return its id.

    A request whose answer was lost is repeated by MLflow and makes a second run: the writer's tag
    tells it from another writer's unfinished one.
    """
    tags = {**tags, WRITER: TOKEN}
    run = client.create_run(experiment, start_time=entry.start, tags=tags, run_name=entry.name)
    return str(run.info.run_id)


def log(
    client: Any,
    key: str,
    curves: Sequence[Curve],
    values: Mapping[str, str],
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log points, parameters and tags in one request, or in as many as their number needs.

    Points that are there already are no second ones, so that a repeated request does no harm.
    """
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*curve) for curve in curves]
    params = [Param(name, value) for name, value in values.items()]
    for start in range(METRICS_AT_ONCE, len(metrics), METRICS_AT_ONCE):
        client.log_batch(key, metrics[start : start + METRICS_AT_ONCE])
    for start in range(PARAMS_AT_ONCE, len(params), PARAMS_AT_ONCE):
        client.log_batch(key, params=params[start : start + PARAMS_AT_ONCE])
    found = [RunTag(name, value) for name, value in (tags or {}).items()]
    client.log_batch(key, metrics[:METRICS_AT_ONCE], params[:PARAMS_AT_ONCE], found)


def delete(client: Any, run: Any) -> None:
    """Delete a run, or leave it to whoever has deleted it."""
    try:
        client.delete_run(run.info.run_id)
    except Exception as error:
        if not trouble.is_gone(error):
            raise


def _dataset(entry: Entry) -> Any:
    """Return the prepared data as an MLflow dataset, known by its manifest's hash."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": "manifest.csv", "sha256": entry.manifest})
    data = Dataset(entry.tags["dataset"], entry.manifest[:16], "local", source)
    return DatasetInput(data, [InputTag("mlflow.data.context", "train and test")])
