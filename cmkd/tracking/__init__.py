"""MLflow as a view: one writer replays the finished run folders of a suite into a tracking store.

A run is known there by the tag `cmkd.run_key` and its content by `cmkd.content_hash`, which is set
last: a run without it was cut off and is made again, or is in training and shown by `watch`. What
is unchanged is skipped, what has changed is written anew before the old one is deleted, so a pass
may be repeated or killed at any moment without doubles or gaps. MLflow is imported when needed.
"""

from cmkd.tracking.store import (
    is_server,
    marker,
    results_id,
    tracking_uri,
    ui_command,
    ui_pages,
)
from cmkd.tracking.watching import watch
from cmkd.tracking.writer import TrackReport, track

__all__ = [
    "TrackReport",
    "is_server",
    "marker",
    "results_id",
    "track",
    "tracking_uri",
    "ui_command",
    "ui_pages",
    "watch",
]
