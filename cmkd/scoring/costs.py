"""What a job cost and where it ran: the facts of cost.json and cost-evaluate.json."""

import datetime
import os
import platform
import resource
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch

from cmkd import __version__, files
from cmkd.scoring import threads

PACKAGES = ("torch", "numpy", "timm", "safetensors")


def machine(device: torch.device, execution: Mapping[str, Any]) -> dict[str, Any]:
    """Return device, precision, threads really used, processes, place, versions and git commit."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "device_kind": device.type,
        "precision": "float32",
        "threads": torch.get_num_threads(),
        "processes": 1,
        "place": place(),
        "execution": {key: execution[key] for key in sorted(execution)},
        "versions": versions(),
        "commit": commit(),
    }


def place() -> dict[str, Any]:
    """Return the host, the processors given to this process, its GPUs as named, its Slurm job."""
    return {
        "host": platform.node(),
        "processors": threads.processors(),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def versions() -> dict[str, str]:
    """Return the versions of cmkd, Python and the libraries that compute."""
    found = {"cmkd": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the git commit of the checkout, None outside one or without git."""
    folder = files.checkout()
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the largest memory in bytes: of this process, and on its GPU."""
    found = {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if device.type == "cuda":
        found["peak_device_memory"] = torch.cuda.max_memory_allocated(device)
    return found


def moment(seconds: float) -> str:
    """Return a Unix time as ISO 8601 in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def evaluation(
    device: torch.device, began: float, clips: int, execution: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of cost-evaluate.json: `clips` were scored since the time `began`."""
    ended = time.time()
    seconds = ended - began
    return {
        "format": 1,
        **machine(device, execution),
        "seconds": {"total": seconds},
        "device_hours": seconds / 3600,
        "clips_per_second": clips / seconds,
        **peak_memory(device),
        "start": moment(began),
        "end": moment(ended),
    }
