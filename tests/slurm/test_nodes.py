"""One training on two nodes of a real Slurm, through Snakemake: the bits of one machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

TWO_NODES = {"nodes": 2, "gres": "'gpu:2'", "gpu": 0, "cpus_per_task": 2, "slurm_extra": "''"}


@pytest.mark.slurm(limit=400)
@pytest.mark.slurm_all
def test_two_nodes_train_what_one_machine_does(
    cluster: Any, clone: Callable[..., Any], tmp_path: Path
) -> None:
    work = clone(cluster, models=["small_ast"], pairs=["alone"], execution={"gpus": 4})
    work.profile(train=TWO_NODES)
    folder = work.folder("small_ast")
    target = str((folder / "weights.safetensors").relative_to(work.root))
    done = work.snakemake("--cores", "all", "--profile", "slurm", target, timeout=380)
    assert done.returncode == 0, done.stdout
    cost = json.loads((folder / "cost.json").read_text())
    assert cost["processes"] == 4
    assert cost["device_hours"] == pytest.approx(4 * cost["seconds"]["total"] / 3600)
    job = cost["place"]["slurm_job"]
    assert job
    steps = cluster.run("sacct", "-n", "-P", "-j", job, "-o", "jobid,nnodes,ntasks,state")
    assert f"{job}.1|2|2|COMPLETED" in steps.splitlines()
    again_here(work, folder, tmp_path)


def again_here(work: Any, folder: Path, tmp_path: Path) -> None:
    """Train the same in as many processes on this machine and compare the bytes."""
    execution = tmp_path / "execution.yaml"
    execution.write_text(yaml.safe_dump({"gpus": 4}))
    prepared = work.root / "results" / "prepared" / "esc50"
    [statistics] = prepared.glob("stats/*/fold-1.json")
    options = {
        "--run": tmp_path / "here",
        "--fold": 1,
        "--seed": 0,
        "--prepared": prepared,
        "--statistics": statistics,
        "--execution": execution,
    }
    words = [word for pair in options.items() for word in pair]
    work.cmkd("train", folder / "recipe.yaml", *words)
    for name in ("weights.safetensors", "recipe.yaml", "inputs.json"):
        assert (folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
