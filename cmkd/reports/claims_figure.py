"""The claims as a figure: estimates with intervals, in the colours of their verdicts."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cmkd.reports import style
from cmkd.reports.claims import OVERALL, Row
from cmkd.reports.columns import known, points
from cmkd.scoring import verdicts

# Green and purple, as in the heat map: told apart by readers with any colour vision.
COLOURS = {
    verdicts.SUPPORTED: "#1b7837",
    verdicts.CONTRADICTED: "#762a83",
    verdicts.INCONCLUSIVE: "#8c959f",
}
MARKERS = {verdicts.SUPPORTED: "o", verdicts.CONTRADICTED: "X", verdicts.INCONCLUSIVE: "o"}
ROW, TOP, BOTTOM = 0.29, 1.2, 0.95  # inches
NAMES, PANEL, GAP, RIGHT = 4.9, 3.5, 0.35, 0.25
LONGEST = 70  # letters of a line of a claim beside its row
TITLE: dict[str, Any] = {"fontsize": 13, "fontweight": "bold"}
WIDEST = 25.0  # points: longer intervals are cut at the frame


def draw(rows: Sequence[Row], suite: str) -> Figure:
    """Return the figure: a line a claim, a panel a dataset.

    Claims about datasets that the suite lacks are left out, as are those that need another
    measurement.
    """
    shown = [row for row in rows if row.dataset not in (OVERALL, "") and row.rule.form != "probe"]
    names = list(dict.fromkeys(row.claim.id for row in shown))
    datasets = list(dict.fromkeys(row.dataset for row in shown)) or [""]
    width = NAMES + len(datasets) * (PANEL + GAP) + RIGHT
    height = TOP + BOTTOM + ROW * max(len(names), 3)
    figure = style.new(width, height)
    _headings(figure, suite, height, width)
    if not shown:
        figure.text(0.5, 0.5, "no claim to show", ha="center", color=style.FAINT)
        return figure
    for place, dataset in enumerate(datasets):
        left = (NAMES + place * (PANEL + GAP)) / width
        axes = figure.add_axes((left, BOTTOM / height, PANEL / width, 1 - (TOP + BOTTOM) / height))
        own = {row.claim.id: row for row in shown if row.dataset == dataset}
        _panel(axes, dataset, names, own)
        if place == 0:
            _names(axes, names, {row.claim.id: row.claim.entry["text"] for row in shown})
    return figure


def _panel(axes: Axes, dataset: str, names: Sequence[str], rows: dict[str, Row]) -> None:
    """Draw one dataset's estimates."""
    reach = _reach(list(rows.values()))
    axes.set(xlim=(-reach, reach), ylim=(len(names) - 0.4, -0.6))
    axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=1)
    for place, name in enumerate(names):
        if place % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color=style.EMPTY, zorder=0, linewidth=0)
        if name in rows:
            _estimate(axes, place, rows[name], reach)
    axes.set_yticks([])
    axes.set_xlabel("points", labelpad=2)
    axes.set_title(dataset, fontsize=10, fontweight="bold", loc="left")
    axes.xaxis.set_major_formatter(lambda value, _: points(value / 100).removesuffix(".0") or "0")
    axes.tick_params(axis="x", length=2, labelsize=8)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _reach(rows: Sequence[Row]) -> float:
    """Return how far a panel reaches to either side, in points."""
    ends = [
        100 * abs(end)
        for row in rows
        if row.found is not None
        for end in (row.found.value, row.found.low, row.found.high)
        if known(end)
    ]
    return min(max([1.0, *ends]) * 1.06, WIDEST)


def _estimate(axes: Axes, place: int, row: Row, reach: float) -> None:
    """Draw an estimate with its interval and margin, or say that it was not run."""
    if row.found is None or row.verdict.word == verdicts.NOT_RUN:
        axes.text(0, place, "not run", ha="center", va="center", fontsize=8, color=style.FAINT,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
        return
    colour, found = COLOURS[row.verdict.word], row.found
    for margin in _margins(row):
        axes.plot([100 * margin] * 2, [place - 0.33, place + 0.33], color=style.INK, linewidth=0.9,
                  linestyle=(0, (2, 1.5)), zorder=2)  # fmt: skip
    if known(found.low):
        axes.plot([100 * found.low, 100 * found.high], [place, place], color=colour, linewidth=2.2,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
    value = max(-reach, min(reach, 100 * found.value))
    axes.plot([value], [place], marker=MARKERS[row.verdict.word], markersize=6.5, color=colour,
              markeredgecolor="white", markeredgewidth=0.7, zorder=4, clip_on=False)  # fmt: skip


def _margins(row: Row) -> list[float]:
    """Return the lines that a verdict is measured against, apart from zero."""
    if row.rule.form == "no_gain":
        return [-row.rule.delta, row.rule.delta]
    return [row.rule.margin] if row.rule.margin else []


def _names(axes: Axes, names: Sequence[str], texts: dict[str, str]) -> None:
    """Write the claims left of the first panel."""
    for place, name in enumerate(names):
        text = textwrap.fill(texts[name].removesuffix("."), LONGEST)
        size = 7.3 if "\n" in text else 8
        kind = axes.get_yaxis_transform()
        axes.text(-(NAMES - 0.18) / PANEL, place, name, transform=kind, va="center",
                  fontsize=8.5, fontweight="bold")  # fmt: skip
        axes.text(-(NAMES - 0.62) / PANEL, place, text, transform=kind, va="center", fontsize=size,
                  linespacing=1.05)  # fmt: skip


def _headings(figure: Figure, suite: str, height: float, width: float) -> None:
    """Write the title above, and below what colours and lines mean."""
    left = 0.18 / width
    figure.text(left, 1 - 0.16 / height, "The paper's claims", va="top", **TITLE)
    text = (
        f"each claim's contrast, or the mean over its pairs, with 95 % intervals · suite {suite}\n"
        "right of the line speaks for the claim · colour: the verdict by the claim's own rule"
    )
    figure.text(left, 1 - 0.46 / height, text, fontsize=8.5, color=style.FAINT, va="top",
                linespacing=1.4)  # fmt: skip
    handles = [
        Line2D([], [], color=COLOURS[word], marker=MARKERS[word], linewidth=2.2, markersize=6.5,
               markeredgecolor="white", label=word)
        for word in COLOURS
    ]  # fmt: skip
    handles.append(Line2D([], [], color=style.INK, linewidth=0.9, linestyle=(0, (2, 1.5)),
                          label="margin, where it is not zero"))  # fmt: skip
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(left, 0.1 / height), ncols=4,
                  frameon=False, fontsize=8.5, borderaxespad=0)  # fmt: skip
