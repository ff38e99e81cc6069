"""Views of finished run folders: leaderboard, claims, figures; they can be made again any time.

Nothing here imports torch, so tables can be made on a machine that has never trained anything.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmkd.plan.suites import Suite


def tables(suite: "Suite") -> list[Path]:
    """Write a suite's leaderboard (CSV, Markdown, HTML), claims (Markdown, CSV) and figures.

    Returns their paths. Works at any time, with any number of runs done, and gives the same bytes
    when called again.
    Raises DataError where two runs that must be compared were scored on different clips.
    """
    from cmkd.reports.leaderboard import write

    return write(suite)
