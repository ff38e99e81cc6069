"""The GPUs of a workstation: how many there are, and one (or some) for each job.

Snakemake counts GPUs but hands none out (snakemake issue 281). So a verb takes a free one for the
life of its process: an exclusive `flock` on a file of that device in this machine's temporary
folder, which the kernel lets go of however the process ends. CUDA_VISIBLE_DEVICES is set before
torch is imported. Inside Slurm the job has devices of its own, and nothing is taken.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
QUEUE = "queue"
PAUSE = 0.5  # seconds between two looks at devices that are all taken
LISTED = re.compile(r"^GPU (\d+): .*\(UUID: ([^)]+)\)")


def visible() -> list[str]:
    """Return the GPUs that this machine lets us use, as CUDA_VISIBLE_DEVICES names them.

    Those are the ones in that variable up to the first that hides the rest (`-1` or nothing), or
    else all that nvidia-smi lists, by their UUIDs, which no order of devices can confuse.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        return list(_installed().values())
    found = []
    for name in named.split(","):
        if name.strip() in ("", "-1"):
            break
        found.append(name.strip())
    return found


def started_by_torchrun() -> bool:
    """Say whether this process is one of several that torchrun started: it has its device."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextlib.contextmanager
def claimed(execution: Mapping[str, Any], count: int = 1) -> Iterator[list[str]]:
    """Hold `count` free GPUs while the block runs, and let CUDA see only those; give their names.

    Nothing is taken inside Slurm, where `execution` names the device (cpu, cuda:1) and where there
    is no GPU. Waits, and says so in one line, while other jobs hold too many. Raises ConfigError
    where there are fewer GPUs than asked for.
    """
    there = visible() if count and _ours_to_choose(execution) else []
    if not there:
        yield []
        return
    if count > len(there):
        raise ConfigError(
            f"execution.gpus is {count}, but this machine lets us use {len(there)} GPU(s) "
            f"({', '.join(there)}); ask for no more"
        )
    with contextlib.ExitStack() as held:
        taken = _take(there, count, held)
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = ",".join(taken)
        held.callback(_put_back, before)
        yield taken


def _put_back(before: str | None) -> None:
    """Set CUDA_VISIBLE_DEVICES to what it was."""
    os.environ.pop(VISIBLE, None)
    if before is not None:
        os.environ[VISIBLE] = before


def _ours_to_choose(execution: Mapping[str, Any]) -> bool:
    """Say whether nobody else has chosen the device."""
    device = str(execution.get("device", "auto"))
    return "SLURM_JOB_ID" not in os.environ and device in ("auto", "cuda")


def _installed() -> dict[str, str]:
    """Return the UUIDs of this machine's GPUs by their numbers, none without nvidia-smi."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = map(LISTED.match, answer.stdout.splitlines())
    return {match[1]: match[2] for match in found if match}


def _take(there: Sequence[str], count: int, held: contextlib.ExitStack) -> list[str]:
    """Return `count` devices whose locks are held from now on.

    One job at a time gathers devices, so two that want several never wait for each other.
    """
    uuids = _installed()
    taken: list[str] = []
    with contextlib.ExitStack() as queue:
        said = False
        while not _locked(QUEUE, queue):
            said = said or _say(there, count)
            time.sleep(PAUSE)
        while True:
            for name in [name for name in there if name not in taken]:
                if len(taken) < count and _locked(uuids.get(name, name), held):
                    taken.append(name)
            if len(taken) == count:
                return sorted(taken, key=list(there).index)
            said = said or _say(there, count)
            time.sleep(PAUSE)


def _say(there: Sequence[str], count: int) -> bool:
    """Say that all devices are taken."""
    text = f"cmkd: waiting for {count} of this machine's {len(there)} GPU(s): other jobs hold them"
    print(text, file=sys.stderr, flush=True)
    return True


def _locked(name: str, held: contextlib.ExitStack) -> bool:
    """Try to lock a device's file; where that succeeds it stays locked until `held` is closed."""
    descriptor = _open(_folder() / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True


def _folder() -> Path:
    """Return the folder of the locks, which all users of this machine share."""
    folder = Path(tempfile.gettempdir()) / "cmkd-devices"
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)
    return folder


def _open(path: Path) -> int:
    """Open a lock's file, of whoever made it, without following a link.

    It is only read: a user may lock, but not write, what another user has made.
    """
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY)
        os.fchmod(made, 0o444)
        return made
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
