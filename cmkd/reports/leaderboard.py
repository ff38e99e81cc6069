"""The leaderboard of a suite: as a table, on disk and on the terminal."""

from pathlib import Path

import pandas as pd

from cmkd import files
from cmkd.plan.claims import claims_file
from cmkd.plan.suites import Suite
from cmkd.reports import claims, columns, figures, markdown, page, published
from cmkd.reports.board import boards, oddities
from cmkd.reports.terminal import render_terminal

__all__ = ["leaderboard", "render_terminal", "to_csv", "write"]


def leaderboard(suite: Suite) -> pd.DataFrame:
    """Return the leaderboard, a row for each dataset, run and readout (columns: `columns.COLUMNS`).

    Values and gains are fractions. Rows of a dataset stand best first; rows without a result last.
    """
    return columns.frame([row for board in boards(suite) for row in board.rows()])


def write(suite: Suite) -> list[Path]:
    """Write leaderboard.{csv,md,html}, claims.{md,csv} and the figures; return their paths."""
    table = leaderboard(suite)
    judged = claims.write(suite)
    svg = judged[-1] if claims_file(suite.catalog).is_file() else None
    found = {name: published.of_suite(suite, name) for name in suite.datasets}
    remarks = {name: oddities(suite, name) for name in dict.fromkeys(table["dataset"])}
    drawn = figures.write(table, suite.name, suite.results / "figures" / suite.name)
    folder = suite.results / "tables" / suite.name
    texts = {
        "leaderboard.csv": to_csv(table),
        "leaderboard.md": markdown.render(table, suite.name, remarks, found),
        "leaderboard.html": page.render(table, suite.name, remarks, drawn, found, svg),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    figure_paths = [path for paths in drawn.values() for path in paths]
    return [*(folder / name for name in texts), *figure_paths, *judged]


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV: numbers with ten significant digits, empty cells empty."""
    return str(table.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
