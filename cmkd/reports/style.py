"""How figures look, and how they are written so that making them again gives the same bytes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cmkd import files

INK, FAINT, GRID, EMPTY = "#24292f", "#6e7781", "#e3e6ea", "#f4f5f7"
# Okabe and Ito's palette: told apart by readers with any colour vision.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#6F4E37", "#5A5A5A", "#882255", "#999933", "#332288", "#B30000"),
)
SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "cmkd",
    "svg.fonttype": "path",
    "path.simplify": False,
}
DOTS_PER_INCH = 160


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw with our settings, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def new(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that knows how to measure its texts."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write stem.png and stem.svg without dates or program versions; return their paths."""
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    paths = []
    for kind, fields in metadata.items():
        path = stem.parent / f"{stem.name}.{kind}"
        with files.replacing(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=DOTS_PER_INCH, metadata=fields)
        paths.append(path)
    return paths
