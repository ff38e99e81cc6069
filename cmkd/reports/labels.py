"""Labels beside points, placed so that they cover neither each other nor a point."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Boxes = npt.NDArray[np.float64]
RINGS = (1.0, 1.8, 2.8, 4.0, 5.5)
AROUND = ((7, 0), (-7, 0), (6, 5), (-6, 5), (6, -5), (-6, -5), (0, 7), (0, -7))
# Offsets in typographic points, nearest first: (right, up, horizontal, vertical alignment).
SIDES = [
    (dx * far, dy * far, "left" if dx > 0 else "right" if dx < 0 else "center",
     "bottom" if dy > 0 else "top" if dy < 0 else "center")
    for far in RINGS
    for dx, dy in AROUND
]  # fmt: skip
# What a step outwards may save: a label rather crosses a line than lies far from its point.
FAR: Boxes = np.repeat(np.array([0.0, 40.0, 90.0, 150.0, 220.0]), len(AROUND))


def place(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    colours: Sequence[str],
    obstacles: Sequence[Bbox] = (),
    size: float = 8.0,
) -> list[Annotation]:
    """Write each text beside its point at the first of SIDES that is free, else the least covered.

    points are in data units; obstacles are boxes in pixels that should stay free. The axes' limits
    must be final. The same input gives the same places.
    """
    written = []
    inside: Boxes = np.array(axes.bbox.extents)
    pixels = axes.transData.transform(np.array(points)) if len(points) else np.empty((0, 2))
    around = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels]
    taken = np.array(around + [tuple(box.extents) for box in obstacles]).reshape(-1, 4)
    for point, pixel, text, colour in zip(points, pixels, texts, colours, strict=True):
        boxes = _boxes(pixel, *_extent(axes, text, size), axes.figure.dpi / 72)
        costs = np.array(_covered(boxes, taken) + 10 * _outside(boxes, inside) + FAR)
        best = int(np.argmin(costs))  # the first of the smallest, so the nearest side
        taken = np.vstack([taken, boxes[best]])
        written.append(_write(axes, point, text, colour, best, size))
    return written


def _write(
    axes: Axes, point: tuple[float, float], text: str, colour: str, side: int, size: float
) -> Annotation:
    """Write a text on one side of its point, with a thin line to it where it is far."""
    x, y, across, along = SIDES[side]
    line = {"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.6, "shrinkA": 1,
            "shrinkB": 4}  # fmt: skip
    return axes.annotate(
        text, point, (x, y), textcoords="offset points", ha=across, va=along, color=colour,
        fontsize=size, zorder=5, arrowprops=line if side >= len(AROUND) else None,
    )  # fmt: skip


def _extent(axes: Axes, text: str, size: float) -> tuple[float, float]:
    """Return the width and height of a text in pixels."""
    trial = axes.text(0, 0, text, fontsize=size)
    box = trial.get_window_extent()
    trial.remove()
    return float(box.width), float(box.height)


def _boxes(pixel: Boxes, width: float, height: float, scale: float) -> Boxes:
    """Return the box of a text on each side of a point: [sides, 4] as left, bottom, right, top."""
    shift = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}
    left = np.array([pixel[0] + scale * x - width * shift[across] for x, _, across, _ in SIDES])
    low = np.array([pixel[1] + scale * y - height * shift[along] for _, y, _, along in SIDES])
    return np.stack([left, low, left + width, low + height], axis=1)


def _covered(boxes: Boxes, taken: Boxes) -> Boxes:
    """Return the area that each box shares with all taken ones, in square pixels."""
    low = np.maximum(boxes[:, None, :2], taken[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], taken[None, :, 2:])
    shared: Boxes = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return shared


def _outside(boxes: Boxes, inside: Boxes) -> Boxes:
    """Return the area of each box that lies outside one box, in square pixels."""
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    outside: Boxes = area - _covered(boxes, inside[None])
    return outside
