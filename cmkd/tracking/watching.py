"""`cmkd track --watch`: runs in MLflow while they are trained, by a pass over what has changed."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cmkd.errors import StoreError
from cmkd.plan.suites import Job, Suite
from cmkd.reports.runs import DONE, FAILED, RunState, state_of
from cmkd.tracking import store, trouble
from cmkd.tracking.writer import COUNTS, Copy, one_writer, open_copy, write_marker

Signature = tuple[tuple[str, int, int], ...]
ALONE = 50  # changed runs that are looked up one by one; more of them, all at once
VIEWS_SHARE = 10  # saved views are written again after ten times what writing them took


def watch(suite: Suite, seconds: float, say: Callable[[str], None] = print) -> None:
    """Show the suite's runs in MLflow, finished or not, until all are done.

    Every `seconds` it looks at the times and sizes of each run's files and reads what has changed.
    While the store is away it says so once and goes on.
    """
    watching = Watch(suite)
    said, away = "", ""
    while True:
        try:
            now, trouble_text = watching.look(), ""
        except StoreError as error:
            now, trouble_text = said, str(error)
        if trouble_text and not away:
            say(f"{_clock()} {trouble_text}; trying again every {seconds:g} s")
        if away and not trouble_text:
            say(f"{_clock()} the store answers again")
        away = trouble_text
        if now != said:
            say(f"{_clock()} {now}")
            said = now
        if not away and watching.finished:
            say("all runs are done; see them with `cmkd ui`")
            return
        time.sleep(seconds)


@dataclass
class Watch:
    """What a watching process remembers: the copy, each run's state, and how its files looked."""

    suite: Suite
    copy: Copy | None = None
    seen: dict[Job, Signature] = field(default_factory=dict)
    states: dict[Job, RunState] = field(default_factory=dict)
    alive: set[Job] = field(default_factory=set)
    outdated: bool = True  # the saved views
    not_before: float = 0.0

    @property
    def finished(self) -> bool:
        """Tell whether every run is done and in the store."""
        jobs = self.suite.jobs()
        done = all(job in self.states and self.states[job].done for job in jobs)
        return done and not self.outdated

    def look(self) -> str:
        """Bring what has changed up to date and return in one line how things stand.

        Raises:
            StoreError: the store is away; what was not written is written next time.
        """
        looked = {job: signature(self.suite.folder(job)) for job in self.suite.jobs()}
        changed = [job for job in looked if looked[job] != self.seen.get(job) or job in self.alive]
        if changed or self._due():
            uri = store.tracking_uri(self.suite)
            with one_writer(self.suite), trouble.told(uri), trouble.patience(trouble.BRIEF):
                copy = self.copy = self.copy or open_copy(self.suite, shown=True)
                self._replay(copy, changed, looked)
                if self._due():
                    self._show(copy)
        return self._line()

    def _replay(self, copy: Copy, changed: Sequence[Job], looked: dict[Job, Signature]) -> None:
        """Write what has changed, one run after the other, and remember how it looked."""
        known = copy.known(changed if len(changed) <= ALONE else None)
        for job in changed:
            state = state_of(self.suite, job)
            counts = copy.replay([state], known)
            if state.status in (DONE, FAILED) and not counts["unchanged"]:
                self.outdated = True
            self.states[job], self.seen[job] = state, looked[job]
            (self.alive.add if counts["running"] else self.alive.discard)(job)

    def _due(self) -> bool:
        """Tell whether the saved views should be written: not too often, and at the end."""
        over = len(self.states) == len(self.suite.jobs()) and all(
            state.done for state in self.states.values()
        )
        return self.outdated and (over or time.monotonic() >= self.not_before)

    def _show(self, copy: Copy) -> None:
        """Merge doubles, write the saved views and the marker."""
        began = time.monotonic()
        copy.merge(copy.known())
        in_order = {job: self.states[job] for job in self.suite.jobs()}
        write_marker(copy, in_order, dict.fromkeys(COUNTS, 0) | {"unchanged": len(copy.ids)})
        self.outdated = False
        self.not_before = time.monotonic() + VIEWS_SHARE * (time.monotonic() - began)

    def _line(self) -> str:
        """Return how many runs are in which state."""
        total = [state.status for state in self.states.values()]
        parts = {
            "done": total.count(DONE),
            "running": len(self.alive),
            "failed": total.count(FAILED),
        }
        parts["waiting"] = len(total) - sum(parts.values())
        return ", ".join(f"{count} {word}" for word, count in parts.items() if count)


def signature(folder: Path) -> Signature:
    """Return names, sizes and times of the files of a run and of its state, unread."""
    found = []
    for place in (folder, folder / "state"):
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_file():
                        stat = entry.stat()
                        found.append((entry.path, stat.st_size, stat.st_mtime_ns))
        except OSError:
            continue  # not begun, or swept away at this moment: the next look tells
    return tuple(sorted(found))


def _clock() -> str:
    """Return the time of day."""
    return time.strftime("%H:%M:%S")
