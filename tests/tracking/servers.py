"""A PostgreSQL and an MLflow server of our own, below a folder, taken down after the tests."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

SECONDS_TO_START = 180


def postgres_folder():
    """The folder of PostgreSQL's programs, or None."""
    for found in (shutil.which("postgres"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/*"))):
        if found and Path(found).name == "postgres" and (Path(found).parent / "initdb").is_file():
            return Path(found).parent
    return None


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A PostgreSQL with a database `mlflow`; it refuses to run as root, so another user runs it."""

    password = "only-for-this-test"

    def __init__(self, folder):
        self.programs, self.folder, self.port = postgres_folder(), Path(folder), free_port()
        self.data = self.folder / "data"
        self.folder.mkdir(parents=True)
        self._own(self.folder)
        (self.folder / "password").write_text(self.password)
        for path in (self.folder, self.folder / "password"):
            path.chmod(0o755)
        self._run("initdb", "-D", self.data, "-U", "mlflow", "-A", "scram-sha-256", "--no-sync",
                  "--pwfile", self.folder / "password", "-E", "UTF8")  # fmt: skip
        self.start()
        self._psql("create database mlflow", "postgres")

    @property
    def uri(self):
        return f"postgresql://mlflow:{self.password}@127.0.0.1:{self.port}/mlflow"

    def start(self):
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c max_connections=200"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options,
                  "start")  # fmt: skip

    def kill(self):
        """Stop it as a power cut would: no goodbye to the clients, recovery at the next start."""
        self._run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")

    def rows(self, query, *values):
        """What the database answers, asked without MLflow."""
        return self._psql(query, "mlflow", *values)

    def _psql(self, query, database, *values):
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="mlflow", password=self.password, dbname=database
        )
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def _own(self, path):
        if os.geteuid() == 0:
            user = next(
                n for n in ("postgres", "nobody") if n in {u.pw_name for u in pwd.getpwall()}
            )
            self.user = pwd.getpwnam(user)
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _run(self, program, *arguments):
        as_user = {}
        if os.geteuid() == 0:
            as_user = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            check=True, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, **as_user,
        )  # fmt: skip


class Server:
    """One MLflow server in a process group of its own, as docs/mlflow-server.md starts it."""

    def __init__(self, folder, store, *more, workers=2, **environment):
        self.folder, self.port = Path(folder), free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
        self.command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers)]
        self.command += more
        self.environment = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **environment,
        }
        self.process = None
        self.start()

    @property
    def uri(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait=True):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, cwd=self.folder,
                start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait()

    def wait(self):
        """Wait until it answers."""
        end = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError((self.folder / "log").read_text()[-3000:]) from None
                time.sleep(0.2)

    def kill(self):
        """Kill it and its workers at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
