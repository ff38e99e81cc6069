"""The two figures of each dataset of a leaderboard, as PNG and SVG."""

from pathlib import Path

import pandas as pd

from cmkd.reports import heatmap, style, tradeoff

KINDS = {"gains": heatmap.draw, "cost": tradeoff.draw}


def write(table: pd.DataFrame, suite: str, folder: Path) -> dict[tuple[str, str], list[Path]]:
    """Draw the figures into a folder; return {(dataset, kind): [PNG, SVG]}.

    Kinds are `gains` (teacher x student) and `cost` (quality against cost). The same table gives
    the same bytes.
    """
    drawn = {}
    with style.styled():
        for dataset in dict.fromkeys(table["dataset"]):
            for kind, draw in KINDS.items():
                figure = draw(table, dataset, suite)
                drawn[dataset, kind] = style.save(figure, folder / f"{kind}-{dataset}")
    return drawn
