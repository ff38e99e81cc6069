"""The leaderboard of a suite: as a table, on disk and on the terminal."""

from pathlib import Path

import pandas as pd

from cmkd import files
from cmkd.plan.suites import Suite
from cmkd.reports import columns, figures, markdown, page
from cmkd.reports.board import boards, oddities
from cmkd.reports.terminal import render_terminal

__all__ = ["leaderboard", "render_terminal", "to_csv", "write"]


def leaderboard(suite: Suite) -> pd.DataFrame:
    """Return the leaderboard, a row for each dataset, run and readout (columns: `columns.COLUMNS`).

    Values and gains are fractions. Rows of a dataset stand best first; rows without a result last.
    """
    return columns.frame([row for board in boards(suite) for row in board.rows()])


def write(suite: Suite) -> list[Path]:
    """Write leaderboard.{csv,md,html} and the figures; return their paths."""
    table = leaderboard(suite)
    remarks = {name: oddities(suite, name) for name in dict.fromkeys(table["dataset"])}
    drawn = figures.write(table, suite.name, suite.results / "figures" / suite.name)
    folder = suite.results / "tables" / suite.name
    texts = {
        "leaderboard.csv": to_csv(table),
        "leaderboard.md": markdown.render(table, suite.name, remarks),
        "leaderboard.html": page.render(table, suite.name, remarks, drawn),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    return [folder / name for name in texts] + [path for paths in drawn.values() for path in paths]


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as CSV: numbers with ten significant digits, empty cells empty."""
    return str(table.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
