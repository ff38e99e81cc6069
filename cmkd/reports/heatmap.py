"""Heat map: the gain of each student with each teacher over the student alone."""

import math
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cmkd.reports import style
from cmkd.reports.columns import METRICS, headlines, known, points

CELL_WIDTH, CELL_HEIGHT, GAP = 1.18, 0.78, 0.12
LETTER = 0.086  # inches, a name's mean letter
DARK = 0.22  # luminance below which white text has the higher contrast
SMALLEST_SCALE = 0.01  # colours say nothing about gains below a point


def draw(table: pd.DataFrame, dataset: str, suite: str) -> Figure:
    """Return the heat map of one dataset; cells are mean gain and half-width, in points.

    Rows are teachers, columns students, grouped by class; the diagonal is self-distillation. A
    model that teaches nobody has an empty row; a pair that is planned but has no run yet is hollow.
    """
    rows = headlines(table[(table["dataset"] == dataset) & (table["direction"] != "ensemble")])
    teachers, students = _axis(rows, "teacher"), _axis(rows, "student")
    left, right, bottom = max(LETTER * _longest(teachers) + 0.3, 1.75), 1.05, 0.85
    top = 1.05 + (0.32 * LETTER * _longest(students) if _slanted(students) else 0.0)
    width = CELL_WIDTH * max(_end(students), 2.2) + left + right
    height = CELL_HEIGHT * max(_end(teachers), 2.0) + top + bottom
    figure = style.new(width, height)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    _cells(axes, rows, teachers, students, _norm(rows))
    _labels(axes, teachers, students)
    _headings(figure, rows, dataset, suite, width, height)
    if rows["gain_alone"].notna().any():
        _colour_bar(figure, _norm(rows), box, width)
    return figure


def _axis(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """Return the position of each name on an axis, with a gap between classes.

    Both axes begin with the models that stand alone, in one order, so that the diagonal is
    self-distillation; then come variants and taught teachers.
    """
    kind = "class" if column == "student" else "teacher_class"
    alone = rows[rows["teacher"] == ""]
    classes = dict(zip(alone["run"], alone["class"], strict=True))
    named = rows[rows[column] != ""]
    classes |= {
        name: of for name, of in zip(named[column], named[kind], strict=True) if name not in classes
    }
    groups = list(dict.fromkeys(sorted(classes.values())))
    names = sorted(classes, key=lambda name: (groups.index(classes[name]), *_order(name)))
    return {name: place + GAP * groups.index(classes[name]) for place, name in enumerate(names)}


def _order(name: str) -> tuple[int, int, str]:
    """Sort plain models before variants before taught teachers."""
    return name.count("@"), name.count("+"), name


def _end(axis: dict[str, float]) -> float:
    """Return where an axis ends, in cells."""
    return max(axis.values(), default=0.0) + 1.0


def _longest(axis: dict[str, float]) -> int:
    """Return the length of the longest name."""
    return max(map(len, axis), default=0)


def _slanted(students: dict[str, float]) -> bool:
    """Tell whether the students' names are wider than their columns."""
    return LETTER * _longest(students) > CELL_WIDTH


def _norm(rows: pd.DataFrame) -> TwoSlopeNorm:
    """Return a colour scale that is symmetric about no gain.

    It reaches at least to the middle half-width, so that gains which are small against their
    intervals stay pale, however small the largest of them is.
    """
    noise = (rows["gain_alone_high"] - rows["gain_alone_low"]).median() / 2
    ends = (SMALLEST_SCALE, float(rows["gain_alone"].abs().max()), min(float(noise), 1.0))
    largest = max(end for end in ends if not math.isnan(end))
    return TwoSlopeNorm(0.0, -largest, largest)


def _colours() -> Colormap:
    """Return purple for losses, green for gains: safe for any colour vision, white in between."""
    return matplotlib.colormaps["PRGn"]


def _cells(
    axes: Axes,
    rows: pd.DataFrame,
    teachers: dict[str, float],
    students: dict[str, float],
    norm: TwoSlopeNorm,
) -> None:
    """Draw every cell of the grid."""
    taught = {(row["teacher"], row["student"]): row for _, row in rows.iterrows()}
    for teacher, y in teachers.items():
        for student, x in students.items():
            row = taught.get((teacher, student))
            if row is None:
                _box(axes, x, y, facecolor=style.EMPTY, edgecolor="none")
            elif known(row["gain_alone"]):
                _filled(axes, x, y, row, norm)
            else:
                _hollow(axes, x, y, row)
            if teacher == student:
                _box(axes, x, y, facecolor="none", edgecolor=style.INK, linewidth=1.1, inset=0.03)
    axes.set(xlim=(0, max(_end(students), 2.2)), ylim=(max(_end(teachers), 2.0), 0))
    axes.set_axis_off()


def _box(axes: Axes, x: float, y: float, inset: float = 0.02, **look: Any) -> None:
    """Draw one cell's rectangle."""
    axes.add_patch(Rectangle((x + inset, y + inset), 1 - 2 * inset, 1 - 2 * inset, **look))


def _filled(axes: Axes, x: float, y: float, row: pd.Series, norm: TwoSlopeNorm) -> None:
    """Draw a gain with its half-width; bold where the interval leaves zero out."""
    colour = _colours()(norm(row["gain_alone"]))
    _box(axes, x, y, facecolor=colour, edgecolor="none")
    ink = "white" if _luminance(colour) < DARK else style.INK
    low, high = row["gain_alone_low"], row["gain_alone_high"]
    proven = known(low) and (low > 0 or high < 0)
    weight = "bold" if proven else "normal"
    below = f"±{50 * (high - low):.1f}" if known(low) else f"{row['done']}/{row['planned']} runs"
    _text(axes, x, y + 0.38, points(row["gain_alone"]), fontsize=12, color=ink, fontweight=weight)
    _text(axes, x, y + 0.71, below, fontsize=8.5, color=ink)


def _hollow(axes: Axes, x: float, y: float, row: pd.Series) -> None:
    """Draw a planned pair without a gain, and say why."""
    look = {"facecolor": "white", "edgecolor": style.FAINT, "linestyle": (0, (3, 2))}
    _box(axes, x, y, inset=0.03, linewidth=0.8, **look)
    failed = "failed " in row["notes"]
    text = f"{row['done']}/{row['planned']} runs" if row["done"] else "not run"
    _text(axes, x, y + 0.5, "failed" if failed else text, fontsize=8.5, color=style.FAINT)


def _text(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Write in the middle of a cell."""
    axes.text(x + 0.5, y, text, ha="center", va="center", **look)


def _luminance(colour: tuple[float, float, float, float]) -> float:
    """Return the relative luminance of a colour (WCAG 2 coefficients, without gamma)."""
    red, green, blue, _ = colour
    return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)


def _labels(axes: Axes, teachers: dict[str, float], students: dict[str, float]) -> None:
    """Name rows and columns."""
    slanted = _slanted(students)
    turn = {"rotation": 20, "ha": "left"} if slanted else {"ha": "center"}
    for name, y in teachers.items():
        axes.text(-0.08, y + 0.5, name, ha="right", va="center")
    for name, x in students.items():
        axes.text(x + (0.35 if slanted else 0.5), -0.1, name, va="bottom", **turn)
    axes.annotate("teacher ↓   student →", (-0.08, -0.1), ha="right", va="bottom", fontsize=8,
                  color=style.FAINT, annotation_clip=False)  # fmt: skip


def _headings(
    figure: Figure, rows: pd.DataFrame, dataset: str, suite: str, width: float, height: float
) -> None:
    """Write the title above and the key below."""
    metric = METRICS.get(next(iter(rows["metric"]), ""), "quality")
    inch, left = 1 / height, 0.18 / width
    figure.text(left, 1 - 0.14 * inch, f"Gain over the student alone · {dataset}", fontsize=13,
                fontweight="bold", va="top")  # fmt: skip
    figure.text(left, 1 - 0.44 * inch, f"points of {metric}, mean and 95 % half-width · suite "
                f"{suite}", fontsize=9, color=style.FAINT, va="top")  # fmt: skip
    key = (
        "pale: small against the intervals · bold: the interval leaves zero out\n"
        "framed: the model teaches itself · dashed: no gain yet · grey: not in the suite"
    )
    figure.text(left, 0.16 * inch, key, fontsize=8, color=style.FAINT, va="bottom", linespacing=1.5)


def _colour_bar(
    figure: Figure, norm: TwoSlopeNorm, box: tuple[float, float, float, float], width: float
) -> None:
    """Draw the colour scale, in points, right of the cells."""
    axes = figure.add_axes((box[0] + box[2] + 0.3 / width, box[1], 0.14 / width, box[3]))
    scale = matplotlib.cm.ScalarMappable(norm=norm, cmap=_colours())
    ticks = MaxNLocator(nbins=9, steps=[1, 2, 5, 10])
    bar = figure.colorbar(scale, cax=axes, ticks=ticks, format=lambda value, _: points(value))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=8)
