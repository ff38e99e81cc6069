"""How the plugin reads the ends of jobs, with fake Slurm commands: its faults, and them mended.

The polls are the plugin's own (`Executor.check_active_jobs`); it asks programs on the PATH.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cmkd.operations import slurm_states

plugin = pytest.importorskip("snakemake_executor_plugin_slurm")

MENDED = ("query_job_status", "get_min_job_age")


class Limiter(contextlib.AbstractAsyncContextManager[None]):
    """Lets every question through at once."""

    async def __aexit__(self, *_: object) -> None:
        return None


class Cluster:
    """Fake sacct, squeue and scontrol, and what one job of the plugin became after each poll."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder = folder
        self.settings = settings
        self.ended: list[str] = []
        self.warnings: list[str] = []
        self.say("sacct", code=1)
        self.say("squeue", code=1)
        self.say("scontrol", "MinJobAge = 300 sec", "AccountingStorageType = accounting_storage/x")

    def say(self, program: str, *lines: str, code: int = 0) -> None:
        """Set what a program answers from now on."""
        text = "\n".join(f"echo '{line}'" for line in lines)
        (self.folder / program).write_text(f"#!/bin/sh\n{text}\nexit {code}\n")
        (self.folder / program).chmod(0o755)

    def mend(self) -> bool:
        """Mend the plugin as the Snakefile does."""
        return slurm_states.mend(self.settings, self.warnings.append)

    def poll(self) -> str:
        """Let the plugin look at its job 7 once: "done", "failed", "waits" or "forgotten"."""
        self.ended.clear()
        settings = self.settings
        executor = SimpleNamespace(
            workflow=SimpleNamespace(executor_settings=settings),
            logger=SimpleNamespace(**dict.fromkeys(("debug", "info", "warning"), print)),
            run_uuid="a-run",
            get_status_command=lambda: settings.status_command,
            status_rate_limiter=Limiter(),
            report_job_success=lambda job: self.ended.append("done"),
            report_job_error=lambda job, **_: self.ended.append("failed"),
            next_seconds_between_status_checks=1,
            _status_query_failures=0,
            _status_query_calls=0,
            _status_query_total_seconds=0.0,
            _status_query_min_seconds=None,
            _status_query_max_seconds=0.0,
            _status_query_cycle_rows=[],
            _preemption_warning=False,
            _failed_nodes=set(),
        )
        job = SimpleNamespace(external_jobid="7", aux={"slurm_logfile": self.folder / "log"})

        async def look() -> list[Any]:
            return [one async for one in plugin.Executor.check_active_jobs(executor, [job])]

        waits = asyncio.run(look())
        return self.ended[0] if self.ended else "waits" if waits else "forgotten"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Fake commands on the PATH; the plugin is as it was afterwards."""
    for name in MENDED:
        monkeypatch.setattr(plugin, name, getattr(plugin, name))
    monkeypatch.setattr(plugin.Executor, "run_job", plugin.Executor.run_job)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    settings = plugin.ExecutorSettings(no_requeue=True, status_attempts=2, status_command="sacct")
    return Cluster(tmp_path, settings)


# State, then what the plugin makes of it, then what it should be.
@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        ("PREEMPTED", "waits", "failed"),
        ("CANCELLED by 1000", "waits", "failed"),
        ("CANCELLED", "failed", "failed"),
        ("FAILED", "failed", "failed"),
        ("TIMEOUT", "failed", "failed"),
        ("OUT_OF_MEMORY", "failed", "failed"),
        ("NODE_FAIL", "failed", "failed"),
        ("BOOT_FAIL", "failed", "failed"),
        ("DEADLINE", "failed", "failed"),
        ("COMPLETED", "done", "done"),
        ("COMPLETING", "waits", "waits"),
        ("PENDING", "waits", "waits"),
        ("RUNNING", "waits", "waits"),
        ("REQUEUED", "waits", "waits"),
        ("SUSPENDED", "waits", "waits"),
    ],
)
def test_every_state_of_sacct(cluster: Cluster, state: str, before: str, after: str) -> None:
    cluster.say("sacct", f"7|{state}", "8|RUNNING")
    assert cluster.poll() == before
    assert cluster.mend()
    assert cluster.poll() == after


def test_a_preempted_job_is_named_once(cluster: Cluster) -> None:
    cluster.say("sacct", "7|PREEMPTED")
    cluster.mend()
    cluster.poll()
    cluster.poll()
    assert cluster.warnings == ["Slurm preempted job 7 for good: `retries` submit it anew."]


def test_a_preempted_job_may_come_back_where_slurm_requeues_it() -> None:
    clock = iter([0.0, 599.0, 700.0, 800.0, 1399.0, 1400.0])
    reader = slurm_states.Reader(True, print, lambda: next(clock))
    states = ["PREEMPTED", "PREEMPTED", "PENDING", "PREEMPTED", "PREEMPTED", "PREEMPTED"]
    read = [reader.read({"7": state}, False)["7"] for state in states]
    assert read == ["PREEMPTED", "PREEMPTED", "PENDING", "PREEMPTED", "PREEMPTED", "CANCELLED"]


def test_a_cluster_without_accounts_is_asked_by_squeue(cluster: Cluster) -> None:
    cluster.say("scontrol", "AccountingStorageType   = (null)", "MinJobAge = 300 sec")
    cluster.say("squeue", "7|COMPLETED")
    assert cluster.poll() == "forgotten"
    cluster.mend()
    assert cluster.poll() == "done"


def test_accounts_are_asked_where_nobody_says_that_there_are_none(cluster: Cluster) -> None:
    cluster.say("scontrol", code=1)
    cluster.say("sacct", "7|COMPLETED")
    cluster.mend()
    assert cluster.settings.status_command == "sacct"
    assert cluster.poll() == "done"


def test_squeue_stays_while_the_controller_is_silent(cluster: Cluster) -> None:
    cluster.settings.status_command = "squeue"
    cluster.say("scontrol", code=1)
    cluster.say("squeue", "7|COMPLETED")
    assert cluster.poll() == "forgotten"
    cluster.mend()
    assert cluster.poll() == "done"


def test_a_job_that_squeue_forgot_has_ended(cluster: Cluster) -> None:
    cluster.settings.status_command = "squeue"
    cluster.mend()
    cluster.say("squeue")
    assert [cluster.poll(), cluster.poll()] == ["waits", "waits"]
    cluster.say("squeue", "7|RUNNING")
    assert cluster.poll() == "waits"
    cluster.say("squeue", "8|RUNNING")
    assert [cluster.poll(), cluster.poll()] == ["waits", "done"]


def test_a_job_that_sacct_does_not_name_is_waited_for(cluster: Cluster) -> None:
    cluster.mend()
    cluster.say("sacct", "7|RUNNING")
    cluster.poll()
    cluster.say("sacct", "8|RUNNING")
    assert [cluster.poll() for _ in range(3)] == ["waits"] * 3


def executor(settings: Any, *failed: str) -> Any:
    """Return what the plugin's methods need of an executor."""
    return SimpleNamespace(
        workflow=SimpleNamespace(executor_settings=settings), _failed_nodes=set(failed)
    )


def test_only_the_user_excludes_nodes(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    spy = lambda executor, job: seen.append(executor._failed_nodes)  # noqa: E731
    monkeypatch.setattr(plugin.Executor, "run_job", spy)
    cluster.say("scontrol", "Slurmctld(primary) at login1 is UP")
    cluster.mend()
    plugin.Executor.run_job(executor(cluster.settings, "node1", "None assigned"), "a job")
    cluster.settings.exclude_failed_nodes = "bad, worse"
    plugin.Executor.run_job(executor(cluster.settings, "bad", "worse", "node1"), "a job")
    assert seen == [set(), {"bad", "worse"}]


def test_a_submission_waits_for_the_controller(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[str] = []
    monkeypatch.setattr(plugin.Executor, "run_job", lambda executor, job: submitted.append(job))
    cluster.say("scontrol", "Slurmctld(primary) at login1 is DOWN", code=1)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert submitted == []
        if len(slept) == 3:
            cluster.say("scontrol", "(primary) is DOWN", "(backup) at login2 is UP", code=1)

    monkeypatch.setattr(slurm_states, "time", SimpleNamespace(sleep=sleep))
    cluster.mend()
    plugin.Executor.run_job(executor(cluster.settings), "a job")
    assert submitted == ["a job"]
    assert slept == [slurm_states.PAUSE] * 3
    assert cluster.warnings == ["slurmctld does not answer: jobs are submitted when it does."]


def test_other_executors_and_versions_are_left_alone(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plugin.query_job_status
    assert not slurm_states.mend(None)
    assert not slurm_states.mend(SimpleNamespace(no_requeue=True))
    monkeypatch.setattr(slurm_states.metadata, "version", lambda _: "2.9.0")
    assert not cluster.mend()
    assert "2.9.0" in cluster.warnings[0]
    assert plugin.query_job_status is before


def test_a_python_below_a_space_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    step = ModuleType("snakemake_executor_plugin_slurm_jobstep")
    step.Executor = type("Executor", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, step.__name__, step)
    monkeypatch.delitem(sys.modules, "snakemake_executor_plugin_slurm", raising=False)
    monkeypatch.setattr(sys, "executable", "/a b/python")
    slurm_states.quote_python()
    command = step.Executor().get_python_executable()
    said = subprocess.run(f"printf '<%s>' {command}", shell=True, capture_output=True, text=True)
    assert said.stdout == "</a b/python>"
