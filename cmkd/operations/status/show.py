"""A suite's status shown once: as a page for people, as JSON for programs."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from cmkd.operations.status import pages
from cmkd.operations.status.look import Snapshot, look
from cmkd.operations.status.runs import Seen
from cmkd.plan.suites import Suite

FORMAT = 1


def show(suite: Suite, out: TextIO, everything: bool = False) -> None:
    """Print a suite's status once; `everything` leaves nothing out."""
    print(pages.page(look(suite), pages.style(out), everything), file=out)


def show_json(suite: Suite, out: TextIO) -> None:
    """Print a suite's status as one JSON object (docs/interfaces.md)."""
    print(json.dumps(as_json(look(suite)), indent=1), file=out)


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as plain values; a key is always there, null where nothing is known."""
    return {
        "format": FORMAT,
        "suite": snapshot.suite,
        "results": str(snapshot.results),
        "time": snapshot.time,
        "runs": len(snapshot.runs),
        "counts": snapshot.counts(),
        "left": snapshot.left._asdict(),
        "queue": {"asked": snapshot.queue.asked, "note": snapshot.queue.note},
        "data": [_plain(dataclasses.asdict(item)) for item in snapshot.data],
        "jobs": [_job(seen) for seen in snapshot.runs],
    }


def _job(seen: Seen) -> dict[str, Any]:
    """Return one run as plain values."""
    values = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
    job = values.pop("job")
    return _plain({**job._asdict(), **values})


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with paths as text."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
