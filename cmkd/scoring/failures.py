"""Failures sorted by kind, so that the workflow and the tables know what went wrong and where."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import BudgetError, InputError, LeaseLost, ProcessLost, Stopped, TrainingError

NAME = "failure.json"
KINDS = ("data", "non-finite", "memory", "time", "budget", "machine", "bug")
# Those that the same command, run again, may not meet again: with more memory, on another node.
HOPEFUL = ("memory", "time", "machine")
# What names one call of Snakemake and all its jobs, in their environment.
INVOCATION = "CMKD_INVOCATION"
DEVICE_TEXTS = ("cuda error", "cudnn error", "cublas error", "nccl error", "hip error")
DEVICE_TYPES = ("AcceleratorError", "DistBackendError", "Parted")  # Parted: a process is gone


def kind(error: BaseException) -> str:
    """Return what went wrong, one of KINDS.

    data: wrong input; time: stopped in time; machine: a disk, a file system, a device, or one of
    several processes that was killed.
    """
    if isinstance(error, BudgetError):
        return "budget"
    if isinstance(error, InputError):
        return "data"
    if isinstance(error, TrainingError):
        return "non-finite"
    if isinstance(error, Stopped):
        return "time"
    if _memory(error):
        return "memory"
    return "machine" if _machine(error) else "bug"


def _memory(error: BaseException) -> bool:
    """Say whether memory ran out; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(part in text for part in texts)


def _machine(error: BaseException) -> bool:
    """Say whether a disk, a file system, a device or another process failed."""
    if isinstance(error, OSError | ProcessLost) or type(error).__name__ in DEVICE_TYPES:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in DEVICE_TEXTS)


@contextlib.contextmanager
def recorded(run: Path, stage: str, recipe: str) -> Iterator[None]:
    """Write RUN/state/failure.json if the block fails, and let the error go on.

    What an earlier attempt left (its record, files half written when it was killed) goes when the
    block begins, so the run's lease must be held. Where that is lost, nothing is written.
    """
    path = Path(run) / "state" / NAME
    attempt = _attempt(path, stage, recipe)
    path.unlink(missing_ok=True)
    for folder in (Path(run), path.parent):
        for half in folder.glob(".new-*"):
            half.unlink(missing_ok=True)
    with _written(path, stage, recipe, attempt):
        yield


@contextlib.contextmanager
def noted(output: Path, stage: str) -> Iterator[None]:
    """Write a record beside an output if the block that makes it fails as a job of Snakemake.

    For what is made outside runs (prepared data, statistics); by hand, nothing is written.
    """
    if INVOCATION not in os.environ:
        yield
        return
    path = beside(output)
    attempt = _attempt(path, stage, "")
    path.unlink(missing_ok=True)
    with _written(path, stage, "", attempt):
        yield


def beside(output: Path) -> Path:
    """Return the path of the record of a job that is known by its first output alone."""
    return Path(f"{output}.{NAME}")


@contextlib.contextmanager
def _written(path: Path, stage: str, recipe: str, attempt: int) -> Iterator[None]:
    """Write a record of what goes wrong in the block."""
    try:
        yield
    except LeaseLost:
        raise
    except Exception as error:
        files.write_json(path, describe(error, stage, recipe, attempt))
        raise


def describe(error: BaseException, stage: str, recipe: str, attempt: int = 1) -> dict[str, Any]:
    """Return the content of a failure.json.

    The record says kind, stage (train or evaluate), recipe digest, exception, message and time;
    `retry`: can the same command succeed by being run again; `invocation`: the call of Snakemake
    that it happened in, None by hand; `attempt`: how many there were, those that were killed too.
    """
    now = datetime.datetime.now(datetime.UTC)
    found = kind(error)
    return {
        "format": 1,
        "kind": found,
        "retry": found in HOPEFUL,
        "stage": stage,
        "recipe": recipe,
        "exception": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "time": now.isoformat(timespec="seconds"),
        "invocation": os.environ.get(INVOCATION),
        "attempt": attempt,
    }


def read(path: Path) -> dict[str, Any]:
    """Return what a record says, nothing where there is none or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        found = files.read_json(path)
        if isinstance(found, dict):
            return found
    return {}


def _attempt(path: Path, stage: str, recipe: str) -> int:
    """Return the number of the attempt that begins, from the records of those before it.

    A training notes its starts in attempts.json; another stage knows of those that failed.
    """
    before = read(path)
    same = (before.get("stage"), before.get("recipe")) == (stage, recipe)
    counts = [before.get("attempt") if same else 0]
    starts = read(path.with_name("attempts.json"))
    identity = starts.get("identity")
    if stage == "train" and isinstance(identity, dict) and identity.get("recipe") == recipe:
        counts.append(len(starts.get("starts", [])))
    return max(count for count in (*counts, 0) if isinstance(count, int)) + 1
