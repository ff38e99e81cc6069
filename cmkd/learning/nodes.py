"""One training on several nodes of a Slurm job: an agent on each of them, started by srun.

The verb runs on the job's first node. It starts this module once a node, in a step that overlaps
its own; what the agents and processes have to say goes into a folder of the run, which every node
sees. `python -m cmkd.learning.nodes ORDER.json` is that step.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import ConfigError

COUNT = "SLURM_JOB_NUM_NODES"
# An agent whose processes have failed waits so long for those of the other nodes to save: as soon
# as one agent is gone, srun ends the rest.
PATIENCE = 60.0
ASKING = 20.0  # seconds in which squeue must answer


def count(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of nodes of this Slurm job, 1 outside Slurm.

    Snakemake's jobs have lost the variable that says so, and Slurm is asked.
    """
    if "SLURM_JOB_ID" not in environment:
        return 1
    text = environment.get(COUNT) or _asked(environment["SLURM_JOB_ID"])
    return int(text) if text.isdigit() else 1


def _asked(job: str) -> str:
    """Return what squeue says of a job's number of nodes, nothing where it does not answer."""
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%D"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ASKING, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def share(processes: int, nodes: int) -> int:
    """Return the processes of each node; ConfigError where they cannot be shared evenly."""
    if processes % nodes:
        raise ConfigError(
            f"execution.gpus is {processes}, which {nodes} nodes cannot share evenly; ask for a "
            f"multiple of {nodes}, or for other nodes"
        )
    return processes // nodes


def start(arguments: Sequence[str], processes: int, nodes: int, folder: Path) -> dict[int, int]:
    """Run the processes on all nodes and return the exit codes of those that failed, by rank."""
    each = share(processes, nodes)
    order = {
        "arguments": list(arguments),
        "each": each,
        "nodes": nodes,
        "folder": str(folder.absolute()),
        "endpoint": f"{socket.gethostname()}:{_free_port()}",
        "name": os.environ["SLURM_JOB_ID"],
    }
    path = folder / "order.json"
    files.write_json(path, order)
    ended = subprocess.run(command(path, each, nodes), env=whole_job(), check=False).returncode
    codes: dict[int, int] = {}
    for node in range(nodes):
        said = folder / f"node-{node}.json"
        # A node that says nothing is lost, and so are its processes.
        silent = dict.fromkeys(range(node * each, (node + 1) * each), ended or 1)
        codes |= _codes(said) if said.exists() else silent
    return codes


def command(
    order: Path, each: int, nodes: int, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the srun that starts an agent on every node, with the job's own processors and GPUs.

    Since Slurm 22.05 srun takes the processors a task from no variable but its own option.
    """
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap"]
    if environment.get("SLURM_CPUS_PER_TASK"):
        options.append(f"--cpus-per-task={environment['SLURM_CPUS_PER_TASK']}")
    if environment.get("CUDA_VISIBLE_DEVICES"):
        options.append(f"--gres=gpu:{each}")
    program = [sys.executable, "-m", "cmkd.learning.nodes", str(order.absolute())]
    return ["srun", *options, "--kill-on-bad-exit=1", *program]


def whole_job(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment without what Slurm says of our own step, which is on one node only."""
    kept = ("SLURM_JOB_ID", "SLURM_CONF")
    return {
        key: value
        for key, value in environment.items()
        if not key.startswith("SLURM_") or key in kept
    }


def _free_port() -> int:
    """Return a port of this node that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _codes(path: Path) -> dict[int, int]:
    """Return what an agent said of its processes."""
    return {int(rank): code for rank, code in files.read_json(path).items()}


def agent(order: Mapping[str, Any], node: int) -> int:
    """Run this node's processes to their end, say how they ended, and return an exit code."""
    from cmkd.learning import launch

    folder = Path(order["folder"])
    with launch.asking_to_stop(folder / "stop"):
        codes = launch.run_agent(
            order["arguments"],
            min_nodes=order["nodes"],
            max_nodes=order["nodes"],
            nproc_per_node=order["each"],
            run_id=order["name"],
            rdzv_backend="static",
            rdzv_endpoint=order["endpoint"],
            rdzv_configs={"rank": node},
        )
        files.write_json(folder / f"node-{node}.json", {str(key): codes[key] for key in codes})
        deadline = time.monotonic() + PATIENCE
        while codes and time.monotonic() < deadline and not _all_said(folder, order["nodes"]):
            time.sleep(0.2)
    return 1 if codes else 0


def _all_said(folder: Path, nodes: int) -> bool:
    """Say whether the agents of all nodes have written how their processes ended."""
    return all((folder / f"node-{node}.json").exists() for node in range(nodes))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(agent(json.loads(Path(sys.argv[1]).read_text()), int(os.environ["SLURM_NODEID"])))
