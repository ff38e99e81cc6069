"""The leaderboard on a terminal: plain text, at most 110 columns wide."""

import textwrap

import pandas as pd

from cmkd.reports import columns, wording

WIDTH = 110
SHORTEST_NAME = 12
HEADS = ("rank", "run", "{metric}, %", "gain over alone", "gain over teacher", "runs", "hours")
LEFT = ("run",)


def render_terminal(table: pd.DataFrame) -> str:
    """Return the leaderboard as text: values in percent, gains in points, 95 % intervals."""
    if table.empty:
        return "The suite has no runs.\n"
    sections = [
        _section(table[table["dataset"] == dataset], dataset)
        for dataset in dict.fromkeys(table["dataset"])
    ]
    return "\n\n".join(sections)


def _section(rows: pd.DataFrame, dataset: str) -> str:
    """Return one dataset's title, table and remarks."""
    labels = [label for label in wording.LABELS if label in set(rows["label"])]
    done, planned = wording.run_counts(rows)
    title = f"{dataset}: {done} of {planned} runs done"
    lines = [title, "", *_table(rows), ""]
    for label in labels:
        if label != "not run":
            lines += _wrapped(f"[{label}] intervals are {wording.LABELS[label]}")
    for sentence in [*wording.marks(rows), *([wording.CUT] if columns.is_cut(rows) else [])]:
        lines += _wrapped(sentence)
    for note, runs in wording.remarks(rows).items():
        lines += _wrapped(f"{', '.join(runs)}: {note}")
    lines += _wrapped("hours: of all done runs, each with its share of its teacher's")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    """Return a remark as lines that fit."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(rows: pd.DataFrame) -> list[str]:
    """Return the lines of one dataset's table, empty columns left out."""
    metric = columns.METRICS.get(next(iter(rows["metric"]), ""), "value")
    heads = [head.format(metric=metric) for head in HEADS]
    lines = [
        _cells(row, headline)
        for (_, row), headline in zip(rows.iterrows(), wording.leaders(rows), strict=True)
    ]
    used = [i for i in range(len(heads)) if any(line[i] for line in lines)]
    grid = [[line[i] for i in used] for line in [heads, *lines]]
    left = [heads[i] in LEFT for i in used]
    _fit(grid, left.index(True))
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "  ".join(_pad(*cell) for cell in zip(line, widths, left, strict=True)).rstrip()
        for line in [grid[0], rule, *grid[1:]]
    ]


def _fit(grid: list[list[str]], names: int) -> None:
    """Shorten the column of names until every line fits."""
    widths = [max(map(len, column)) + 2 for column in zip(*grid, strict=True)]
    room = WIDTH + 2 - sum(widths) + widths[names] - 2
    for line in grid:
        line[names] = _short(line[names], max(room, SHORTEST_NAME))


def _pad(text: str, width: int, left: bool) -> str:
    """Return a cell at its column's width."""
    return text.ljust(width) if left else text.rjust(width)


def _cells(row: pd.Series, headline: bool) -> list[str]:
    """Return a row's texts, in the order of HEADS."""
    return [
        columns.rank(row["rank_low"], row["rank_high"]),
        wording.title(row, headline),
        columns.with_interval(row["value"], row["low"], row["high"]) or "–",
        wording.gain(row, "gain_alone"),
        wording.gain(row, "gain_teacher"),
        f"{row['done']}/{row['planned']}",
        columns.hours(row["gpu_hours_total"]),
    ]


def _short(name: str, room: int) -> str:
    """Return a name that is too long without its middle."""
    if len(name) <= room:
        return name
    head = (room - 1) // 2
    return f"{name[:head]}…{name[head + 1 - room :]}"
