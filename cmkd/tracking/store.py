"""Where the tracking store is, the client that talks to it, and the command of its UI."""

import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import RunError, StoreError
from cmkd.plan.suites import Suite
from cmkd.tracking import trouble
from cmkd.tracking.trouble import public

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
OPENING = "One MLflow run for each finished run folder: one model, one fold, one seed."
EXPERIMENT_NOTE = (
    f"{OPENING} **Views** (top right) has the scores and the comparisons ready. A run's name is "
    "`STUDENT@TEACHER fFOLD sSEED`; without `@` nobody taught it.\n\n"
    "- `final/...`: scores on the test clips; `train/...`, `val/...`: curves, a step is an epoch; "
    "`usage/...`: seconds, hours, memory in GB, GFLOPs of a clip.\n"
    "- `train/loss_hard` is the loss against the labels, `train/loss_soft` against the teacher; "
    "`train/loss` is what was minimised, so it is another sum with a teacher than without.\n"
    "- Filter and group by the tags `run`, `model`, `student`, `teacher`, `direction`, `fold`, "
    "`seed`. `cmkd.state` says whether a run is `done` or `stale` (its recipe has changed since)."
    "\n\nThis is a copy: the run folders, and the leaderboard with its intervals, are the record."
)
NOTE = "mlflow.note.content"
MODE = "workflowType=machine_learning"


def tracking_uri(suite: Suite) -> str:
    """Return the address of the tracking store."""
    stated = os.environ.get("MLFLOW_TRACKING_URI") or suite.execution.get("tracking_uri")
    return str(stated) if stated else own_uri(suite)


def own_uri(suite: Suite) -> str:
    """Return the address of the store that lies among the results."""
    return f"sqlite:///{suite.results.resolve() / 'mlflow.db'}"


def results_id(results: Path) -> str:
    """Return the name of this tree of results in a shared store: RESULTS/id, made once."""
    path = results / "id"
    if not path.exists():
        _write_first(path, uuid.uuid4().hex[:12] + "\n")
    return path.read_text(encoding="utf-8").strip()


def _write_first(path: Path, text: str) -> None:
    """Write a file whole unless another process, on whatever machine, was faster."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        new = Path(folder) / path.name
        files.write_text(new, text)
        try:
            os.link(new, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            new.replace(path)


def marker(suite: Suite) -> Path:
    """Return the file that says what the last pass did."""
    return suite.results / "logs" / f"track-{suite.name}.json"


def ui_command(suite: Suite, port: int = 5000) -> tuple[list[str], dict[str, str], str]:
    """Return the command of MLflow's UI, its further environment, and the address to open.

    It listens on this machine only, with one worker, without telemetry or job execution, and the
    address opens the first dataset's scores in the model-training view.

    Raises:
        RunError: nothing has been tracked yet, or it went to another store or to a server.
    """
    uri, address = tracking_uri(suite), next(iter(ui_pages(suite, port).values()))
    if is_server(uri):
        raise RunError(f"the runs are on a server of their own: open {address}")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(artifacts(suite))]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return command, environment, address


def ui_pages(suite: Suite, port: int = 5000) -> dict[str, str]:
    """Return the addresses worth opening, by title: each dataset's scores and comparisons.

    Raises:
        RunError: nothing has been tracked yet, or it went to another store.
    """
    uri, again = tracking_uri(suite), f"run `cmkd track` on suite '{suite.name}' first"
    if not marker(suite).is_file() or not marker(suite).stat().st_size:
        raise RunError(f"{marker(suite)}: nothing is in MLflow yet; {again}")
    written = files.read_json(marker(suite))
    if written["store"] != public(uri):
        raise RunError(f"{marker(suite)}: the runs are in {written['store']}; {again}")
    head = public(uri) if is_server(uri) else f"http://127.0.0.1:{port}"
    found = {}
    for dataset in suite.datasets:
        bare = {"All runs": f"#/experiments/{written['experiments'][dataset]}/runs?{MODE}"}
        for title, page in (written.get("pages", {}).get(dataset) or bare).items():
            found[f"{dataset}: {title}"] = f"{head}/{page}"
    return found


def client(uri: str) -> Any:
    """Import MLflow, quietly, and return a client of a store that answers.

    Raises:
        StoreError: it does not, or it refuses.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings of each repeated request
    with trouble.told(uri), trouble.patience(trouble.BRIEF):
        if "://" in uri and not is_server(uri):
            _connect(uri)
        try:
            found = MlflowClient(tracking_uri=uri)
        except OSError as error:
            raise StoreError(f"the MLflow store {public(uri)} cannot be made: {error}") from None
        found.search_experiments(max_results=1)
    return found


def _connect(uri: str) -> None:
    """Connect to a database once: MLflow itself would try for minutes, and say so in many lines."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    if engine.dialect.name != "sqlite":
        engine.connect().close()
    engine.dispose()


def is_server(uri: str) -> bool:
    """Return whether the store is behind a server, which keeps the artifacts itself."""
    return uri.startswith(("http://", "https://", "databricks"))


def artifacts(suite: Suite) -> Path:
    """Return where the artifacts of a local store lie."""
    return suite.results.resolve() / "mlartifacts"


def experiments(client: Any, suite: Suite, datasets: set[str]) -> dict[str, str]:
    """Return the id of each dataset's experiment, made or restored where it is needed."""
    return {dataset: _experiment(client, suite, f"cmkd/{dataset}") for dataset in sorted(datasets)}


def _experiment(client: Any, suite: Suite, name: str) -> str:
    """Return an experiment's id; a deleted one still owns its name, so it is restored.

    Where the results, their store among them, were moved or copied, the old experiment would have
    its artifacts in the old place for ever: it is put aside under another name.

    Raises:
        StoreError: it was deleted on a server. Restoring it would also bring back all runs that
            were ever replaced, those of other people among them.
    """
    found = client.get_experiment_by_name(name)
    location = None if is_server(tracking_uri(suite)) else artifacts(suite).as_uri()
    if found is not None and _is_own(suite) and found.artifact_location != location:
        _put_aside(client, found)
        found = None
    if found is None:
        found = _create(client, name, location)
    if found.lifecycle_stage == "deleted":
        _restore(client, suite, found)
    note = found.tags.get(NOTE, OPENING)
    if note != EXPERIMENT_NOTE and note.startswith(OPENING):  # an older one of ours
        number = found.experiment_id
        trouble.insist(lambda: client.set_experiment_tag(number, NOTE, EXPERIMENT_NOTE))
    return str(found.experiment_id)


def _create(client: Any, name: str, location: str | None) -> Any:
    """Return a new experiment, or the one that another writer made at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, location, {NOTE: EXPERIMENT_NOTE})
    except MlflowException as error:
        if not trouble.exists_already(error):
            raise
    return client.get_experiment_by_name(name)


def _restore(client: Any, suite: Suite, found: Any) -> None:
    """Restore a deleted experiment of one's own store; refuse it on a server."""
    uri = tracking_uri(suite)
    if is_server(uri):
        raise StoreError(
            f"experiment '{found.name}' (number {found.experiment_id}) was deleted on "
            f"{public(uri)}: its operator removes it for good with `mlflow gc --experiment-ids "
            f"{found.experiment_id}`, or restores it, after which runs that had been replaced are "
            "there twice until each suite is tracked again"
        )
    client.restore_experiment(found.experiment_id)


def _is_own(suite: Suite) -> bool:
    """Tell whether the store lies among the results, so that it moves with them."""
    return tracking_uri(suite) == own_uri(suite)


def _put_aside(client: Any, found: Any) -> None:
    """Rename and delete an experiment; MLflow renames only what is not deleted."""
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    client.rename_experiment(
        found.experiment_id, f"{found.name} before a move {uuid.uuid4().hex[:8]}"
    )
    client.delete_experiment(found.experiment_id)
