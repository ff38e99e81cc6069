"""What is asked of Slurm: sbatch lines of plugin 2.8, caught by a fake sbatch on the PATH."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

# Arguments that name this run or this machine.
OWN = {"--job-name", "--output", "--comment", "-D"}
GPU_JOB = "--parsable --export=ALL -t {} --mem {} --no-requeue --cpus-per-task=8{} --gpus=1"
CPU_JOB = "--parsable --export=ALL -t {} --mem {} --no-requeue --ntasks=1 --cpus-per-task={}"
GOLDEN = {
    "train": GPU_JOB.format(720, 32000, " --signal=TERM@120"),
    "distill": GPU_JOB.format(720, 32000, " --signal=TERM@120"),
    "evaluate": GPU_JOB.format(60, 16000, ""),
    "prepare": CPU_JOB.format(240, 16000, 8),
    "stats": CPU_JOB.format(60, 8000, 1),
}
SBATCH = """#!/bin/sh
exec "{python}" -IS -c '
import json, os, sys
with open(os.environ["FAKE_SBATCH"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
sys.exit("refused")' "$@"
"""


@pytest.fixture
def cluster(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A finished clone on a machine whose sbatch notes every job and refuses it."""
    folder = tmp_path / "fakes"
    shutil.copytree(finished.fakes, folder)
    programs = {name: "#!/bin/sh\n" for name in ("sacct", "scontrol", "sinfo", "squeue", "scancel")}
    for name, text in (programs | {"sbatch": SBATCH.format(python=sys.executable)}).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    finished.fakes = folder
    monkeypatch.setenv("FAKE_SBATCH", str(tmp_path / "sbatch.jsonl"))
    return finished


def submit(clone: Any, *arguments: str) -> Any:
    """Run the suite on the fake cluster, without waiting for what was refused."""
    hurry = ("--retries", "0", "--slurm-init-seconds-before-status-checks", "1")
    return clone.snakemake("--cores", "all", "--profile", "slurm", *hurry, *arguments)


def calls(tmp_path: Path) -> list[list[str]]:
    """Return the arguments of every call of sbatch."""
    log = tmp_path / "sbatch.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def submitted(tmp_path: Path) -> dict[str, str]:
    """Return the sbatch line of each rule, without what names this run or this machine."""
    return {rule_of(call): line_of(call) for call in calls(tmp_path)}


def rule_of(call: list[str]) -> str:
    """Return the rule that a job was submitted for."""
    return call[call.index("--comment") + 1].split("_")[1]


def line_of(call: list[str]) -> str:
    """Return a job's arguments as one line."""
    kept = []
    arguments = iter(call)
    for argument in arguments:
        if argument in OWN:
            next(arguments)
        elif not argument.startswith("--wrap="):
            kept.append(argument)
    return " ".join(kept)


def test_every_job_on_the_cluster_asks_for_what_the_profile_says(
    cluster: Any, tmp_path: Path
) -> None:
    # One job of each rule that can start at once.
    (cluster.folder("small_cnn", fold=2) / "weights.safetensors").unlink()
    (cluster.folder("small_ast@small_ast", fold=2) / "weights.safetensors").unlink()
    (cluster.folder("small_cnn", fold=1) / "metrics.json").unlink()
    (cluster.folder("small_ast", fold=1) / "weights.safetensors").unlink()
    next((cluster.root / "results/prepared/toy/stats").rglob("fold-1.json")).unlink()
    cluster.edit("suite", "datasets", to=["toy", "toy_multi"])
    refused = submit(cluster)
    assert refused.returncode == 1
    assert submitted(tmp_path) == GOLDEN


def test_every_attempt_asks_for_more_memory_up_to_the_cap(cluster: Any, tmp_path: Path) -> None:
    for fold, name in ((1, "weights.safetensors"), (2, "metrics.json")):
        (cluster.folder("small_cnn", fold) / name).unlink()
    next((cluster.root / "results/prepared/toy/stats").rglob("fold-1.json")).unlink()
    submit(cluster, "--retries", "2")
    asked = [(rule_of(call), call[call.index("--mem") + 1]) for call in calls(tmp_path)]
    memory = {rule: [mem for name, mem in asked if name == rule] for rule, _ in asked}
    assert memory["stats"] == ["8000", "16000", "16000"]
    assert memory["evaluate"] == ["16000", "32000", "32000"]


def test_tables_and_track_run_where_snakemake_was_started(cluster: Any, tmp_path: Path) -> None:
    shutil.rmtree(cluster.root / "results" / "tables")
    (cluster.root / "results" / "logs" / "track-suite.json").unlink()
    done = submit(cluster)
    assert done.returncode == 0, done.stdout
    assert [len(cluster.calls(verb)) for verb in ("tables", "track")] == [2, 2]
    assert submitted(tmp_path) == {}


def test_downloads_run_where_snakemake_was_started(cluster: Any, tmp_path: Path) -> None:
    file = {"url": "https://example.org/a.zip", "file": "a.zip", "folder": "a", "no_hash": "none"}
    cluster.edit("datasets", "esc50", "downloads", to=[file])
    cluster.edit("suite", "datasets", to=["toy", "esc50"])
    cluster.edit("suite", "download", to=True)
    refused = submit(cluster)
    assert refused.returncode == 1
    calls = [call for call in cluster.calls("prepare") if "--download-only" in call]
    assert len(calls) == 1
    assert submitted(tmp_path) == {"prepare": GOLDEN["prepare"]}


def test_the_default_suite_is_planned_with_the_slurm_profile(clean: Any, count: Any) -> None:
    plan = clean.plan("--profile", "slurm", suite=None)
    assert count(plan) == {
        "prepare": 1,
        "stats": 5,
        "train": 3 * 15,
        "distill": 9 * 15,
        "evaluate": 12 * 15,
        "tables": 1,
        "track": 1,
    }
