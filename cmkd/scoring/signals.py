"""SIGTERM, as schedulers send it before the walltime: met at a step boundary, or at once."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from cmkd.errors import Stopped

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether SIGTERM has come since the block began."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()

    with _handled(note):
        yield asked.is_set


@contextlib.contextmanager
def ending(what: str) -> Iterator[None]:
    """Raise Stopped where the block stands when SIGTERM comes, once: what is written is whole."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped(f"{what} was stopped by SIGTERM; run the same command again")

    with _handled(end):
        yield


@contextlib.contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    """Handle SIGTERM within the block; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
