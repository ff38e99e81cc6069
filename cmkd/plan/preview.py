"""The text of `cmkd plan`: a table by run, then what it comes to and what that rests on."""

from collections.abc import Iterator, Sequence

from cmkd.plan import budget, costs, reruns
from cmkd.plan.forecast import Forecast, Row, is_estimate, makespan, places, together
from cmkd.plan.pricing import ALIKE, BASES, CALIBRATED, ESTIMATED, MEASURED, UNKNOWN
from cmkd.plan.reruns import DONE, SCORE

HEADS = ("run", "trainings", "each", "hours", "rests on", "what becomes of them")
RIGHT = (1, 2, 3)
WORDS = {
    MEASURED: "finished runs of the same name",
    ALIKE: "finished runs of the same work",
    CALIBRATED: "a calibration on the device",
    ESTIMATED: "arithmetic: nothing was measured",
    UNKNOWN: "nothing",
}


def render(found: Sequence[Forecast], at_once: int | None = None) -> str:
    """Return the whole text for one suite or several."""
    parts = ["\n".join(_suite(one)) for one in found]
    parts.append("\n".join(_sums(found, at_once)))
    return "\n\n".join(parts)


def _suite(one: Forecast) -> Iterator[str]:
    """Yield a suite's heading and its table."""
    suite = one.suite
    runs = len({(job.dataset, job.run) for job in suite.jobs()})
    datasets = ", ".join(dict.fromkeys(job.dataset for job in suite.jobs()))
    yield f"{suite.name}: {len(suite.jobs())} trainings of {runs} runs on {datasets}"
    for name, count in one.shared.items():
        yield f"  {count} of them are counted with {name}"
    several = len({row.dataset for row in one.rows}) > 1
    yield from _table([_cells(one, row, several) for row in one.rows])


def _cells(one: Forecast, row: Row, several: bool) -> tuple[str, ...]:
    """Return the cells of a row."""
    name = f"{row.dataset}/{row.run}" if several else row.run
    if row.fate.what == DONE:
        return name, str(row.trainings), "", "", "", row.fate.why
    basis = row.price.basis
    each = "" if basis == UNKNOWN else duration(row.seconds / row.trainings)
    hours = "" if basis == UNKNOWN else _number(row.seconds / 3600 * max(one.threads, 1))
    rests = f"{basis}: {row.price.source}" if basis == ALIKE else basis
    return name, str(row.trainings), each, hours, rests, _becomes(row)


def _becomes(row: Row) -> str:
    """Return what becomes of a row's trainings."""
    if row.fate.what == SCORE:
        return f"would be scored: {row.fate.why}"
    new = row.fate.why == reruns.NEW
    return "would run: new" if new else f"would run again: {row.fate.why}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield aligned lines, indented; numbers to the right."""
    grid = [HEADS, *rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(HEADS))]
    for row in grid:
        cells = (
            cell.rjust(width) if i in RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()


# ---------------------------------------------------------------------------------- what it sums to


def _sums(found: Sequence[Forecast], at_once: int | None) -> Iterator[str]:
    """Yield the lines under the tables."""
    pending = sum(len(one.pending) for one in found)
    if not pending and not reruns.joined(one.jobs for one in found).counts():
        yield "nothing to run: everything is done and up to date"
        return
    trainings = sum(fate.what == reruns.TRAIN for one in found for fate in one.pending.values())
    counted = sum(len(one.own) for one in found)
    yield f"would run   {trainings} of {counted} trainings{_again(found)}"
    yield f"jobs        {_jobs(found)}"
    if pending:
        yield from _hours(found)
        yield from _wall(found, at_once)
        yield from _disk(found)
    yield from _budget(found)


def _again(found: Sequence[Forecast]) -> str:
    """Return how many of the trainings were made before, "" where none was."""
    again = sum(
        fate.what == reruns.TRAIN and fate.why != reruns.NEW
        for one in found
        for fate in one.pending.values()
    )
    return f", {again} of them again" if again else ""


def _jobs(found: Sequence[Forecast]) -> str:
    """Return the jobs by rule."""
    counts = reruns.joined(one.jobs for one in found).counts()
    words = [f"{rule} {count}" for rule, count in counts.items()]
    return f"{sum(counts.values())}: {', '.join(words)}"


def _hours(found: Sequence[Forecast]) -> Iterator[str]:
    """Yield device hours, a line for each thing that they rest on."""
    word = "hours       "
    for basis in BASES:
        parts = [(one, *one.seconds_by_basis()[basis]) for one in found
                 if basis in one.seconds_by_basis()]  # fmt: skip
        if not parts:
            continue
        count = sum(number for _, number, _ in parts)
        yield f"{word}{_amount(basis, parts)}: {_runs(count)}, {WORDS[basis]}"
        word = " " * len(word)
    if any(is_estimate(basis) for one in found for basis in one.seconds_by_basis()):
        yield f"{' ' * 12}`cmkd plan SUITE --calibrate` on the device measures a little instead"


def _runs(count: int) -> str:
    """Return a count of runs."""
    return f"{count} run" if count == 1 else f"{count} runs"


def _amount(basis: str, parts: Sequence[tuple[Forecast, int, float]]) -> str:
    """Return the hours of one basis, with their unit and device."""
    if basis == UNKNOWN:
        words = dict.fromkeys(
            word for one, _, _ in parts
            for word in costs.estimate(one.suite, one.pending).unknown
        )  # fmt: skip
        return f"no estimate, the size of {', '.join(words)} is not in the catalogue"
    seconds = sum(part for _, _, part in parts)
    if basis == ESTIMATED:
        return f"{costs.hours(seconds / 3600)} on one H100-class GPU in float32"
    first = parts[0][0]
    if first.threads:
        return f"{_number(seconds / 3600 * first.threads)} CPU-core-hours on {first.prices.device}"
    return f"{_number(seconds / 3600)} GPU-hours on {first.prices.device}"


def _wall(found: Sequence[Forecast], at_once: int | None) -> Iterator[str]:
    """Yield the wall time, where everything has a price."""
    if not all(one.whole for one in found):
        return
    bases = {is_estimate(basis) for one in found for basis in one.seconds_by_basis()}
    if len(bases) > 1:
        yield "wall time   not given: part of the hours is of another device, by arithmetic"
        return
    count = at_once or max(places(one) for one in found)
    seconds = makespan(together(found), count)
    jobs = "1 job" if count == 1 else f"{count} jobs"
    yield f"wall time   about {duration(seconds)} at {jobs} at once, once the clips are prepared"


def _disk(found: Sequence[Forecast]) -> Iterator[str]:
    """Yield what the disk must hold more than now."""
    clips = {path: size for one in found for path, size in one.prepared_bytes().items()}
    prepared, runs = sum(clips.values()), sum(one.run_bytes() for one in found)
    passing = max(costs.estimate(one.suite, one.pending).passing for one in found)
    yield (
        f"disk        {costs.size(prepared + runs)} more: {costs.size(prepared)} of prepared "
        f"clips, {costs.size(runs)} of run folders; a training at work {costs.size(passing)} more"
    )


def _budget(found: Sequence[Forecast]) -> Iterator[str]:
    """Yield what is left of each suite's budget."""
    for one in found:
        limit = one.suite.execution.get("budget_gpu_hours")
        if limit is None:
            continue
        spent = budget.spent(one.suite)
        yield (
            f"budget      {one.suite.name}: {spent:.3g} of {limit:g} hours are spent; "
            f"{max(limit - spent, 0):.3g} are left"
        )


def _number(hours: float) -> str:
    """Return hours with two places, small ones with two digits."""
    return f"{hours:.2f}" if hours >= 0.1 else f"{hours:.2g}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: "8 s", "4 min", "2 h 10 min", "3 d 4 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"
