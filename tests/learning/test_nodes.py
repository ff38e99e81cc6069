"""Several nodes of a Slurm job: how many, what each gets, and the srun that starts its agent.

That it works on a real Slurm is in tests/slurm/test_nodes.py.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.learning import nodes


def fake(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script on the PATH."""
    script = tmp_path / name
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 1),
        ({"SLURM_JOB_NUM_NODES": "4"}, 1),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "4"}, 4),
        ({"SLURM_JOB_ID": "7"}, 3),
        ({"SLURM_JOB_ID": "8"}, 1),
    ],
)
def test_nodes_are_those_of_the_job(environment, expected, tmp_path, monkeypatch) -> None:
    answer = 'case "$*" in *"--jobs 7 "*) echo 3;; *) exit 1;; esac'
    fake("squeue", answer, tmp_path, monkeypatch)
    assert nodes.count(environment) == expected


def test_without_slurms_commands_it_is_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert nodes.count({"SLURM_JOB_ID": "7"}) == 1


def test_shares_are_even_or_refused() -> None:
    assert nodes.share(8, 2) == 4
    with pytest.raises(ConfigError, match=r"execution.gpus is 8, which 3 nodes cannot share"):
        nodes.share(8, 3)


def test_each_node_gets_the_jobs_processors_and_gpus() -> None:
    plain = nodes.command(Path("/o"), 4, 2, {})
    assert plain[0] == "srun"
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--overlap"} < set(plain)
    assert not any("gres" in word or "cpus" in word for word in plain)
    environment = {"SLURM_CPUS_PER_TASK": "16", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    given = nodes.command(Path("/o"), 4, 2, environment)
    assert {"--cpus-per-task=16", "--gres=gpu:4"} < set(given)
    assert given[-4:] == [sys.executable, "-m", "cmkd.learning.nodes", "/o"]


def test_the_step_is_not_bound_to_ours() -> None:
    given = {"SLURM_JOB_ID": "7", "SLURM_CONF": "c", "SLURM_NNODES": "1", "HOME": "/h"}
    kept = {"SLURM_JOB_ID": "7", "SLURM_CONF": "c", "HOME": "/h"}
    assert nodes.whole_job(given) == kept


def test_what_agents_say_is_put_together(tmp_path: Path, monkeypatch: Any) -> None:
    said = json.dumps({"2": 75, "3": -9})
    fake("srun", f"echo '{said}' > '{tmp_path}/node-1.json'; exit 4", tmp_path, monkeypatch)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    codes = nodes.start(["train"], 6, 3, tmp_path)
    assert codes == {0: 4, 1: 4, 2: 75, 3: -9, 4: 4, 5: 4}
    order = json.loads((tmp_path / "order.json").read_text())
    assert (order["each"], order["nodes"], order["arguments"]) == (2, 3, ["train"])
