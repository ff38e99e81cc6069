"""How a night ends: a job that fails, one that takes too long, one that is cut and goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ALONE = {"models": ["small_cnn"], "pairs": ["alone"]}
LONG = {"input": {"frames": 100}, "training": {"epochs": 12, "batch": 8, "average": [11, 12]}}
# In place of the fake verb: the first training does what the test says, later ones do their work.
FIRST = """#!/bin/sh
if [ "$1" = train ] && mkdir "{tried}" 2>/dev/null; then {first}; fi
exec "{fake}" "$@"
"""


def with_first(work: Any, first: str) -> Any:
    """Make the first training of a clone with fake verbs do something else."""
    program = work.fakes / "cmkd"
    fake = program.rename(work.fakes / "fake")
    program.write_text(FIRST.format(tried=work.root / "tried", first=first, fake=fake))
    program.chmod(0o755)
    return work


def trainings(cluster: Any) -> list[dict[str, str]]:
    """Return the Slurm jobs that trained."""
    return [job for job in cluster.jobs() if job["comment"].startswith("rule_train")]


def test_a_job_that_fails_is_submitted_again(cluster: Any, clone: Callable[..., Any]) -> None:
    work = with_first(clone(cluster, fake=True, **ALONE), "exit 3")
    before = len(trainings(cluster))
    done = work.snakemake(timeout=240)
    assert done.returncode == 0, done.stdout
    assert [job["state"] for job in trainings(cluster)[before:]] == ["FAILED", "COMPLETED"]
    assert (work.folder("small_cnn", dataset="toy") / "metrics.json").is_file()


def test_a_job_over_its_time_is_submitted_again(cluster: Any, clone: Callable[..., Any]) -> None:
    work = with_first(clone(cluster, fake=True, **ALONE), "exec sleep 600")
    work.profile(train={"runtime": 1, "slurm_extra": "'--nice=0'"})
    before = len(trainings(cluster))
    done = work.snakemake(timeout=280)
    assert done.returncode == 0, done.stdout
    assert [job["state"] for job in trainings(cluster)[before:]] == ["TIMEOUT", "COMPLETED"]
    assert (work.folder("small_cnn", dataset="toy") / "metrics.json").is_file()


def test_a_cut_training_ends_with_the_weights_of_an_uncut_one(
    cluster: Any, clone: Callable[..., Any]
) -> None:
    execution = {"threads": 1, "checkpoint_seconds": 1000}
    work = clone(cluster, set=LONG, execution=execution, **ALONE)
    before = len(trainings(cluster))
    process = work.start()
    run = work.folder("small_cnn")
    log = work.root / "results/small/logs/train/esc50/small_cnn/fold-1/seed-0.log"
    cluster.wait(lambda: log.is_file() and "epoch 2/" in log.read_text(), 200, "training began")
    (first,) = trainings(cluster)[before:]
    # What Slurm sends at the end of the time, or a person to make room.
    cluster.run("scancel", first["id"])
    text = work.finish(process, 280)
    assert process.returncode == 0, text
    states = [job["state"].split()[0] for job in trainings(cluster)[before:]]
    assert states == ["CANCELLED", "COMPLETED"]
    cost = json.loads((run / "cost.json").read_text())
    assert cost["attempts"] == 2
    uncut = uncut_training(work, run)
    for name in ("weights.safetensors", "weights-averaged.safetensors"):
        assert (run / name).read_bytes() == (uncut / name).read_bytes()


def uncut_training(work: Any, run: Path) -> Path:
    """Train the same in one go, here and not on the cluster, and return its folder."""
    prepared = work.root / "results" / "prepared" / "esc50"
    (statistics,) = prepared.glob("stats/*/fold-1.json")
    uncut = work.root / "uncut"
    work.cmkd(
        *("train", run / "recipe.yaml", "--run", uncut, "--fold", "1", "--seed", "0"),
        *("--prepared", prepared, "--statistics", statistics),
    )
    assert json.loads((uncut / "cost.json").read_text())["attempts"] == 1
    return uncut
