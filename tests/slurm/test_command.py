"""The literal command on a real Slurm: from recordings to leaderboard and MLflow."""

import contextlib
import csv
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RUNS = ("small_cnn", "small_ast", "small_cnn@small_ast", "small_ast@small_cnn")
# Rule: (jobs, processors, memory, GPUs), as in profiles/slurm/config.yaml but for `evaluate`.
ASKED = {
    "prepare": (1, "8", "16000M", 0),
    "stats": (1, "1", "8000M", 0),
    "train": (2, "8", "32000M", 1),
    "distill": (2, "8", "32000M", 1),
    "evaluate": (4, "1", "16000M", 1),
}


@pytest.mark.slurm(limit=600)
def test_the_command_reaches_leaderboard_and_mlflow(
    cluster: Any, clone: Callable[..., Any]
) -> None:
    # More threads than any job is given; and for `evaluate` fewer processors than a machine has.
    work = clone(cluster, execution={"threads": 16})
    work.profile(evaluate={"cpus_per_task": 1})
    done = work.snakemake("--cores", "all", "--profile", "slurm", timeout=580)
    assert done.returncode == 0, done.stdout
    jobs = cluster.jobs()
    all_ended_well_on_several_nodes(jobs)
    every_job_got_what_it_asked_for(jobs)
    local_rules_ran_here(done.stdout, jobs)
    costs_say_where_and_with_how_many_threads(work, jobs)
    results_are_there(work)


def all_ended_well_on_several_nodes(jobs: list[dict[str, str]]) -> None:
    """Check states and nodes as Slurm's accounts have them."""
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert len({job["nodes"] for job in jobs}) >= 2
    trained = {job["nodes"] for job in jobs if rule_of(job) == "train"}
    assert trained == {"node1", "node2"}  # at once, since each takes all of a node's processors


def every_job_got_what_it_asked_for(jobs: list[dict[str, str]]) -> None:
    """Check processors, memory and GPUs, although this machine may have fewer."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for job in jobs:
        facts = (job["cpus"], job["memory"], int("gres/gpu=1" in job["tres"]))
        found.setdefault(rule_of(job), []).append(facts)
    assert found == {rule: [asked[1:]] * asked[0] for rule, asked in ASKED.items()}


def local_rules_ran_here(said: str, jobs: list[dict[str, str]]) -> None:
    """Check that the tables and the MLflow copy were made where Snakemake was started."""
    assert "localrule tables:" in said and "localrule track:" in said
    assert not {"tables", "track"} & {rule_of(job) for job in jobs}


def costs_say_where_and_with_how_many_threads(work: Any, jobs: list[dict[str, str]]) -> None:
    """Check GPU, job, host and threads of every run's records against Slurm's accounts."""
    by_id = {job["id"]: job for job in jobs}
    cores = len(os.sched_getaffinity(0))
    for run in RUNS:
        for name, given in (("cost.json", 8), ("cost-evaluate.json", 1)):
            cost = json.loads((work.folder(run) / name).read_text())
            place = cost["place"]
            job = by_id[place["slurm_job"]]
            assert rule_of(job) in ("train", "distill", "evaluate")
            assert place["cuda_visible_devices"] in ("0", "1")
            assert place["host"] == socket.gethostname()
            assert cost["threads"] == min(cores, given) <= int(job["cpus"])
            assert cost["execution"]["threads"] == 16
    log = work.root / "results/small/logs/evaluate/esc50/small_cnn/fold-1/seed-0.log"
    assert "threads: 1; execution.threads asks for 16" in log.read_text()


def results_are_there(work: Any) -> None:
    """Check the leaderboard and the copy in MLflow's own database."""
    results = work.root / "results" / "small"
    (board,) = results.glob("tables/*/leaderboard.csv")
    with open(board, newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == set(RUNS)
    with contextlib.closing(sqlite3.connect(results / "mlflow.db")) as database:
        rows = database.execute("select name, status from runs").fetchall()
    assert {(f"{run} f1 s0", "FINISHED") for run in RUNS} <= set(rows)


def rule_of(job: dict[str, str]) -> str:
    """Return the rule of a job: Snakemake writes it into the job's comment."""
    return job["comment"].split("_")[1]


def test_the_real_default_is_planned(cluster: Any, clone: Callable[..., Any]) -> None:
    work = clone(cluster, fake=True)
    shutil.copy2(ROOT / "config" / "config.yaml", work.root / "config" / "config.yaml")
    done = work.snakemake("--cores", "all", "--profile", "slurm", "-n")
    assert done.returncode == 0, done.stdout
    counts = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) == 2)
    expected = {"train": "45", "distill": "135", "evaluate": "180", "tables": "1", "track": "1"}
    assert expected.items() <= counts.items()
    assert not cluster.queue()
