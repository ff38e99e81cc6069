"""Views of finished run folders: the leaderboard and its figures; they can be made again any time.

Nothing here imports torch, so tables can be made on a machine that has never trained anything.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmkd.plan.suites import Suite


def tables(suite: "Suite") -> list[Path]:
    """Write the leaderboard (CSV, Markdown, HTML) and the figures of a suite; return their paths.

    Works at any time, with any number of runs done, and gives the same bytes when called again.
    Raises DataError where two runs that must be compared were scored on different clips.
    """
    from cmkd.reports.leaderboard import write

    return write(suite)
