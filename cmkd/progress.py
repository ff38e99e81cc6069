"""Progress of long work: a bar on a terminal, plain lines now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")
WIDTH = 30
SECONDS_ON_TERMINAL = 0.1
SECONDS_IN_LOG = 15.0


def progress(
    items: Iterable[Item], total: int, label: str, out: TextIO | None = None
) -> Iterator[Item]:
    """Yield the items, showing how many of `total` are done and the time left."""
    out = out or sys.stderr
    terminal = out.isatty()
    pause = SECONDS_ON_TERMINAL if terminal else SECONDS_IN_LOG
    start = shown = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - shown >= pause or (terminal and done == total):
            shown = now
            _show(out, terminal, line(label, done, total, now - start))
    if terminal:
        print(file=out)
    else:
        _show(out, False, f"{label}: {done} of {total} in {time.monotonic() - start:.1f} s")


def transfer(
    pieces: Iterable[bytes], total: int | None, label: str, done: int = 0, out: TextIO | None = None
) -> Iterator[bytes]:
    """Yield pieces of a file, showing how many of its `total` bytes are there and the time left.

    Args:
        pieces: what is fetched, in order.
        total: bytes of the whole file, or None where they are not known.
        label: the file.
        done: bytes that were there before.
        out: where it is shown (default: standard error).
    """
    out = out or sys.stderr
    terminal = out.isatty()
    pause = SECONDS_ON_TERMINAL if terminal else SECONDS_IN_LOG
    start = shown = time.monotonic()
    fetched, text = 0, ""
    try:
        for piece in pieces:
            yield piece
            fetched += len(piece)
            now = time.monotonic()
            text = bytes_line(label, done, fetched, total, now - start)
            if now - shown >= pause:
                shown = now
                _show(out, terminal, text)
    finally:
        if terminal and text:
            print(text, file=out, flush=True)


def bytes_line(label: str, done: int, fetched: int, total: int | None, seconds: float) -> str:
    """Return one line: label, bar, megabytes and the seconds left at the pace so far."""
    there, pace = done + fetched, fetched / seconds if seconds else 0.0
    if total is None:
        return f"{label} {there / 1e6:.1f} MB, {pace / 1e6:.1f} MB/s"
    bar = "#" * int(there / max(total, 1) * WIDTH)
    left = (total - there) / pace if pace else 0.0
    count = f"{there / 1e6:.1f}/{total / 1e6:.1f} MB"
    return f"{label} [{bar:<{WIDTH}}] {count}, {pace / 1e6:.1f} MB/s, {left:.0f} s left"


def line(label: str, done: int, total: int, seconds: float) -> str:
    """Return one line: label, bar, count and the seconds left at the pace so far."""
    share = done / total if total else 1.0
    bar = "#" * int(share * WIDTH)
    left = seconds / share * (1 - share) if share else 0.0
    return f"{label} [{bar:<{WIDTH}}] {done}/{total} {left:.0f} s left"


def _show(out: TextIO, terminal: bool, text: str) -> None:
    """Write over the bar on a terminal, or add a line to a log."""
    print(text, end="\r" if terminal else "\n", file=out, flush=True)
