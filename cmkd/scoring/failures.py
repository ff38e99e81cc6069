"""Failures sorted by kind, so that the workflow and the tables know what went wrong and where."""

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import InputError, Stopped, TrainingError

NAME = "failure.json"
KINDS = ("data", "non-finite", "memory", "time", "bug")


def kind(error: BaseException) -> str:
    """Return what went wrong: data (wrong input), non-finite, memory, time or bug."""
    if isinstance(error, InputError):
        return "data"
    if isinstance(error, TrainingError):
        return "non-finite"
    if isinstance(error, Stopped):
        return "time"
    return "memory" if _memory(error) else "bug"


def _memory(error: BaseException) -> bool:
    """Say whether memory ran out; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(part in text for part in texts)


@contextlib.contextmanager
def recorded(run: Path, stage: str, recipe: str) -> Iterator[None]:
    """Write RUN/state/failure.json if the block fails, and let the error go on.

    The record says kind, stage (train or evaluate), recipe digest, exception, message and time.
    What an earlier attempt left (its record, files half written when it was killed) goes when the
    block begins.
    """
    path = Path(run) / "state" / NAME
    path.unlink(missing_ok=True)
    for folder in (Path(run), path.parent):
        for half in folder.glob(".new-*"):
            half.unlink()
    try:
        yield
    except Exception as error:
        files.write_json(path, describe(error, stage, recipe))
        raise


def describe(error: BaseException, stage: str, recipe: str) -> dict[str, Any]:
    """Return the content of a failure.json."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "format": 1,
        "kind": kind(error),
        "stage": stage,
        "recipe": recipe,
        "exception": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "time": now.isoformat(timespec="seconds"),
    }
