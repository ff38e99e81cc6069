"""`cmkd status` on a real Slurm: what waits in the queue and why, what runs and where."""

import json
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm_all, pytest.mark.slurm(limit=240)]


def look(clone: Any) -> dict[str, Any]:
    """Return what the real verb says."""
    command = ("python", "-m", "cmkd.cli", "status", "config/config.yaml", "--json")
    text = clone.machine.run(*command, cwd=clone.root, environment=clone.environment())
    found: dict[str, Any] = json.loads(text)
    return found


def test_one_training_runs_and_one_waits_for_its_node(clone: Any, cluster: Any) -> None:
    made = clone(cluster, fake=True, pairs=["alone"])
    made.profile(train={"slurm_extra": "'-w node1 --exclusive'"})
    prepared = made.snakemake("--cores", "2", "--until", "stats")
    assert prepared.returncode == 0, prepared.stdout
    process = made.start(FAKE_PAUSE="25")
    found: dict[str, Any] = {}
    until = time.monotonic() + 90
    while time.monotonic() < until and found.get("counts", {}).get("queued") != 1:
        assert process.poll() is None, made.text(process)
        found = look(made)
        time.sleep(1)
    states = {job["state"]: job for job in found["jobs"]}
    assert set(states) == {"running", "queued"}, found
    assert states["running"]["host"] == "node1"
    assert states["queued"]["reason"] in ("Resources", "Priority")
    assert states["queued"]["slurm"] in {row["id"] for row in cluster.jobs()}
    assert found["queue"]["asked"]
    made.finish(process, 180)
    assert look(made)["counts"]["done"] == 2
