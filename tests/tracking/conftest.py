"""Results made by hand, and the servers that they are replayed into."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TREES, SERVERS = _load("trees"), _load("servers")
CODE = "import sys; from cmkd.cli import main; sys.exit(main(sys.argv[1:]))"
WITHOUT_LOCKS = """
import fcntl
def refuse(*_):
    raise OSError("this file system has no locks")
fcntl.flock = refuse
"""


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")


@pytest.fixture(scope="session")
def trees():
    return TREES


@pytest.fixture(scope="session")
def servers():
    return SERVERS


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL where its user may go (pytest's folders are closed to others)."""
    if SERVERS.postgres_folder() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="cmkd-pg-"))
    folder.chmod(0o755)
    made = SERVERS.Postgres(folder / "pg")
    yield made
    made.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    made = SERVERS.Server(tmp_path_factory.mktemp("mlflow"), postgres.uri)
    yield made
    made.kill()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A store without experiments, made once: its tables take longer than a pass."""
    from cmkd.tracking import store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.client(f"sqlite:///{path}")
    return path


@pytest.fixture
def cmkd(tmp_path):
    """Start `cmkd` as a user would; the output goes to a file."""
    started = []

    def start(*arguments, locks=True, **environment):
        code = CODE if locks else WITHOUT_LOCKS + CODE
        out = tmp_path / f"out-{len(started)}.txt"
        with open(out, "w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                env={**os.environ, **environment}, stdout=file, stderr=file, cwd=tmp_path,
            )  # fmt: skip
        process.out = out
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
