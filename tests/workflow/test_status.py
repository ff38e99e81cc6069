"""`cmkd status` beside a real Snakemake: one at work on this machine, and what it tells Slurm."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmkd.operations.status import squeue
from cmkd.plan import suites

NOTE = """#!/bin/sh
exec "{python}" -IS -c '
import json, sys
with open("{log}", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
sys.exit("refused")' "$@"
"""


def status(clone: Any, *options: str) -> Any:
    """Start `cmkd status`, the real one, in a clone."""
    command = [sys.executable, "-m", "cmkd.cli", "status", "config/suite.yaml", *options]
    return subprocess.Popen(
        command,
        cwd=clone.root,
        env=clone.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_local_run_is_watched_from_nothing_to_its_end(clean: Any) -> None:
    watch = status(clean, "--watch", "0.2")
    done = clean.snakemake("--cores", "2", FAKE_PAUSE="1")
    assert done.returncode == 0, done.stdout
    said, _ = watch.communicate(timeout=60)
    assert watch.returncode == 0, said
    first, *_ = said.split("\n\n")
    assert "suite: 0 of 12 runs done" in first
    changes = said[said.index(" -> ") :]
    assert re.search(r"toy small_cnn fold 1 seed 0: waiting -> running", said), said
    for name in ("small_cnn", "small_ast@small_ast", "small_cnn@small_ast"):
        assert re.search(rf"toy {name} fold 2 seed 0: \w+ -> done", said), said
    assert "preparing toy: " in said and "failed" not in changes and "lost" not in changes
    assert said.strip().splitlines()[-1].endswith("of 12 runs 12 done")


def test_a_failed_local_run_has_its_log(clean: Any) -> None:
    failing = clean.snakemake("--cores", "2", FAKE_FAIL="runs/toy/small_ast/fold-2/")
    assert failing.returncode != 0
    said, _ = status(clean, "--json").communicate(timeout=60)
    jobs = json.loads(said)["jobs"]
    logs = {job["log"] for job in jobs if job["run"] == "small_ast" and job["fold"] == 2}
    assert logs == {"results/logs/train/toy/small_ast/fold-2/seed-0.log"}
    text = (clean.root / logs.pop()).read_text()
    assert "told to fail" in text


@pytest.fixture
def refusing(finished: Any, tmp_path: Path) -> Any:
    """A finished clone on a machine whose sbatch notes every job and refuses it."""
    folder = tmp_path / "slurm"
    shutil.copytree(finished.fakes, folder)
    programs = {name: "#!/bin/sh\n" for name in ("sacct", "scontrol", "sinfo", "squeue", "scancel")}
    programs["sbatch"] = NOTE.format(python=sys.executable, log=tmp_path / "sbatch.jsonl")
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    finished.fakes = folder
    return finished


def test_the_plugins_comments_and_folder_are_those_looked_up(
    refusing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job of each rule is submitted by the real plugin; its words are put into a queue."""
    (refusing.folder("small_cnn", fold=2) / "weights.safetensors").unlink()
    (refusing.folder("small_ast@small_ast", fold=2) / "weights.safetensors").unlink()
    (refusing.folder("small_cnn", fold=1) / "metrics.json").unlink()
    (refusing.folder("small_ast", fold=1) / "weights.safetensors").unlink()
    next((refusing.root / "results/prepared/toy/stats").rglob("fold-1.json")).unlink()
    refusing.edit("suite", "datasets", to=["toy", "toy_multi"])
    hurry = ("--retries", "0", "--slurm-init-seconds-before-status-checks", "1")
    refusing.snakemake("--cores", "all", "--profile", "slurm", *hurry)
    calls = [json.loads(line) for line in (tmp_path / "sbatch.jsonl").read_text().splitlines()]
    lines = [
        f"7|PENDING|Priority||{call[call.index('--comment') + 1]}|{call[call.index('-D') + 1]}"
        for call in calls
    ]
    monkeypatch.chdir(refusing.root)
    suite = suites.load(Path("config/suite.yaml"))
    found = squeue.look(suite, ("\n".join(lines), "")).jobs
    frontend = suite.frontend("toy", "small_cnn").name
    assert {
        ("run", "toy", "small_cnn", "2", "0"): "train",
        ("run", "toy", "small_ast@small_ast", "2", "0"): "distill",
        ("run", "toy", "small_cnn", "1", "0"): "evaluate",
        ("prepare", "toy_multi"): "prepare",
        ("stats", "toy", frontend, "1"): "stats",
    } == {key: entry.rule for key, entry in found.items()}
