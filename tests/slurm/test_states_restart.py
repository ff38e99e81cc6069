"""A killed Snakemake, started again while its Slurm job trains: one training, and nobody's help."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm_all, pytest.mark.slurm(limit=560)]

SUITE = {
    "models": ["small_cnn"],
    "pairs": ["alone"],
    "folds": [1],
    "execution": {"checkpoint_seconds": 1},
}
LONG = {"input": {"frames": 128}, "training": {"epochs": 25, "batch": 8, "average": [24, 25]}}
# The real verbs; but the first to hold a run's lease waits for a file before it begins to train.
GATED = """#!{python}
import pathlib, sys, time
from cmkd.cli import main
from cmkd.scoring import lease

def take(self, *rest, before=lease.Lease.take):
    before(self, *rest)
    while not self.waited and not pathlib.Path({gate!r}).exists():
        time.sleep(0.2)

lease.Lease.take = take
if __name__ == "__main__" and sys.argv[1] not in ("tables", "track"):
    sys.exit(main())
"""


class Restart:
    """A clone with one real training, which a Snakemake that is killed has submitted."""

    def __init__(self, work: Any, cluster: Any) -> None:
        self.work = work
        self.cluster = cluster
        self.run = work.folder("small_cnn")
        self.gate = work.root / "gate"
        self.before = len(cluster.jobs())
        work.fakes = work.root / "gated"
        work.fakes.mkdir()
        program = work.fakes / "cmkd"
        program.write_text(GATED.format(python=sys.executable, gate=str(self.gate)))
        program.chmod(0o755)
        prepared = work.snakemake("--cores", "2", "--until", "stats", "--no-hooks")
        assert prepared.returncode == 0, prepared.stdout
        first = self.start()
        cluster.wait(
            (self.run / "state" / "lease.json").is_file, 150, "the training holds its lease"
        )
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()

    def start(self) -> Any:
        """Start the command that a person types."""
        target = str((self.run / "weights.safetensors").relative_to(self.work.root))
        return self.work.start("--cores", "all", "--profile", "slurm", "--", target)

    def jobs(self) -> list[dict[str, str]]:
        """Return the Slurm jobs of this test."""
        return list(self.cluster.jobs()[self.before :])

    def log(self) -> str:
        """Return what the training's last attempt has said."""
        logs = self.work.root / "results" / "small" / "logs" / "train"
        return "".join(path.read_text() for path in logs.rglob("*.log"))


def test_the_same_command_waits_for_the_orphan(cluster: Any, clone: Callable[..., Any]) -> None:
    restart = Restart(clone(cluster, **SUITE), cluster)
    process = restart.start()
    cluster.wait(lambda: "waits: " in restart.log(), 150, "the second job waits")
    restart.gate.touch()
    text = restart.work.finish(process, 300)
    assert process.returncode == 0, f"{text}\n{restart.log()}"
    assert "was killed: its lock is removed" in text
    orphan, second = restart.jobs()
    assert [orphan["state"], second["state"]] == ["COMPLETED", "COMPLETED"]
    # One trained, from its beginning to its end; the other waited and found it done.
    cost = json.loads((restart.run / "cost.json").read_text())
    assert cost["place"]["slurm_job"] == orphan["id"]
    assert f"Slurm job {orphan['id']} is at work on this run" in restart.log()
    assert "done already" in restart.log()


def test_an_orphan_that_is_cancelled_is_gone_on_from(
    cluster: Any, clone: Callable[..., Any]
) -> None:
    restart = Restart(clone(cluster, **SUITE | {"set": LONG}), cluster)
    restart.gate.touch()
    cluster.wait(lambda: "epoch 3/25" in restart.log(), 150, "some epochs are trained")
    cluster.run("scancel", "--me")
    process = restart.start()
    text = restart.work.finish(process, 400)
    assert process.returncode == 0, f"{text}\n{restart.log()}"
    orphan, second = restart.jobs()
    assert orphan["state"].startswith("CANCELLED") and second["state"] == "COMPLETED"
    assert "begins at  step " in restart.log()
    cost = json.loads((restart.run / "cost.json").read_text())
    assert cost["place"]["slurm_job"] == second["id"]


def test_nothing_is_done_twice_after_the_orphan_has_ended(
    cluster: Any, clone: Callable[..., Any]
) -> None:
    restart = Restart(clone(cluster, **SUITE), cluster)
    restart.gate.touch()
    cluster.wait(lambda: not cluster.queue(), 200, "the orphan has ended")
    process = restart.start()
    text = restart.work.finish(process, 100)
    assert process.returncode == 0, text
    assert "Nothing to be done" in text
    assert [job["state"] for job in restart.jobs()] == ["COMPLETED"]
