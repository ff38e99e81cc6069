"""A suite's status shown again and again: drawn anew on a terminal, added to in a log."""

import time
from collections.abc import Callable, Iterator
from typing import TextIO

from cmkd.operations.status import pages
from cmkd.operations.status.look import Snapshot, look
from cmkd.plan.suites import Suite

SHARE = 10  # a watch pauses at least ten times as long as it has looked
CLEAR = "\x1b[2J"


def watch(
    suite: Suite,
    out: TextIO,
    seconds: float,
    everything: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a suite's status again and again until all runs are done or Ctrl-C ends it.

    On a terminal the page is drawn anew; elsewhere a line is added for each run that has changed.
    A look at thousands of runs costs the file system something, so the pause is never shorter than
    ten looks.
    """
    style = pages.style(out)
    draw = _draw if style.terminal else _append
    try:
        for before, now, spent in _looks(suite):
            draw(before, now, out, style, everything)
            if now.finished:
                return
            sleep(max(seconds, SHARE * spent))
    except KeyboardInterrupt:
        print(file=out)


def _looks(suite: Suite) -> Iterator[tuple[Snapshot | None, Snapshot, float]]:
    """Yield the snapshot before, the one now, and the seconds that it took, without end."""
    before = None
    while True:
        began = time.monotonic()
        now = look(suite)
        yield before, now, time.monotonic() - began
        before = now


def _draw(
    before: Snapshot | None, now: Snapshot, out: TextIO, style: pages.Style, everything: bool
) -> None:
    """Draw the page over the one before."""
    lines = pages.page(now, style, everything).splitlines()
    if len(lines) > style.height - 2:
        lines = [*lines[: style.height - 3], "... (a higher window shows the rest)"]
    clock = time.strftime("%H:%M:%S")
    text = "\n".join([f"{clock}  Ctrl-C ends the watch, not the runs", *lines])
    # Home, then each line cleared to its end, then all below: no flicker, nothing left over.
    cleared = text.replace("\n", "\x1b[K\n")
    out.write(f"{'' if before else CLEAR}\x1b[H{cleared}\x1b[K\n\x1b[J")
    out.flush()


def _append(
    before: Snapshot | None, now: Snapshot, out: TextIO, style: pages.Style, everything: bool
) -> None:
    """Add lines for what has changed; at first the whole page."""
    if before is None:
        print(pages.page(now, style, everything), file=out, flush=True)
        return
    clock = time.strftime("%H:%M:%S")
    for line in pages.changes(before, now):
        print(f"{clock}  {line}", file=out, flush=True)
