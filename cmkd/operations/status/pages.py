"""A suite's status as text: at most a terminal's width, colours on a terminal only."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

from cmkd.operations.status.data import Item
from cmkd.operations.status.look import Snapshot
from cmkd.operations.status.runs import (
    DONE,
    FAILED,
    LOST,
    QUEUED,
    RUNNING,
    STALE,
    STATES,
    WAITING,
    Seen,
)
from cmkd.plan.suites import Job

LOG_WIDTH = 100
NARROWEST = 60
MOST = 20  # details of a kind, and rows of the table, unless everything is asked for
FEWEST = 5  # rows of a data set that are shown in any case
SKEW = 5.0  # seconds between two clocks that are worth a word
COLOURS = {DONE: 32, RUNNING: 36, FAILED: 31, LOST: 31, STALE: 33}
REASONS = {
    "Resources": "waits for free processors, memory or GPUs",
    "Priority": "jobs before it come first",
    "ReqNodeNotAvail": "a node it needs is down or reserved",
    "BeginTime": "its time to begin has not come; a requeued job waits a little",
    "JobHeldUser": "held by its user: scontrol release JOB",
    "JobHeldAdmin": "held by the administrators",
    "PartitionTimeLimit": "asks for more time than its partition allows",
    "QOSMaxJobsPerUserLimit": "as many jobs as one user may run are running",
    "AssocGrpGRES": "the account's share of GPUs is in use",
}
WORDS = {LOST: "lost (no sign of life)"}


class Style(NamedTuple):
    """How text is shown: on a terminal or not, its size, with colours or not."""

    terminal: bool
    width: int
    height: int
    colour: bool

    def paint(self, state: str, text: str) -> str:
        """Return a text in its state's colour."""
        code = COLOURS.get(state)
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and code else text


def style(out: TextIO) -> Style:
    """Return how text is shown on a stream; NO_COLOR (no-color.org) and TERM=dumb are obeyed."""
    if not out.isatty():
        return Style(False, LOG_WIDTH, 0, False)
    size = shutil.get_terminal_size()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    dumb = os.environ.get("TERM") == "dumb"
    return Style(not dumb, max(NARROWEST, size.columns), size.lines, not plain)


def page(snapshot: Snapshot, style: Style, everything: bool = False) -> str:
    """Return the whole status; without `everything` long lists are cut and say so."""
    limit = len(snapshot.runs) + len(snapshot.data) if everything else MOST
    blocks = [
        _head(snapshot, style),
        _data(snapshot, style, limit),
        _table(snapshot.runs, style, limit),
        _section(RUNNING, snapshot.runs, style, limit, running),
        _section(QUEUED, snapshot.runs, style, limit, queued),
        _section(LOST, snapshot.runs, style, limit),
        _section(FAILED, snapshot.runs, style, limit),
        _notes(snapshot.runs, style),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(snapshot: Snapshot, style: Style) -> list[str]:
    """Return how many runs are in which state, and what is left."""
    counts = snapshot.counts()
    total = len(snapshot.runs)
    title = f"{snapshot.suite}: {counts[DONE]} of {total} runs done"
    others = [
        style.paint(state, f"{count} {WORDS.get(state, state)}")
        for state, count in counts.items()
        if count and state != DONE
    ]
    lines = [style.paint(DONE, title) if counts[DONE] == total else title]
    lines += [f"  {', '.join(others)}"] if others else []
    lines += wrapped(pace(snapshot), style, "  ") if snapshot.left.runs else []
    return [*lines, *wrapped(f"{snapshot.queue.note}; results in {snapshot.results}", style, "  ")]


def pace(snapshot: Snapshot) -> str:
    """Return a sentence about the time that is left."""
    left = snapshot.left
    measured = left.runs - left.unknown
    if not measured:
        return f"left: {left.runs} runs; none of their names is done yet, so no time can be told"
    at_work = max(1, snapshot.counts()[RUNNING])
    text = f"left: about {span(left.seconds)} on one device at the pace of finished runs"
    if at_work > 1:
        text += f", {span(left.seconds / at_work)} with {at_work} at a time as now"
    if left.unknown:
        text += f"; {left.unknown} of {left.runs} runs not counted, none of their name is done"
    return text


# ------------------------------------------------------------------------------------------ data


def _data(snapshot: Snapshot, style: Style, limit: int) -> list[str]:
    """Return a line a data set, then what is not in order."""
    datasets = tuple(dict.fromkeys(item.dataset for item in snapshot.data))
    width = max(map(len, datasets), default=0)
    lines = ["data"]
    for dataset in datasets:
        items = [item for item in snapshot.data if item.dataset == dataset]
        lines.append(f"  {dataset:<{width}}  {_data_line(items, style)}")
    odd = [item for item in snapshot.data if item.state in (FAILED, LOST, STALE)]
    for item in odd[:limit]:
        title = f"{_action(item)} {item.name}"
        lines += _trouble(title, None, item, style)
    return lines + _more(odd, limit)


def _action(item: Item) -> str:
    """Return what is done for an item, as a noun."""
    return {"download": "download of", "prepare": "preparing", "stats": "statistics of"}[item.kind]


def _data_line(items: Sequence[Item], style: Style) -> str:
    """Return the states of a data set's items in words."""
    parts = []
    for item in items:
        if item.kind in ("download", "prepare"):
            done = {"download": "downloaded", "prepare": "prepared"}[item.kind]
            noun = {"download": "download", "prepare": "preparing"}[item.kind]
            word = done if item.state == DONE else f"{noun}: {_state(item)}"
            parts.append(style.paint(item.state, word) if item.state != DONE else word)
    statistics = [item for item in items if item.kind == "stats"]
    counts = Counter(item.state for item in statistics)
    if statistics:
        words = [f"{counts[state]} {state}" for state in STATES[1:] if counts[state]]
        own = [item for item in statistics if item.state == WAITING and item.cause]
        if len(own) == counts[WAITING] == len(statistics):
            words = ["not there; no run needs them"]
        tail = f" ({', '.join(words)})" if words else ""
        parts.append(f"statistics {counts[DONE]}/{len(statistics)}{tail}")
    return ", ".join(parts)


def _state(item: Item) -> str:
    """Return an item's state with what is known of it."""
    if item.state == WAITING:
        return item.cause or WAITING
    if item.state == RUNNING:
        return f"running ({item.cause})" if item.cause else RUNNING
    return f"queued ({item.reason}, job {item.slurm})" if item.state == QUEUED else item.state


# ----------------------------------------------------------------------------------------- table


def _table(runs: Sequence[Seen], style: Style, limit: int) -> list[str]:
    """Return a row for each run's name, folds and seeds counted together, by data set."""
    groups: dict[str, dict[str, list[Seen]]] = {}
    for seen in runs:
        groups.setdefault(seen.job.dataset, {}).setdefault(seen.job.run, []).append(seen)
    states = [state for state in STATES if any(seen.state == state for seen in runs)]
    columns = [DONE, *(state for state in states if state != DONE)]
    names = max((len(name) for rows in groups.values() for name in rows), default=0)
    widths = [max(8, len(state) + 2) for state in columns]
    room = min(names, style.width - 4 - sum(widths))
    lines: list[str] = []
    shown = sum(len(rows) for rows in groups.values()) <= limit
    for dataset, rows in groups.items():
        jobs = [seen.job for group in rows.values() for seen in group]
        head = f"{dataset}  {shape(jobs)}"
        cells = "".join(f"{state:>{width}}" for state, width in zip(columns, widths, strict=True))
        lines += (
            ["", f"{head:<{room + 2}}{cells}"]
            if len(head) <= room + 2
            else ["", head, " " * (room + 2) + cells]
        )
        chosen = rows if shown else _chosen(rows, limit, max(FEWEST, limit // len(groups)))
        for name, group in chosen.items():
            lines += _row(name, group, columns, widths, room, style)
        lines += _folded([group for name, group in rows.items() if name not in chosen])
    return lines[1:]


def _chosen(rows: Mapping[str, list[Seen]], most: int, fill: int) -> dict[str, list[Seen]]:
    """Return the rows in which something moves, at most `most`; up to `fill` the first others."""
    moving = [name for name, group in rows.items() if _moving(group)][:most]
    begun = [name for name, group in rows.items() if len({seen.state for seen in group}) > 1]
    kept = list(dict.fromkeys([*moving, *begun, *rows]))[: max(fill, len(moving))]
    return {name: group for name, group in rows.items() if name in kept}


def _moving(group: Sequence[Seen]) -> bool:
    """Tell whether a row says more than how many are done and how many wait."""
    return not {seen.state for seen in group} <= {DONE, WAITING}


def _folded(groups: Sequence[Sequence[Seen]]) -> list[str]:
    """Return one line for rows that were left out."""
    if not groups:
        return []
    counts = Counter(seen.state for group in groups for seen in group)
    words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return [f"  and {len(groups)} other names: {', '.join(words)} (--all shows them)"]


def _row(
    name: str,
    group: Sequence[Seen],
    columns: Sequence[str],
    widths: Sequence[int],
    room: int,
    style: Style,
) -> list[str]:
    """Return a run's counts; a name that is too long has a line of its own."""
    counts = Counter(seen.state for seen in group)
    cells = []
    for state, width in zip(columns, widths, strict=True):
        count = counts[state]
        text = f"{count}/{len(group)}" if state == DONE else (str(count) if count else "")
        cells.append(style.paint(state, f"{text:>{width}}") if count else f"{text:>{width}}")
    numbers = "".join(cells).rstrip() if not style.colour else "".join(cells)
    if len(name) > room:
        return [f"  {name}", " " * (room + 2) + numbers]
    return [f"  {name:<{room}}{numbers}"]


def shape(jobs: Iterable[Job]) -> str:
    """Return the folds and seeds of jobs: "folds 1-5 x seeds 0-2"."""
    found = list(jobs)
    folds = ranges(job.fold for job in found)
    seeds = ranges(job.seed for job in found)
    seed = f"seed{'s' if ',' in seeds or '-' in seeds else ''} {seeds}"
    return seed if folds == "0" else f"fold{'s' if folds != folds[:1] else ''} {folds} x {seed}"


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges: "1-3,5"."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


# --------------------------------------------------------------------------------------- details


def _section(
    state: str,
    runs: Sequence[Seen],
    style: Style,
    limit: int,
    line: Callable[[Seen], str] | None = None,
) -> list[str]:
    """Return the details of all runs in a state, at most `limit` of them."""
    chosen = [seen for seen in runs if seen.state == state]
    if not chosen:
        return []
    lines = [style.paint(state, WORDS.get(state, state))]
    shown = chosen[:limit]
    if line is None:
        for seen in shown:
            lines += _trouble(label(seen.job), seen, seen, style)
    else:
        lines += _aligned([(label(seen.job), line(seen)) for seen in shown], style)
    return lines + _more(chosen, limit)


def _more(items: Sequence[object], limit: int) -> list[str]:
    """Return a line for what was left out."""
    return [f"  and {len(items) - limit} more (--all shows them)"] if len(items) > limit else []


def _aligned(pairs: Sequence[tuple[str, str]], style: Style) -> list[str]:
    """Return labels and details in two columns where they fit, else below each other."""
    width = max(len(name) for name, _ in pairs)
    if all(4 + width + len(text) <= style.width for _, text in pairs):
        return [f"  {name:<{width}}  {text}".rstrip() for name, text in pairs]
    return [line for name, text in pairs for line in (f"  {name}", *wrapped(text, style, "    "))]


def running(seen: Seen) -> str:
    """Return what is known of a run at work."""
    parts = [seen.cause] if seen.cause else []
    if seen.epoch is not None:
        parts.append(f"epoch {seen.epoch}/{seen.epochs if seen.epochs is not None else '?'}")
    elif seen.stage == "evaluate":
        parts.append("scoring")
    parts += (
        [f"{seen.speed:.3g} clips/s" if seen.speed < 1000 else f"{seen.speed:.0f} clips/s"]
        if seen.speed is not None
        else []
    )
    parts += [f"{span(seen.left)} left"] if seen.left is not None else []
    parts += [f"last sign {span(seen.heartbeat)} ago"] if seen.heartbeat is not None else []
    parts += [_place(seen)] if _place(seen) else []
    parts += [f"attempt {seen.attempt}"] if seen.attempt and seen.attempt > 1 else []
    if seen.skew is not None and abs(seen.skew) > SKEW:
        side = "ahead" if seen.skew > 0 else "behind"
        parts.append(f"its clock is {span(abs(seen.skew))} {side}")
    return ", ".join(parts)


def queued(seen: Seen) -> str:
    """Return why a run waits in the queue."""
    reason = (seen.reason or "").split(",")[0].strip("() ")
    told = f"{reason}: {REASONS[reason]}" if reason in REASONS else (seen.reason or "no reason")
    return ", ".join(part for part in (f"job {seen.slurm}", told, seen.cause) if part)


def _place(seen: Seen) -> str:
    """Return where a run is at work."""
    job = f"job {seen.slurm}" if seen.slurm else ""
    return " ".join(
        part for part in (seen.host or "", f"({job})" if job and seen.host else job) if part
    )


def _trouble(title: str, seen: Seen | None, found: Seen | Item, style: Style) -> list[str]:
    """Return what is wrong with a run or with data, its log, and what to do."""
    kind = f"{seen.kind}: " if seen and seen.kind else ""
    more = [f"attempt {seen.attempt}"] if seen and seen.attempt else []
    more += [_place(seen)] if seen and _place(seen) else []
    if found.state == LOST and found.heartbeat is not None:
        more.append(f"last sign of life {span(found.heartbeat)} ago")
    whole = f"  {title}  ({', '.join(more)})"
    lines = [whole] if more and len(whole) <= style.width else [f"  {title}"]
    lines += wrapped(", ".join(more), style, "    ") if more and lines != [whole] else []
    lines += wrapped(f"{kind}{found.cause}", style, "    ") if found.cause else []
    lines += [f"    log    {found.log}"] if found.log else []
    return lines + (wrapped(f"to do  {found.advice}", style, "    ") if found.advice else [])


def _notes(runs: Sequence[Seen], style: Style) -> list[str]:
    """Return one line for each cause of runs that are stale, or wait after a beginning."""
    causes = Counter((s.state, s.cause) for s in runs if s.state in (STALE, WAITING) and s.cause)
    lines = [
        line
        for (state, cause), count in causes.most_common(MOST)
        for line in wrapped(f"{count} {state}: {cause}", style, "  ")
    ]
    return ["notes", *lines] if lines else []


def label(job: Job) -> str:
    """Return a run's name with data set, fold and seed."""
    fold = f" fold {job.fold}" if job.fold else ""
    return f"{job.dataset} {job.run}{fold} seed {job.seed}"


def wrapped(text: str, style: Style, indent: str) -> list[str]:
    """Return a text as lines that fit; paths and names are not broken."""
    return textwrap.wrap(
        text, style.width, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def span(seconds: float) -> str:
    """Return a time in words: "4 s", "12 min", "3.4 h", "2.1 days"."""
    if seconds < 99.5:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


# --------------------------------------------------------------------------------------- changes


def changes(before: Snapshot, now: Snapshot) -> Iterator[str]:
    """Yield a line for each run and each piece of data whose state or cause is another one."""
    known: dict[tuple[str, ...], Item] = {(i.kind, i.name): i for i in before.data}
    for item in now.data:
        was = known.get((item.kind, item.name))
        if was is None or was.state != item.state:
            yield f"{_action(item)} {item.name}: {_change(was, item)}"
    past = {seen.job: seen for seen in before.runs}
    moved = [s for s in now.runs if _differs(past.get(s.job), s)]
    for seen in moved:
        yield f"{label(seen.job)}: {_change(past.get(seen.job), seen)}"
    if moved:
        counts = [f"{count} {state}" for state, count in now.counts().items() if count]
        yield f"of {len(now.runs)} runs {', '.join(counts)}"
    if before.queue.asked != now.queue.asked:
        yield now.queue.note


def _differs(was: Seen | None, now: Seen) -> bool:
    """Tell whether a run's state has changed in a way that a log should keep."""
    if was is None or was.state != now.state:
        return True
    return now.state in (FAILED, STALE) and was.cause != now.cause


def _change(was: Seen | Item | None, now: Seen | Item) -> str:
    """Return a change of state in words."""
    kind = f"{now.kind}: " if isinstance(now, Seen) and now.kind and now.state == FAILED else ""
    cause = "" if now.state == RUNNING else now.cause
    parts = [f"{was.state if was else 'new'} -> {now.state}", f"{kind}{cause}"]
    if now.state == FAILED and now.log:
        parts.append(f"log {now.log}")
    return ", ".join(part for part in parts if part)
