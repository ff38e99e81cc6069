"""What Snakemake's Slurm plugin makes of the ends of jobs, mended from outside.

Seen with snakemake-executor-plugin-slurm 2.8.0, the newest there is (`check_active_jobs`):

- PREEMPTED is not among its failures, and sacct's "CANCELLED by 1000" is not its CANCELLED: such
  jobs are waited for for ever.
- On a cluster without accounting it asks sacct, which never answers, unless told to use squeue.
- Told so, it goes back to sacct whenever slurmctld does not answer when asked for MinJobAge; and
  it waits for ever for a job that squeue has forgotten between two of its polls.
- While slurmctld is away every submission fails, and a job's `retries` are spent in half a minute.
- A node that failed once is excluded until Snakemake ends. Slurm by itself gives no job to a node
  that is down; excluded, the last node of a partition makes every further submission fail. A node
  that the plugin could not name, "None assigned", does so at once.

- Python's own path stands unquoted in the script of a job, so an environment in a folder with a
  space in its name cannot be used (`quote_python`).

The plugin learns states from one function, `query_job_status`, and submits by another, `run_job`:
`mend` puts its own around both. Versions that are not in `MENDED` are left alone.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

PACKAGE = "snakemake-executor-plugin-slurm"
# Versions whose source was read and whose faults the tests show.
MENDED = ("2.8.0",)
# What the plugin counts as failed, and what it takes as "gone; its files will tell".
FAILED, GONE = "CANCELLED", "UNKNOWN"
# Seconds until a job that Slurm may put back into the queue, which takes seconds, is given up.
PATIENCE = 600.0
# Seconds between two looks for slurmctld before a submission, and how many of them at most.
PAUSE, LOOKS = 10.0, 2500
# MinJobAge in seconds as the plugin is told where squeue is to be used: it then stays with it.
LONG = 10**9

States = dict[str, str]
Query = Callable[[str, Any], Awaitable[tuple[States | None, float | None]]]


class Reader:
    """States of jobs as the plugin should read them, poll after poll."""

    def __init__(
        self,
        requeued: bool,
        warn: Callable[[str], None] = print,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take whether Slurm may put a preempted job back into the queue, and what tells users."""
        self.patience = PATIENCE if requeued else 0.0
        self.warn = warn
        self.now = now
        self.preempted: dict[str, float] = {}  # job, and when it was first seen so
        self.told: set[str] = set()
        self.known: set[str] = set()
        self.missing: set[str] = set()

    def read(self, states: States, forgets: bool) -> States:
        """Return a poll's states put right; `forgets`: as squeue, which names no old jobs."""
        states = {job: state.split()[0] for job, state in states.items() if state}
        lost = self._lost(set(states)) if forgets else set()
        return states | dict.fromkeys(self._given_up(states), FAILED) | dict.fromkeys(lost, GONE)

    def _given_up(self, states: States) -> set[str]:
        """Return the jobs that are preempted for good."""
        now = self.now()
        held = [job for job, state in states.items() if state == "PREEMPTED"]
        self.preempted = {job: self.preempted.get(job, now) for job in held}
        final = {job for job in held if now - self.preempted[job] >= self.patience}
        for job in sorted(final - self.told):
            self.warn(f"Slurm preempted job {job} for good: `retries` submit it anew.")
        self.told |= final
        return final

    def _lost(self, named: set[str]) -> set[str]:
        """Return the jobs that were known once and not named in this poll and the one before."""
        before, self.missing = self.missing, self.known - named
        self.known |= named
        return self.missing & before

    def around(self, query: Query) -> Query:
        """Return the plugin's question for states with its answer put right."""

        async def query_job_status(command: str, logger: Any) -> tuple[States | None, float | None]:
            states, seconds = await query(command, logger)
            if states is None:
                return states, seconds
            return self.read(states, command.startswith("squeue")), seconds

        return query_job_status


def mend(settings: Any, warn: Callable[[str], None] = print) -> bool:
    """Mend the plugin if its jobs are about to run, and tell whether that was done.

    `settings` are the executor's (`workflow.executor_settings`): those of another executor, or of
    a version that is not known, are left alone.
    """
    plugin: Any = sys.modules.get(PACKAGE.replace("-", "_"))
    if plugin is None or not isinstance(settings, plugin.ExecutorSettings):
        return False
    version = metadata.version(PACKAGE)
    if version not in MENDED:
        warn(f"{PACKAGE} {version} is not known here (docs/failures.md): preempted jobs may hang.")
        return False
    if settings.status_command != "squeue" and not keeps_accounts():
        settings.status_command = "squeue"
    if settings.status_command == "squeue":
        plugin.get_min_job_age = lambda: LONG
    reader = Reader(not settings.no_requeue, warn)
    plugin.query_job_status = reader.around(plugin.query_job_status)
    plugin.Executor.run_job = patient(plugin.Executor.run_job, warn)
    return True


def quote_python() -> None:
    """Let jobs find a Python whose path has a space: quote it where a command is made of it.

    In every process that reads the Snakefile, since the job's own Snakemake makes one more command.
    """
    quoted = shlex.quote(sys.executable)
    if quoted == sys.executable:
        return
    for name in (PACKAGE, f"{PACKAGE}-jobstep"):
        plugin: Any = sys.modules.get(name.replace("-", "_"))
        if plugin is not None:
            plugin.Executor.get_python_executable = lambda executor: quoted


def patient(run_job: Callable[..., None], warn: Callable[[str], None]) -> Callable[..., None]:
    """Return the plugin's method that submits a job, waiting first until slurmctld answers."""

    def patient_run_job(executor: Any, job: Any) -> None:
        for look in range(LOOKS):
            if controller_answers():
                break
            if not look:
                warn("slurmctld does not answer: jobs are submitted when it does.")
            time.sleep(PAUSE)
        executor._failed_nodes = executor._failed_nodes & excluded(executor)
        run_job(executor, job)

    return patient_run_job


def excluded(executor: Any) -> set[str]:
    """Return the nodes that the user excludes."""
    named = executor.workflow.executor_settings.exclude_failed_nodes or ""
    return {node.strip() for node in named.split(",") if node.strip()}


def controller_answers() -> bool:
    """Tell whether slurmctld or its stand-in is up; yes where it cannot be asked."""
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=60)
    except OSError:
        return True
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 or "is UP" in done.stdout


def keeps_accounts() -> bool:
    """Tell whether this cluster keeps accounts, which sacct needs; yes where nobody answers."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    lines = (line.partition("=") for line in answer.stdout.splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    storage = found.get("AccountingStorageType", "unknown")
    return storage not in ("", "(null)", "accounting_storage/none")
