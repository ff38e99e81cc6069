"""Quality against cost: every run as a point, with an arrow from the student alone to taught."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from cmkd.reports import labels, style
from cmkd.reports.columns import METRICS, headlines, is_cut, known, within

WIDTH, HEIGHT = 5.7, 4.1  # of the axes, in inches, for few points
LEFT, RIGHT, BOTTOM, TOP = 0.75, 2.6, 0.65, 0.85  # room around the axes, in inches
CROWD = 30  # from so many points on, the axes grow with their number
MOST_LABELS = 20  # with more points, only students alone and the best of each taught are named
MARKERS = {
    "alone": ("o", "nobody (alone)"),
    "cnn_to_transformer": ("^", "a CNN (transformers only)"),
    "transformer_to_cnn": ("v", "a transformer (CNNs only)"),
    "same_class": ("s", "a model of its class"),
    "self": ("D", "itself"),
    "ensemble": ("P", "(an ensemble of runs)"),
}
COSTS = {
    "hours": "device hours of one training, its share of the teacher's included",
    "minutes": "device minutes of one training, its share of the teacher's included",
    "seconds": "device seconds of one training, its share of the teacher's included",
    "gflops": "GFLOPs a clip, forward",
    "params": "parameters, in millions",
}


@dataclass(frozen=True)
class Point:
    """One run in the figure: cost, quality in percent with its interval, and how it is drawn."""

    run: str
    student: str
    teacher: str
    direction: str
    cost: float
    value: float
    low: float
    high: float

    @property
    def model(self) -> str:
        """Return the student's model without its variants."""
        return self.student.partition("+")[0]

    @property
    def label(self) -> str:
        """Return the student's name for a run alone, else its variants and its teacher."""
        if not self.teacher:
            return self.student
        return f"{self.student.removeprefix(self.model)}@{self.teacher}"


def draw(table: pd.DataFrame, dataset: str, suite: str) -> Figure:
    """Return the figure of one dataset: quality (95 % interval) over cost, on a log scale.

    The cost is the device time of one training where any was written, else GFLOPs, else parameters.
    """
    rows = headlines(table[table["dataset"] == dataset])
    kind, points = _points(rows)
    grown = min(max(len(points) / CROWD, 1.0), 4.0) ** 0.5
    size = (WIDTH * grown + LEFT + RIGHT, HEIGHT * grown + BOTTOM + TOP)
    figure = style.new(*size)
    share = (WIDTH * grown / size[0], HEIGHT * grown / size[1])
    axes = figure.add_axes((LEFT / size[0], BOTTOM / size[1], *share))
    models = list(dict.fromkeys(row.partition("+")[0] for row in sorted(rows["student"])))
    colours = {name: style.PALETTE[i % len(style.PALETTE)] for i, name in enumerate(models)}
    metric = METRICS.get(next(iter(rows["metric"]), ""), "quality")
    _frame(axes, points, f"{metric}, %", COSTS[kind])
    lines = _arrows(axes, points, colours)
    _marks(axes, points, colours)
    _names(axes, points, colours, lines)
    _legends(figure, points, colours)
    _headings(figure, rows, dataset, suite)
    return figure


def _points(rows: pd.DataFrame) -> tuple[str, list[Point]]:
    """Return the first kind of cost that is known for any row, and the points that have it."""
    scored = rows[rows["value"].notna()]
    hours = scored["gpu_hours_total"] / scored["done"].astype("float64")
    unit, factor = _unit(float(hours.max()))
    costs = {
        unit: hours * factor,
        "gflops": scored["gflops"],
        "params": scored["params"].astype("float64") / 1e6,
    }
    usable = {kind: cost.where(cost > 0) for kind, cost in costs.items()}
    kind = next((kind for kind, cost in usable.items() if cost.notna().any()), unit)
    chosen = [
        _point(row, float(cost))
        for (_, row), cost in zip(scored.iterrows(), usable[kind], strict=True)
        if known(cost)
    ]
    return kind, sorted(chosen, key=lambda point: (point.cost, point.run))


def _unit(longest: float) -> tuple[str, float]:
    """Return the unit in which times up to so many hours are read best, and how many an hour has.

    NaN (no time is known) is hours.
    """
    if longest < 1 / 60:
        return "seconds", 3600.0
    return ("minutes", 60.0) if longest < 1 else ("hours", 1.0)


def _point(row: pd.Series, cost: float) -> Point:
    """Return one row as a point; a value without an interval has low = high = value.

    The interval is drawn within what a score can be.
    """
    value = 100 * float(row["value"])
    sure = known(row["low"]) and known(row["high"])
    low, high = within(row["low"], row["high"]) if sure else (value / 100, value / 100)
    run, student, teacher, direction = row[["run", "student", "teacher", "direction"]]
    return Point(run, student, teacher, direction, cost, value, 100 * low, 100 * high)


def _frame(axes: Axes, points: list[Point], quality: str, cost: str) -> None:
    """Set scales, limits, grid and axis names."""
    axes.set(xlabel=cost, ylabel=quality, xscale="log")
    axes.grid(color=style.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    if not points:
        axes.set(xlim=(0.1, 10), ylim=(0, 100))
        axes.text(0.5, 0.5, "no run is done yet", transform=axes.transAxes, ha="center",
                  fontsize=12, color=style.FAINT)  # fmt: skip
    else:
        _limits(axes, points)
    axes.xaxis.set_major_locator(LogLocator(subs=_ticks(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _limits(axes: Axes, points: list[Point]) -> None:
    """Leave room around the points for their labels."""
    low, high = min(point.cost for point in points), max(point.cost for point in points)
    room = max((high / low) ** 0.2, 1.3)
    axes.set_xlim(low / room, high * room)
    bottom, top = min(point.low for point in points), max(point.high for point in points)
    room = max(0.07 * (top - bottom), 0.5)
    axes.set_ylim(bottom - room, top + room)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Return which multiples of powers of ten to number: fewer, the wider the axis."""
    decades = np.log10(high / low)
    if decades < 1.2:
        return (1, 1.5, 2, 3, 4, 5, 6, 8)
    return (1, 2, 5) if decades < 2.5 else (1,)


def _arrows(axes: Axes, points: list[Point], colours: dict[str, str]) -> list[Bbox]:
    """Draw an arrow from each student alone to the same student taught; return boxes along them."""
    alone = {point.student: point for point in points if not point.teacher}
    along = []
    for point in points:
        start = alone.get(point.student) or alone.get(point.model)
        if point.teacher and start is not None:
            look = {"arrowstyle": "-|>,head_width=0.16,head_length=0.32", "shrinkA": 5,
                    "shrinkB": 5, "color": colours[point.model], "alpha": 0.35,
                    "linewidth": 0.9}  # fmt: skip
            ends = [(start.cost, start.value), (point.cost, point.value)]
            axes.annotate("", ends[1], ends[0], arrowprops=look, zorder=2)
            along += _boxes(axes, ends)
    return along


def _boxes(axes: Axes, ends: list[tuple[float, float]]) -> list[Bbox]:
    """Return small boxes along a line between two points, in pixels."""
    (x0, y0), (x1, y1) = axes.transData.transform(ends)
    steps = np.linspace(0.0, 1.0, 2 + int(np.hypot(x1 - x0, y1 - y0) / 6))
    return [
        Bbox.from_bounds(x0 + t * (x1 - x0) - 1.5, y0 + t * (y1 - y0) - 1.5, 3, 3) for t in steps
    ]


def _marks(axes: Axes, points: list[Point], colours: dict[str, str]) -> None:
    """Draw the intervals and the markers; a student alone is filled, a taught one is white."""
    for point in points:
        colour = colours[point.model]
        axes.vlines(point.cost, point.low, point.high, color=colour, alpha=0.4, linewidth=1.4,
                    zorder=3)  # fmt: skip
        axes.plot(point.cost, point.value, **_marker(point.direction, colour), zorder=4)


def _marker(direction: str, colour: str) -> dict[str, Any]:
    """Return the look of a direction's marker."""
    shape = MARKERS.get(direction, ("X", direction))[0]
    face = colour if direction == "alone" else "white"
    return {"marker": shape, "markersize": 6.5, "markerfacecolor": face, "markeredgecolor": colour,
            "markeredgewidth": 1.5, "linestyle": "none"}  # fmt: skip


def _names(axes: Axes, points: list[Point], colours: dict[str, str], obstacles: list[Bbox]) -> None:
    """Write the names of runs beside their points, off lines and intervals where there is room."""
    bars = []
    for point in points:
        (x, low), (_, high) = axes.transData.transform(
            [(point.cost, point.low), (point.cost, point.high)]
        )
        bars.append(Bbox.from_extents(x - 1.5, low, x + 1.5, high))
    named = _named(points)
    labels.place(
        axes,
        [(point.cost, point.value) for point in points],
        [point.label if point in named else "" for point in points],
        [colours[point.model] for point in points],
        [*bars, *obstacles],
    )


def _named(points: list[Point]) -> list[Point]:
    """Return the points that get a name: all of few; of many, students alone and best taught."""
    if len(points) <= MOST_LABELS:
        return points
    best: dict[str, Point] = {}
    for point in sorted(points, key=lambda point: point.value):
        if point.teacher:
            best[point.model] = point
    return [point for point in points if not point.teacher or point in best.values()]


def _legends(figure: Figure, points: list[Point], colours: dict[str, str]) -> None:
    """Explain colours (students) and markers (directions) right of the axes."""
    students = [Line2D([], [], **_marker("alone", colour), label=name)
                for name, colour in colours.items()]  # fmt: skip
    present = {point.direction for point in points}
    directions = [
        Line2D([], [], **_marker(name, style.FAINT), label=text)
        for name, (_, text) in MARKERS.items()
        if name in present
    ]
    width, height = figure.get_size_inches()
    left = 1 - (RIGHT - 0.35) / width
    first = _legend(figure, students, "student", (left, 1 - TOP / height))
    if directions:
        bottom = first.get_window_extent().y0 / figure.bbox.height
        _legend(figure, directions, "taught by", (left, bottom - 0.16 / height))


def _legend(
    figure: Figure, handles: list[Line2D], title: str, corner: tuple[float, float]
) -> Legend:
    """Write one legend whose upper left corner is given, in shares of the figure."""
    bold = {"weight": "bold", "size": 9}
    return figure.legend(
        handles=handles, title=title, bbox_to_anchor=corner, loc="upper left",
        frameon=False, alignment="left", fontsize=8.5, title_fontproperties=bold, borderaxespad=0,
    )  # fmt: skip


def _headings(figure: Figure, rows: pd.DataFrame, dataset: str, suite: str) -> None:
    """Write the title."""
    width, height = figure.get_size_inches()
    left = 0.18 / width
    title = f"Quality against cost · {dataset}"
    bars = "95 % intervals" + (" (shown within 0 and 100)" if is_cut(rows) else "")
    key = f"bars: {bars} · arrows: from the student alone to taught · suite {suite}"
    figure.text(left, 1 - 0.16 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(left, 1 - 0.48 / height, key, fontsize=9, color=style.FAINT, va="top")
