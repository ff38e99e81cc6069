"""Runs that are still being trained, shown in MLflow from what lies in RUN/state.

Such a run has no content hash, so it is never taken for a record; when it is done, the record is
written whole and this one goes. The tag `cmkd.live` holds how many epochs were written and their
hash, so that another process goes on with it, or begins it anew where the training did.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd.plan.suites import Suite
from cmkd.reports.runs import RunState, read
from cmkd.scoring import lease as leases
from cmkd.tracking import upload
from cmkd.tracking.entries import STATE, Entry, curves, flatten, history, name_of

LIVE, PROGRESS = "cmkd.live", "progress"
NOTE = "mlflow.note.content"
CHECKPOINTS = ("state/checkpoint-0.json", "state/checkpoint-1.json")
RUNNING, WAITING, LOST = "RUNNING", "SCHEDULED", "KILLED"  # MLflow's words
WORDS = {  # tag and sentence
    RUNNING: ("running", "is being trained"),
    WAITING: ("waiting", "waits to go on: nobody works on it, and its state is saved"),
    LOST: ("lost", "gave no sign of life for too long: it was killed, or its machine is cut off"),
}

Row = Mapping[str, float]


@dataclass(frozen=True)
class Sight:
    """What a run's folder says of a training: MLflow's status, epochs so far, progress, start."""

    status: str
    rows: Sequence[Row]
    progress: str
    started: float
    params: Mapping[str, str]
    name: str

    @property
    def alive(self) -> bool:
        """Tell whether somebody is working on it."""
        return self.status == RUNNING


def mark_of(rows: Sequence[Row]) -> str:
    """Return the number of rows and their hash."""
    text = json.dumps([dict(row) for row in rows], sort_keys=True)
    return f"{len(rows)} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def look(suite: Suite, state: RunState, now: float | None = None) -> Sight | None:
    """Return what an unfinished run is doing, None where nothing of the wanted recipe was begun."""
    job, now = state.job, time.time() if now is None else now
    recipe = suite.recipe(job.dataset, job.run)
    path = state.folder / "state" / "lease.json"
    lease = read(path) or ({} if path.exists() else None)  # it may be just in writing
    found = read(state.folder / "state" / "progress.json") or {}
    if found.get("recipe") != recipe.digest:
        found = {}
    rows = _rows(state.folder, recipe.digest, recipe.text)
    if lease is None and not found and not rows:
        return None
    began = (lease or {}).get("began") or found.get("time") or now
    first = rows[0]["time"] - rows[0].get("seconds", 0.0) if rows else began
    limit = leases.seconds(suite.execution)
    return Sight(
        status=_status(path, lease, limit, now),
        rows=rows,
        progress=_progress(found, lease, _trained(state.folder, recipe.text)),
        started=min(float(began), first),
        params=flatten(recipe.values),
        name=name_of(job),
    )


def show(
    client: Any, experiment: str, sight: Sight, tags: Mapping[str, str], shown: Any | None
) -> None:
    """Bring a run that is being trained up to date; begin it anew if the training did."""
    word, phrase = WORDS[sight.status]
    note = f"`{tags['run']}` {phrase}. {sight.progress}".strip()
    told = {LIVE: mark_of(sight.rows), STATE: word, PROGRESS: sight.progress, NOTE: note}
    written = _written(shown, sight.rows)
    if shown is not None and written is None:
        upload.delete(client, shown)
        shown = None
    if shown is None:
        start = round(sight.started * 1000)
        entry = Entry(sight.name, RUNNING, start, start, tags, {}, (), "", ())
        before = {**tags, LIVE: mark_of(()), STATE: word}
        key = upload.begin(client, experiment, entry, before)
        upload.log(client, key, curves(sight.rows), sight.params, told)
    else:
        key, there = str(shown.info.run_id), shown.data.tags
        told = {name: text for name, text in told.items() if there.get(name) != text}
        if told:
            upload.log(client, key, curves(sight.rows[written:]), {}, told)
    if sight.status != (RUNNING if shown is None else shown.info.status):
        client.update_run(key, status=sight.status)


def _written(shown: Any | None, rows: Sequence[Row]) -> int | None:
    """Return how many of the rows a shown run has; None where its rows are of another training."""
    if shown is None:
        return None
    mark = shown.data.tags[LIVE]
    count = int(mark.split()[0])
    return count if len(rows) >= count and mark_of(rows[:count]) == mark else None


def _rows(folder: Path, digest: str, text: str) -> list[Row]:
    """Return the epochs so far: of the newest checkpoint, else of a finished training."""
    saved = [body for name in CHECKPOINTS if (body := read(folder / name))]
    own = [body for body in saved if (body.get("identity") or {}).get("recipe") == digest]
    if own:
        newest = max(own, key=lambda body: int(body.get("number", 0)))
        rows = (newest.get("progress") or {}).get("rows") or []
        return [{name: float(v) for name, v in row.items() if v is not None} for row in rows]
    return list(history(folder / "history.csv")) if _trained(folder, text) else []


def _trained(folder: Path, text: str) -> bool:
    """Tell whether the folder holds a finished training of this recipe's text."""
    record = folder / "recipe.yaml"
    return record.is_file() and record.read_text(encoding="utf-8") == text


def _status(path: Path, lease: Mapping[str, Any] | None, limit: float, now: float) -> str:
    """Return MLflow's word for a training with this lease; the clock of its machine may differ."""
    if lease is None:
        return WAITING
    try:
        touched = path.stat().st_mtime
    except OSError:
        touched = 0.0
    beaten = max(float(lease.get("heartbeat") or 0), touched)
    silent = now - beaten > max(limit, 3 * float(lease.get("every") or 0))
    return LOST if silent or leases.gone(dict(lease)) else RUNNING


def _progress(found: Mapping[str, Any], lease: Mapping[str, Any] | None, trained: bool) -> str:
    """Return in one line how far a training is, where it says so."""
    if trained:
        return "trained, not scored yet" if lease is None else "trained, being scored"
    parts = []
    if found.get("epoch") and found.get("epochs"):
        parts.append(f"epoch {found['epoch']} of {found['epochs']}")
    if found.get("clips_per_second"):
        parts.append(f"{float(found['clips_per_second']):.0f} clips/s")
    if found.get("seconds_left") is not None:
        parts.append(f"about {float(found['seconds_left']) / 60:.0f} min left")
    return ", ".join(parts)
