"""A Slurm cluster of three nodes on this one machine, made of Debian's packages, for tests.

From a shell, as root:

    python tests/slurm/machine.py up DIR [--plain]   start what is not running
    . DIR/env                                        point sbatch, squeue, snakemake ... at it
    python tests/slurm/machine.py down DIR           take down what `up DIR` started

DIR must be short: paths of Unix sockets end at 107 characters. `--plain` is a cluster without
accounting, on which sacct fails.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

CONF = Path(__file__).parent / "conf"
NODES = ("node1", "node2", "node3")
PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
ACCOUNTS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
PLUGIN = "slurm-wlm-mysql-plugin"
# Set in every process of a cluster, and not beginning with SLURM, which Snakemake would remove.
MARK = "CMKD_TEST_CLUSTER"
COLUMNS = {
    "id": ("JobIDRaw", "%i"),
    "state": ("State", "%T"),
    "nodes": ("NodeList", "%N"),
    "cpus": ("ReqCPUS", "%C"),
    "memory": ("ReqMem", "%m"),
    "limit": ("TimelimitRaw", "%l"),
    "began": ("Start", "%S"),
    "ended": ("End", "%e"),
    "tres": ("ReqTRES", "%b"),
    "comment": ("Comment", "%k"),
}


class Trouble(Exception):
    """The cluster cannot be, or did not do what was asked of it in time."""


def lacks() -> str | None:
    """Return one sentence that says why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "a Slurm cluster for tests is started by root, and this is another user"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    wanted = (PROGRAMS | ACCOUNTS).items()
    missing = sorted({package for name, package in wanted if not shutil.which(name, path=path)})
    if not list(Path("/usr/lib").glob("**/slurm*/accounting_storage_mysql.so")):
        missing.append(PLUGIN)
    if missing:
        return f"Debian packages are missing: apt-get install {' '.join(missing)}"
    return None


class Machine:
    """A cluster that lives below one folder."""

    def __init__(self, folder: Path, accounting: bool = True, min_job_age: int = 300) -> None:
        """Describe a cluster; `min_job_age` is seconds until squeue forgets a finished job."""
        self.folder = Path(folder).resolve()
        self.accounting = accounting
        self.min_job_age = min_job_age
        self.conf = self.folder / "etc" / "slurm.conf"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands that talk to this cluster, and to no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        first = (self.folder / "bin", Path(sys.executable).parent)
        path = os.pathsep.join((*map(str, first), kept.get("PATH", ""), "/usr/sbin", "/sbin"))
        return kept | {"PATH": path, "SLURM_CONF": str(self.conf), MARK: str(self.folder)}

    # Starting.

    def up(self) -> None:
        """Start what is not running and wait for all three nodes; Trouble if they do not come."""
        sentence = lacks()
        if sentence:
            raise Trouble(sentence)
        self._write()
        for name in self.daemons():
            self.start(name)
        self.wait(self._ready, 60, "all three nodes are idle or at work")

    def daemons(self) -> tuple[str, ...]:
        """Return the names of what runs, in the order of starting."""
        accounts = ("mariadbd", "slurmdbd") if self.accounting else ()
        return ("munged", *accounts, "slurmctld", *NODES)

    def start(self, name: str) -> None:
        """Start a daemon unless it is running, and wait until it answers."""
        if self.pid(name) is None:
            (self.folder / "run" / f"{name}.pid").unlink(missing_ok=True)
            with open(self.folder / "log" / f"{name}.out", "ab") as log:
                process = subprocess.Popen(
                    self._command(name),
                    cwd=self.folder,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._children.append(process)
            # All but the database go into the background by themselves.
            if name != "mariadbd" and process.wait(timeout=60):
                raise Trouble(f"{name} did not start:\n{self.tell()}")
        self.wait(lambda: self._answers(name), 60, f"{name} answers")
        if name == "mariadbd":
            grant = "grant all on slurm.* to slurm@'127.0.0.1' identified by 'slurm'"
            self._quiet("mariadb", *self._database(), "-e", grant)

    def _command(self, name: str) -> list[str]:
        """Return the command that starts a daemon."""
        run, log = self.folder / "run", self.folder / "log"
        if name in NODES:
            return ["slurmd", "-N", name, "-f", str(self.conf)]
        if name == "munged":
            # --force: the folder may lie below one that others may write to.
            return [
                *("munged", "--force", f"--socket={run}/munge.socket"),
                *(f"--key-file={self.folder}/etc/munge.key", f"--pid-file={run}/munged.pid"),
                *(f"--log-file={log}/munged.log", f"--seed-file={run}/munged.seed"),
            ]
        if name == "mariadbd":
            self._install_database()
            return [
                *("mariadbd", *self._store(), f"--socket={run}/mariadb.socket"),
                *(f"--pid-file={run}/mariadbd.pid", "--bind-address=127.0.0.1"),
                *(f"--port={self.port() + 5}", "--innodb-lock-wait-timeout=900"),
                "--innodb-flush-log-at-trx-commit=0",
            ]
        return [name, *(("-f", str(self.conf)) if name == "slurmctld" else ())]

    def _store(self) -> tuple[str, ...]:
        """Return the options that say where the database keeps its files."""
        where = f"--datadir={self.folder}/db"
        # Two databases that begin at once must not share /tmp.
        apart = f"--tmpdir={self.folder}/run"
        return ("--no-defaults", "--user=root", where, apart, "--skip-name-resolve")

    def _database(self) -> tuple[str, ...]:
        """Return the options of the database's client."""
        return ("--no-defaults", "-u", "root", "-S", f"{self.folder}/run/mariadb.socket")

    def _install_database(self) -> None:
        """Make the database's files, once."""
        if not (self.folder / "db" / "mysql").is_dir():
            how = ("--auth-root-authentication-method=normal", "--skip-test-db")
            self.run("mariadb-install-db", *self._store(), *how)

    def _answers(self, name: str) -> bool:
        """Tell whether a daemon does its work."""
        questions = {
            "munged": ("munge", "-n", "-S", f"{self.folder}/run/munge.socket"),
            "mariadbd": ("mariadb", *self._database(), "-e", "select 1"),
            "slurmdbd": ("sacctmgr", "-n", "show", "cluster"),
            "slurmctld": ("scontrol", "ping"),
        }
        return name in NODES or self._quiet(*questions[name])

    def _quiet(self, *command: str) -> bool:
        """Tell whether a command succeeds within ten seconds."""
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, timeout=10)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _ready(self) -> bool:
        """Tell whether every node may be given jobs."""
        states = list(self.nodes().values())
        return len(states) == len(NODES) and set(states) <= {"idle", "mix", "alloc", "comp"}

    # Files.

    def port(self) -> int:
        """Return the first of six ports: derived from the folder, free, the same ever after."""
        chosen = self.folder / "etc" / "port"
        if not chosen.exists():
            wish = zlib.crc32(str(self.folder).encode()) % 1200
            tries = (20000 + (wish + more) % 1200 * 10 for more in range(1200))
            first = next(port for port in tries if all(free(port + one) for one in range(6)))
            chosen.write_text(f"{first}\n")
        return int(chosen.read_text())

    def _write(self) -> None:
        """Write the configuration below the folder."""
        for name in ("etc", "run", "log", "state", "spool", "dev", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("gpu0", "gpu1"):
            if not (self.folder / "dev" / name).exists():
                (self.folder / "dev" / name).symlink_to("/dev/null")
        words = {"DIR": str(self.folder), "HOST": socket.gethostname().split(".")[0]}
        words |= {"STORAGE": "slurmdbd" if self.accounting else "none"}
        words |= {"MIN_JOB_AGE": str(self.min_job_age), "PORT": str(self.port())}
        words |= {f"PORT{number}": str(self.port() + number) for number in range(1, 6)}
        for template in CONF.glob("*.conf"):
            self._fill(template, words)
        self._write_helpers()

    def _fill(self, template: Path, words: dict[str, str]) -> None:
        """Write one configuration file from its template."""
        text = template.read_text()
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        if not self.accounting:
            # With this line the controller insists on slurmdbd.
            text = text.replace("AccountingStorageTRES=gres/gpu\n", "")
        path = self.folder / "etc" / template.name
        path.write_text(text)
        path.chmod(0o600 if template.name == "slurmdbd.conf" else 0o644)

    def _write_helpers(self) -> None:
        """Write the key, the file that a shell reads, and a srun that finds this cluster."""
        key = self.folder / "etc" / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(128))
        bin_folder = self.folder / "bin"
        (self.folder / "env").write_text(
            f"export SLURM_CONF='{self.conf}' {MARK}='{self.folder}' PATH='{bin_folder}':$PATH\n"
        )
        # Snakemake removes SLURM_CONF before it calls srun. A site has /etc/slurm/slurm.conf.
        srun = bin_folder / "srun"
        srun.write_text(f"#!/bin/sh\nSLURM_CONF='{self.conf}' exec /usr/bin/srun \"$@\"\n")
        srun.chmod(0o755)

    # Stopping.

    def pid(self, name: str) -> int | None:
        """Return a daemon's process, if it is running and ours."""
        try:
            pid = int((self.folder / "run" / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process was started for this cluster."""
        return f"{MARK}={self.folder}" in environment_of(pid)

    def kill(self, name: str, jobs: bool = False) -> None:
        """Kill a daemon with SIGKILL; `jobs`: the jobs of that node too, as when a machine dies."""
        pid = self.pid(name)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.wait(lambda: not self._is_ours(pid), 10, f"{name} is gone")
        if jobs:
            self._kill_jobs(f"SLURMD_NODENAME={name}")

    def stop(self, name: str) -> None:
        """End a daemon in good order."""
        pid = self.pid(name)
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        try:
            self.wait(lambda: not self._is_ours(pid), 15, f"{name} has ended")
        except Trouble:
            os.kill(pid, signal.SIGKILL)
        (self.folder / "run" / f"{name}.pid").unlink(missing_ok=True)
        self._children = [child for child in self._children if child.poll() is None]

    def _kill_jobs(self, *with_: str) -> None:
        """Kill the processes of our jobs with these words in their environment, to their end."""
        killed: list[int] = []
        for pid in (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()):
            found = environment_of(pid) if pid != os.getpid() else ()
            is_job = any(word.startswith("SLURM_JOB_ID=") for word in found)
            if is_job and {f"{MARK}={self.folder}", *with_} <= set(found):
                killed += (pid, *keepers(pid))
        for pid in killed:
            send(pid, signal.SIGKILL)
        self.wait(lambda: not any(map(environment_of, killed)), 15, "killed jobs are gone")

    def cancel(self) -> None:
        """Cancel all jobs and wait until the queue is empty."""
        self._quiet("scancel", "--me")
        self.wait(lambda: not self.queue(), 60, "the queue is empty")

    def down(self) -> None:
        """Take down what was started here, and nothing else; the logs stay."""
        if not self.conf.exists():
            return
        # Jobs of a dead node cannot be cancelled; their processes are killed below.
        with contextlib.suppress(Trouble):
            if self.pid("slurmctld"):
                self.cancel()
        for name in reversed(self.daemons()):
            self.stop(name)
        self._kill_jobs()

    def restore(self) -> None:
        """Make the cluster as good as new between two tests."""
        self.up()
        self.cancel()
        for name, state in self.nodes().items():
            if state not in ("idle", "comp"):
                self._quiet("scontrol", "update", f"nodename={name}", "state=resume")
        self.wait(self._ready, 60, "all three nodes are idle")

    # Asking.

    def run(
        self,
        *command: str,
        cwd: Path | None = None,
        timeout: float = 120,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Return what a command prints; Trouble if it fails or takes longer than `timeout` s."""
        how = {"cwd": cwd, "env": self.environment | (environment or {}), "text": True}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, start_new_session=True, **how, **pipes)
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            late = f"{' '.join(command)} was not done after {timeout:.0f} s:\n{text}"
            raise Trouble(f"{late}\n{self.tell()}") from None
        if process.returncode:
            raise Trouble(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
        return str(text)

    def nodes(self) -> dict[str, str]:
        """Return the state of every node as sinfo says it; a mark such as * means no answer."""
        done = self._ask("sinfo", "-hN", "-p", "main", "-o", "%N %t")
        return dict(line.split() for line in done.splitlines())

    def queue(self) -> list[str]:
        """Return the jobs that are not over, a line each."""
        return self._ask("squeue", "-h", "-o", "%i %T %N %k").splitlines()

    def jobs(self) -> list[dict[str, str]]:
        """Return all jobs so far, as sacct or, without accounting, squeue knows them."""
        if self.accounting:
            columns = ",".join(column for column, _ in COLUMNS.values())
            how = ("-X", "-n", "-P", "-S", "now-2days", f"--format={columns}")
            text = self._ask("sacct", *how)
        else:
            form = "|".join(form for _, form in COLUMNS.values())
            text = self._ask("squeue", "-h", "-t", "all", "-o", form)
        rows = (line.split("|", len(COLUMNS) - 1) for line in text.splitlines())
        found = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        # The accounts get a job's comment when the job ends.
        lines = self._ask("squeue", "-h", "-o", "%i|%k").splitlines()
        comments = dict(line.split("|", 1) for line in lines)
        return [job | {"comment": job["comment"] or comments.get(job["id"], "")} for job in found]

    def _ask(self, *command: str) -> str:
        """Return what a command prints, nothing if it fails or hangs."""
        try:
            done = subprocess.run(
                command, env=self.environment, capture_output=True, text=True, timeout=20
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something holds; Trouble with the cluster's state if it does not in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Trouble(f"not within {seconds:.0f} s: {what}\n{self.tell()}")
            time.sleep(0.2)

    def tell(self) -> str:
        """Return what a person would look at: nodes, queue, accounts and the logs' last lines."""
        asked = [("sinfo",), ("squeue", "-t", "all", "-o", "%.6i %.10T %.9M %.8N %.20r %k")]
        if self.accounting:
            asked.append(("sacct", "-X", "--format=JobID,State,ExitCode,NodeList,Elapsed,Comment"))
        parts = [f"$ {' '.join(command)}\n{self._ask(*command)}" for command in asked]
        for log in sorted((self.folder / "log").glob("*")):
            lines = log.read_text(errors="replace").splitlines()[-12:]
            parts.append("\n".join((f"--- {log.name}", *lines)))
        return "\n".join(parts)


def free(port: int) -> bool:
    """Tell whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def environment_of(pid: int) -> list[str]:
    """Return what a process had in its environment when it began; nothing for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return []
    return [word for word in text.split("\0") if word]  # of a zombie none


def keepers(pid: int) -> list[int]:
    """Return the slurmstepd processes above a process."""
    found = []
    while pid > 1:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        if text[text.index("(") + 1 :].startswith("slurmstepd"):
            found.append(pid)
        pid = int(text[text.rindex(")") + 1 :].split()[1])
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> None:
    """Bring a cluster up or take it down, or say why none can be: `machine.py lacks`."""
    if sys.argv[1:] == ["lacks"]:
        print(lacks() or "nothing")
        sys.exit(1 if lacks() else 0)
    if len(sys.argv) < 3 or sys.argv[1] not in ("up", "down"):
        sys.exit(__doc__)
    machine = Machine(Path(sys.argv[2]), accounting="--plain" not in sys.argv)
    try:
        machine.up() if sys.argv[1] == "up" else machine.down()
    except Trouble as trouble:
        sys.exit(str(trouble))
    print(f"{machine.folder} is {sys.argv[1]}")


if __name__ == "__main__":
    main()
