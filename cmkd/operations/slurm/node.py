"""Run by a probe job on a compute node: `python -m cmkd.operations.slurm.node FOLDER`.

Reads the clock against the login node's through two files, measures the file system and looks for
what a job needs. Standard library alone.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from cmkd import __version__
from cmkd.operations import disks

# What a jobstep of the plugin keeps of Slurm's variables when it calls srun.
KEPT = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_SUBMIT_DIR")
WAIT = 90.0


def put(path: Path, values: dict[str, object]) -> None:
    """Write a small JSON file whole."""
    new = path.with_name(f".{path.name}.new")
    with open(new, "w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


def get(path: Path) -> dict[str, float] | None:
    """Read a small JSON file, or return None; the folder is listed first, to defeat NFS's cache."""
    try:
        os.listdir(path.parent)
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def main(folder: Path) -> None:
    """Say hello, wait for the login node's clock, and write what was found."""
    put(folder / "hello.json", {"time": time.time()})
    found = _look(folder)
    put(folder / "ready.json", {"time": time.time()})
    end = time.monotonic() + WAIT
    while get(folder / "ping.json") is None and time.monotonic() < end:
        time.sleep(0.02)
    found["seen"] = time.time()
    found["written"] = time.time()
    put(folder / "found.json", found)


def _look(folder: Path) -> dict[str, object]:
    """Return what this node is like for a job."""
    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME", ""),
        "python": sys.executable,
        "cmkd": __version__,
        "command": shutil.which("cmkd"),
        "snakemake": importlib.util.find_spec("snakemake") is not None,
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "processors": len(os.sched_getaffinity(0)),
        "latency": disks.latency(folder),
        **_steps(),
    }


def _steps() -> dict[str, str]:
    """Return the complaints of srun, and of squeue in a step, which training asks for its time."""
    srun = _step("true")
    job = os.environ.get("SLURM_JOB_ID", "")
    return {"srun": srun, "squeue": "" if srun else _step("squeue", "-h", "-j", job, "-o", "%L")}


def _step(*program: str) -> str:
    """Run a program by srun as the plugin does, without most of Slurm's variables.

    Returns what is complained of, or "".
    """
    command = ["srun", "-n1", "--cpu-bind=q", "--cpus-per-task=1", "--nodes=1", *program]
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT or not key.startswith(("SLURM_", "SRUN_", "SBATCH_"))
    }
    try:
        done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
