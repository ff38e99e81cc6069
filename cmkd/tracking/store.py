"""Where the tracking store is, the client that talks to it, and the command of its UI."""

import logging
import os
import re
import sys
import uuid
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import RunError
from cmkd.plan.suites import Suite

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
EXPERIMENT_NOTE = (
    "One MLflow run for each finished run folder: one model, one fold, one seed. A run's name is "
    "`STUDENT@TEACHER fFOLD sSEED`. Add the columns `final/...`, filter and group by the tags "
    "`run`, `student`, `teacher`, `direction`, `fold`, `seed`. This is a copy: the run folders and "
    "the leaderboard, with its intervals, are the record."
)


def tracking_uri(suite: Suite) -> str:
    """Return the address of the tracking store."""
    stated = os.environ.get("MLFLOW_TRACKING_URI") or suite.execution.get("tracking_uri")
    return str(stated) if stated else f"sqlite:///{suite.results.resolve() / 'mlflow.db'}"


def results_id(results: Path) -> str:
    """Return the name of this tree of results in a shared store: RESULTS/id, made once."""
    path = results / "id"
    if not path.exists():
        files.write_text(path, uuid.uuid4().hex[:12] + "\n")
    return path.read_text(encoding="utf-8").strip()


def marker(suite: Suite) -> Path:
    """Return the file that says what the last pass did."""
    return suite.results / "logs" / f"track-{suite.name}.json"


def ui_command(suite: Suite, port: int = 5000) -> tuple[list[str], dict[str, str], str]:
    """Return the command of MLflow's UI, its further environment, and the address to open.

    It listens on this machine only, with one worker, without telemetry or job execution, and the
    address opens the first dataset's experiment in the model-training view.

    Raises:
        RunError: nothing has been tracked yet, or it went to another store or to a server.
    """
    uri, again = tracking_uri(suite), f"run `cmkd track` on suite '{suite.name}' first"
    if not marker(suite).is_file() or not marker(suite).stat().st_size:
        raise RunError(f"{marker(suite)}: nothing is in MLflow yet; {again}")
    written = files.read_json(marker(suite))
    if written["store"] != public(uri):
        raise RunError(f"{marker(suite)}: the runs are in {written['store']}; {again}")
    experiment = written["experiments"][suite.datasets[0]]
    page = f"#/experiments/{experiment}/runs?workflowType=machine_learning"
    if is_server(uri):
        raise RunError(f"the runs are on a server of their own: open {public(uri)}/{page}")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(artifacts(suite))]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return command, environment, f"http://127.0.0.1:{port}/{page}"


def client(uri: str) -> Any:
    """Import MLflow, quietly, and return a client of the store."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri)


def public(uri: str) -> str:
    """Return an address without the password in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


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
    """Return an experiment's id; a deleted one still owns its name, so it is restored."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    location = None if is_server(tracking_uri(suite)) else artifacts(suite).as_uri()
    tags = {"mlflow.note.content": EXPERIMENT_NOTE}
    return str(client.create_experiment(name, artifact_location=location, tags=tags))
