"""Figures of probes: a panel for each student model, a line for each of its teachers."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from cmkd.plan import names
from cmkd.plan.suites import Suite
from cmkd.reports import style
from cmkd.reports.columns import METRICS

Probes = Mapping[str, Sequence[Mapping[str, Any]]]
Line = tuple[list[float], list[float]]
PANEL, GAP, LEFT, TOP, BOTTOM, LEGEND = 2.55, 0.55, 0.85, 1.0, 0.65, 2.3  # inches
CELL = 0.34  # inches, of a table of classes


def draw(suite: Suite, dataset: str, probes: Probes, gains: pd.DataFrame) -> dict[str, Figure]:
    """Return the figures of one dataset by kind; those without anything to show are left out.

    shifts, noise, level, calibration, freshness, layers (only of taught runs), classes (gain over
    the student alone by class).
    """
    metric = METRICS.get(str(suite.dataset(dataset)["metric"]), "quality")
    notes = f"{dataset} · suite {suite.name} · means over folds and seeds, no intervals"
    figures = {
        "shifts": _lines(probes, _shifts, "Same decision after a time shift", notes,
                         ("shift, ms (0 at the left end)", "decisions that stay, %")),
        "noise": _lines(probes, _noise, "Quality in white noise", notes,
                        ("signal to noise, dB", f"{metric}, %")),
        "level": _lines(probes, _level, "Quality at another level", notes,
                        ("gain, dB", f"{metric}, %")),
        "calibration": _lines(probes, _reliability, "Calibration", notes,
                              ("confidence, %", "right, %"), diagonal=True),
        "freshness": _bars(probes, notes),
    }  # fmt: skip
    taught = {run: found for run, found in probes.items() if "cka" in found[0]}
    if taught:
        figures["layers"] = _layers(taught, notes)
    if len(gains):
        figures["classes"] = _classes(gains, notes)
    return figures


def _shifts(found: Sequence[Mapping[str, Any]]) -> Line:
    """Return milliseconds and the share of decisions that stay."""
    return _averaged(found, "shifts", "ms", "agreement")


def _noise(found: Sequence[Mapping[str, Any]]) -> Line:
    """Return decibels and the metric."""
    return _averaged(found, "noise", "snr_db", "value")


def _level(found: Sequence[Mapping[str, Any]]) -> Line:
    """Return decibels and the metric; 0 dB is the clip as it is."""
    x, y = _averaged(found, "level", "gain_db", "value")
    points = sorted([*zip(x, y, strict=True), (0.0, 100 * fmean(p["value"] or 0.0 for p in found))])
    return [a for a, _ in points], [b for _, b in points]


def _averaged(found: Sequence[Mapping[str, Any]], part: str, key: str, value: str) -> Line:
    """Return a probe's list as x and mean y in percent."""
    rows = [row for row in found[0][part] if row[value] is not None]
    places = [found[0][part].index(row) for row in rows]
    known = [[p[part][n][value] for p in found if p[part][n][value] is not None] for n in places]
    return [float(row[key]) for row in rows], [100 * fmean(values) for values in known]


def _reliability(found: Sequence[Mapping[str, Any]]) -> Line:
    """Return confidence and share right, in percent, of bins weighted by their share."""
    bins: dict[int, list[Mapping[str, float]]] = {}
    for one in (b for probe in found for b in probe["calibration"]["bins"]):
        bins.setdefault(int(one["confidence"] * 10), []).append(one)
    weight = {place: sum(b["share"] for b in of) for place, of in sorted(bins.items())}
    x, y = (
        [100 * sum(b[key] * b["share"] for b in bins[place]) / weight[place] for place in weight]
        for key in ("confidence", "right")
    )
    return x, y


def _students(runs: Sequence[str]) -> dict[str, list[str]]:
    """Return the runs of each student model, alone first."""
    found: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda name: (name.count("@"), name)):
        found.setdefault(names.parse(run).model, []).append(run)
    return found


def _colours(runs: Sequence[str]) -> dict[str, str]:
    """Return a colour for each teacher, so that it is the same in every panel."""
    teachers = sorted({_label(run) for run in runs} - {"alone"})
    shades = {name: style.PALETTE[n % len(style.PALETTE)] for n, name in enumerate(teachers)}
    return {"alone": style.INK, **shades}


def _label(run: str) -> str:
    """Return what a line is called: alone, or variants and teacher."""
    parsed = names.parse(run)
    variants = "".join(f"+{word}" for word in parsed.variants)
    return f"{variants}@{parsed.teacher}" if parsed.teacher else f"alone{variants}"


def _frame(panels: int, height: float, title: str, notes: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, a title above and room for a legend."""
    width = LEFT + panels * (PANEL + GAP) + LEGEND
    whole = height + TOP + BOTTOM
    figure = style.new(width, whole)
    axes = []
    for number in range(panels):
        left = (LEFT + number * (PANEL + GAP)) / width
        axes.append(figure.add_axes((left, BOTTOM / whole, PANEL / width, height / whole)))
    figure.text(0.18 / width, 1 - 0.14 / whole, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.18 / width, 1 - 0.44 / whole, notes, fontsize=9, color=style.FAINT, va="top")
    return figure, axes


def _lines(
    probes: Probes,
    read: Callable[[Sequence[Mapping[str, Any]]], Line],
    title: str,
    notes: str,
    axis: tuple[str, str],
    diagonal: bool = False,
) -> Figure:
    """Draw a panel for each student model and a line for each of its runs."""
    students, colours = _students(list(probes)), _colours(list(probes))
    figure, panels = _frame(len(students), PANEL, title, notes)
    handles: dict[str, Any] = {}
    ends = [value for found in probes.values() for value in read(found)[1]]
    for axes, (student, runs) in zip(panels, students.items(), strict=True):
        for run in runs:
            label, (x, y) = _label(run), read(probes[run])
            (handles[label],) = axes.plot(
                *(x, y), linewidth=2 if label == "alone" else 1.2, marker="o", markersize=3,
                color=colours.get(label, style.FAINT),
            )  # fmt: skip
        if diagonal:
            axes.plot([0, 100], [0, 100], color=style.FAINT, linewidth=0.8, linestyle=(0, (3, 2)))
        elif "ms" in axis[0]:
            axes.set_xscale("symlog", linthresh=5)
            axes.set_xticks([5, 20, 100, 500], ["5", "20", "100", "500"])
            axes.minorticks_off()
        low = 0.0 if diagonal else max(0.0, min(ends) - 3)
        axes.set(title=student, xlabel=axis[0], ylim=(low, min(max(ends) + 2, 101)))
        _tidy(axes)
    panels[0].set_ylabel(axis[1])
    order = sorted(handles, key=lambda name: (name != "alone", name))
    _legend(panels[-1], [handles[name] for name in order], order)
    return figure


def _legend(axes: Axes, handles: Sequence[Any], texts: Sequence[str]) -> None:
    """Name the lines, right of the last panel."""
    legend = axes.legend(handles, texts, loc="upper left", bbox_to_anchor=(1.04, 1.0), fontsize=8,
                         frameon=False, title="taught by", title_fontsize=8)  # fmt: skip
    legend.get_title().set_color(style.FAINT)


def _tidy(axes: Axes) -> None:
    """Take away what carries nothing."""
    axes.grid(color=style.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _bars(probes: Probes, notes: str) -> Figure:
    """Draw each run's loss on seen and on fresh views, as two dots joined by a line."""
    runs = [run for of in _students(list(probes)).values() for run in of][::-1]
    height = max(0.26 * len(runs), 1.2)
    longest = max(map(len, runs))
    figure, (axes,) = _frame(1, height, "Loss on views it was trained on, and on fresh ones", notes)
    width = figure.get_size_inches()[0] + 1.6
    whole = height + TOP + BOTTOM
    figure.set_size_inches(width, whole)
    left = 0.4 + 0.078 * longest
    axes.set_position((left / width, BOTTOM / whole, (width - left - 1.3) / width, height / whole))
    for y, run in enumerate(runs):
        seen, fresh = (fmean(p["freshness"][key] for p in probes[run]) for key in ("seen", "fresh"))
        axes.plot([seen, fresh], [y, y], color=style.FAINT, linewidth=1.0, zorder=1)
        for value, colour, label in (
            (seen, style.PALETTE[0], "seen"),
            (fresh, style.PALETTE[1], "fresh"),
        ):
            axes.scatter([value], [y], s=22, color=colour, zorder=2, label=label if not y else None)
    axes.set_yticks(range(len(runs)), runs)
    axes.set(xlabel="hard loss, labels not smoothed", ylim=(-0.7, len(runs) - 0.3))
    _tidy(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)
    return figure


def _layers(taught: Probes, notes: str) -> Figure:
    """Draw linear CKA of a student's layers (up) and its teacher's (across), a panel a run."""
    runs = [run for of in _students(list(taught)).values() for run in of]
    columns = min(len(runs), 4)
    rows = -(-len(runs) // columns)
    size, gap = 1.55, 0.75
    width, height = 0.75 + columns * (size + gap) + 0.6, rows * (size + gap) + TOP + 0.25
    figure = style.new(max(width, 5.2), height)
    width = float(figure.get_size_inches()[0])
    norm, shades = Normalize(0, 1), matplotlib.colormaps["viridis"]
    for number, run in enumerate(runs):
        across, down = number % columns, number // columns
        bottom = height - TOP - 0.1 - (down + 1) * (size + gap) + gap
        place = (0.75 + across * (size + gap), bottom)
        axes = figure.add_axes((place[0] / width, place[1] / height, size / width, size / height))
        axes.imshow(_table(taught[run]), norm=norm, cmap=shades, origin="lower", aspect="auto")
        axes.set_title(run, fontsize=8)
        axes.tick_params(labelsize=7, length=2)
        axes.set_xlabel("teacher's layer", fontsize=7, labelpad=1)
        axes.set_ylabel("student's layer", fontsize=7, labelpad=1)
    bar = figure.add_axes(((width - 0.55) / width, 0.5 / height, 0.12 / width, 1.3 / height))
    figure.colorbar(matplotlib.cm.ScalarMappable(norm, shades), cax=bar).ax.tick_params(labelsize=7)
    _head(figure, "Similarity of layers to the teacher's (linear CKA)", notes)
    return figure


def _table(found: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return the mean CKA table of a run's probes."""
    tables = [probe["cka"]["values"] for probe in found]
    return [
        [fmean(t[i][j] or 0.0 for t in tables) for j in range(len(tables[0][0]))]
        for i in range(len(tables[0]))
    ]


def _head(figure: Figure, title: str, notes: str) -> None:
    """Write the title and what is shown."""
    width, height = figure.get_size_inches()
    figure.text(0.18 / width, 1 - 0.14 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.18 / width, 1 - 0.44 / height, notes, fontsize=9, color=style.FAINT, va="top")


def _classes(gains: pd.DataFrame, notes: str) -> Figure:
    """Draw the gain over the student alone by class: a row a run, a column a class."""
    classes = list(dict.fromkeys(gains["class"]))
    runs = list(dict.fromkeys(gains["run"]))[::-1]
    named = len(classes) <= 60
    cell = CELL if named else CELL / 3
    left = 0.4 + 0.078 * max(map(len, runs))
    below = 0.25 + (0.078 * max(map(len, classes)) if named else 0.3)
    body = (cell * len(classes), CELL * len(runs))
    width, height = max(left + body[0] + 1.2, 6.5), body[1] + TOP + below
    figure = style.new(width, height)
    axes = figure.add_axes((left / width, below / height, body[0] / width, body[1] / height))
    values = {(r, c): g for r, c, g in gains[["run", "class", "gain"]].itertuples(index=False)}
    cells = [[100 * values.get((r, c), 0.0) for c in classes] for r in runs]
    largest = max(max(abs(value) for line in cells for value in line), 1.0)
    norm, shades = TwoSlopeNorm(0.0, -largest, largest), matplotlib.colormaps["PRGn"]
    axes.imshow(cells, norm=norm, cmap=shades, origin="lower", aspect="auto")
    axes.set_yticks(range(len(runs)), runs, fontsize=8)
    axes.set_xticks(range(len(classes)) if named else [], classes if named else [], fontsize=8,
                    rotation=90)  # fmt: skip
    axes.tick_params(length=0)
    bar = figure.add_axes(((left + body[0] + 0.2) / width, below / height, 0.12 / width,
                           body[1] / height))  # fmt: skip
    figure.colorbar(matplotlib.cm.ScalarMappable(norm, shades), cax=bar).ax.tick_params(labelsize=7)
    _head(figure, "Gain over the student alone by class, points", notes)
    return figure
