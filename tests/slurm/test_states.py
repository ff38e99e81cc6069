"""Every way a Slurm job can end: the suite must come to the right state without a person.

The verbs are fakes that only write files; the first attempt of the training does what a test says.
One Slurm job a run of Snakemake: `prepare` and `stats` are made beforehand, here.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm_all, pytest.mark.slurm(limit=420)]

SUITE = {"models": ["small_cnn"], "pairs": ["alone"], "folds": [1]}
# Notes every attempt of the training; TEST_FIRST is what the first one does, TEST_EACH what all do.
FIRST = """#!/bin/sh
if [ "$1" = train ]; then
    echo "$SLURM_JOB_ID $SLURMD_NODENAME" >> "{attempts}"
    if [ "$(wc -l < "{attempts}")" = 1 ]; then eval "$TEST_FIRST"; fi
    eval "$TEST_EACH"
fi
exec "{program}" "$@"
"""
FILL = "python3 -c \"import time; kept = b'x' * 700_000_000; time.sleep(6)\""


class Night:
    """A clone whose one training is run by Slurm, and what happens to it."""

    def __init__(self, clone: Any, cluster: Any) -> None:
        self.clone = clone
        self.cluster = cluster
        self.attempts = clone.root / "attempts"
        self.weights = clone.folder("small_cnn", dataset="toy") / "weights.safetensors"
        program = clone.fakes / "cmkd"
        program.rename(clone.fakes / "fake")
        program.write_text(FIRST.format(attempts=self.attempts, program=clone.fakes / "fake"))
        program.chmod(0o755)
        prepared = clone.snakemake("--cores", "2", "--until", "stats", "--no-hooks")
        assert prepared.returncode == 0, prepared.stdout

    def begin(self, first: str = "", each: str = "", *more: str, wait: bool = True) -> Any:
        """Start Snakemake for the training, and wait until its first attempt runs."""
        target = str(self.weights.relative_to(self.clone.root))
        arguments = ("--cores", "all", "--profile", "slurm", *more, "--", target)
        process = self.clone.start(*arguments, TEST_FIRST=first, TEST_EACH=each)
        if wait:
            self.await_attempt(1, process)
        return process

    def await_attempt(self, number: int, process: Any) -> str:
        """Wait until an attempt runs, and return its Slurm job."""

        def begun() -> bool:
            assert process.poll() is None, self.clone.text(process)
            return len(self.ran()) >= number

        self.cluster.wait(begun, 120, f"attempt {number} runs")
        return self.ran()[number - 1]

    def end(self, process: Any, code: int = 0, timeout: float = 240) -> str:
        """Wait for Snakemake's end; a hang or another exit code fails."""
        text = self.clone.finish(process, timeout)
        assert process.returncode == code, f"{text}\n{self.cluster.tell()}"
        assert self.weights.is_file() == (code == 0), text
        return text

    def lines(self) -> list[list[str]]:
        """Return Slurm job and node of every attempt so far."""
        text = self.attempts.read_text() if self.attempts.exists() else ""
        return [line.split() for line in text.splitlines()]

    def ran(self) -> list[str]:
        """Return the Slurm job of every attempt so far."""
        return [line[0] for line in self.lines()]

    def states(self) -> list[str]:
        """Return how Slurm says the attempts ended, in their order."""
        found = {job["id"]: job["state"].split()[0] for job in self.cluster.jobs()}
        return [found[job] for job in self.ran()]

    def take_node(self) -> str:
        """Start an urgent job on the whole node of the first attempt."""
        node = self.lines()[0][1]
        urgent = (
            "sbatch",
            "--parsable",
            "-p",
            "urgent",
            "-w",
            node,
            "--exclusive",
            "-o",
            os.devnull,
        )
        self.cluster.run(*urgent, "--mem=100", "--wrap", "sleep 3")
        return node


@pytest.fixture
def night(clone: Callable[..., Any]) -> Callable[[Any], Night]:
    """Return a function that makes a clone with one training to run on a cluster."""
    return lambda cluster: Night(clone(cluster, fake=True, **SUITE), cluster)


def test_a_failure_is_submitted_anew(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.end(one.begin("exit 3"))
    assert one.states() == ["FAILED", "COMPLETED"]


def test_what_always_fails_ends_after_its_retries(night: Any, cluster: Any) -> None:
    one = night(cluster)
    text = one.end(one.begin("", "echo the cause; exit 3", "--retries", "1"), code=1)
    assert one.states() == ["FAILED", "FAILED"]
    assert "the cause" in text


def test_a_time_out_is_submitted_anew(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.clone.profile(train={"runtime": 1, "slurm_extra": "'--nice=0'"})
    one.end(one.begin("sleep 300"))
    assert one.states() == ["TIMEOUT", "COMPLETED"]


def test_memory_grows_with_every_attempt(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.clone.profile(train={"mem_mb": "min(600 * attempt, 1000)"})
    one.end(one.begin("", FILL))
    found = {job["id"]: job["memory"] for job in cluster.jobs()}
    assert [found[job] for job in one.ran()] == ["600M", "1000M"]
    # Without cgroups Slurm calls it a failure.
    assert one.states() == ["FAILED", "COMPLETED"]


def test_a_job_of_a_dead_node_runs_on_another(night: Any, cluster: Any) -> None:
    one = night(cluster)
    process = one.begin("sleep 300")
    cluster.kill(one.lines()[0][1], jobs=True)
    one.end(process)
    assert one.states() == ["NODE_FAIL", "COMPLETED"]
    assert one.lines()[0][1] != one.lines()[1][1]


def test_a_node_that_came_back_is_used_again(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.clone.profile(train={"slurm_extra": "'-w node1'"})
    process = one.begin("sleep 300")
    cluster.kill("node1", jobs=True)
    cluster.wait(lambda: one.states() == ["NODE_FAIL"], 60, "Slurm has given the node up")
    cluster.start("node1")
    one.end(process)
    assert one.states() == ["NODE_FAIL", "COMPLETED"]


def test_a_cancelled_job_is_submitted_anew(night: Any, cluster: Any) -> None:
    one = night(cluster)
    process = one.begin("sleep 300")
    cluster.run("scancel", one.ran()[0])
    one.end(process)
    assert one.states() == ["CANCELLED", "COMPLETED"]


@pytest.mark.parametrize("partition", ["cancel", "requeue"])
def test_a_preempted_job_is_submitted_anew(night: Any, cluster: Any, partition: str) -> None:
    one = night(cluster)
    one.clone.profile(train={"slurm_partition": partition})
    process = one.begin("sleep 300")
    one.take_node()
    text = one.end(process)
    assert one.states() == ["PREEMPTED", "COMPLETED"]
    assert f"Slurm preempted job {one.ran()[0]} for good" in text


def test_a_preempted_job_that_slurm_requeues_is_waited_for(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.clone.profile(train={"slurm_partition": "requeue"})
    one.clone.edit("profiles/slurm/config.yaml", {"slurm-no-requeue": False, "slurm-requeue": True})
    process = one.begin("sleep 300")
    one.take_node()
    text = one.end(process)
    first, second = one.ran()
    assert first == second
    assert "for good" not in text


def test_a_job_preempted_with_grace_is_submitted_anew(night: Any, cluster: Any) -> None:
    one = night(cluster)
    one.clone.profile(train={"slurm_partition": "grace"})
    process = one.begin("sleep 300")
    one.take_node()
    one.end(process)
    assert one.states()[0] in ("PREEMPTED", "FAILED", "CANCELLED")
    assert one.states()[1:] == ["COMPLETED"]


def test_a_job_is_submitted_when_the_controller_is_back(night: Any, cluster: Any) -> None:
    one = night(cluster)
    cluster.kill("slurmctld")
    process = one.begin(wait=False)
    time.sleep(60)
    cluster.start("slurmctld")
    text = one.end(process)
    assert one.states() == ["COMPLETED"]
    assert "slurmctld does not answer" in text


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmdbd"])
def test_a_daemon_is_away_for_a_minute(night: Any, cluster: Any, daemon: str) -> None:
    one = night(cluster)
    process = one.begin("sleep 25")
    cluster.kill(daemon)
    time.sleep(60)
    cluster.start(daemon)
    one.end(process)
    assert one.states() == ["COMPLETED"]


def test_a_cluster_without_accounts_needs_no_option(night: Any, plain_cluster: Any) -> None:
    one = night(plain_cluster)
    one.end(one.begin("exit 3"))
    assert one.states() == ["FAILED", "COMPLETED"]


def test_a_preempted_job_is_seen_without_accounts(night: Any, plain_cluster: Any) -> None:
    one = night(plain_cluster)
    one.clone.profile(train={"slurm_partition": "cancel"})
    process = one.begin("sleep 300")
    one.take_node()
    one.end(process)
    assert one.states() == ["PREEMPTED", "COMPLETED"]


def test_the_controller_is_away_for_a_minute_without_accounts(
    night: Any, plain_cluster: Any
) -> None:
    one = night(plain_cluster)
    process = one.begin("sleep 25")
    plain_cluster.kill("slurmctld")
    time.sleep(60)
    plain_cluster.start("slurmctld")
    one.end(process)
    assert one.states() == ["COMPLETED"]


@pytest.mark.parametrize("first", ["", "exit 3"])
def test_a_job_that_squeue_has_forgotten_is_judged_by_its_files(
    night: Any, forgetful_cluster: Any, first: str
) -> None:
    one = night(forgetful_cluster)
    # Long enough for polls that are further apart than the two seconds that squeue remembers.
    one.end(one.begin(f"sleep 20; {first or ':'}"))
    assert len(one.ran()) == (2 if first else 1)


def test_a_second_snakemake_does_no_harm_to_the_first(night: Any, cluster: Any) -> None:
    one = night(cluster)
    first = one.begin("sleep 20")
    second = one.begin(wait=False)
    text = one.clone.finish(second, 60)
    assert second.returncode == 1
    assert "LockException" in text
    one.end(first)
    assert one.states() == ["COMPLETED"]
