"""What one run is doing now, told from its folder, its log and Slurm's queue.

Weights are not hashed here, scores are not opened, a user's own initial weights are not looked at:
a run counts as done when metrics.json names the recipe wanted now, recipe.yaml beside it has that
recipe's length, all declared files are there, the weights are not empty and not newer than
metrics.json, and inputs.json names the data set's manifest and statistics as they are now.
`cmkd leaderboard` looks more closely (cmkd/reports/runs.py), and Snakemake decides what runs again.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.operations.status import reading
from cmkd.operations.status.clock import Clock
from cmkd.operations.status.reading import Stamped, number, whole, word
from cmkd.operations.status.squeue import Entry, Queue, run_key
from cmkd.plan.agreement import EVALUATED, TRAINED
from cmkd.plan.recipes import Recipe
from cmkd.plan.suites import Frontend, Job, Suite
from cmkd.scoring import failures
from cmkd.scoring import lease as leases

DONE, RUNNING, QUEUED, FAILED = "done", "running", "queued", "failed"
LOST, STALE, WAITING = "lost", "stale", "waiting"
STATES = (DONE, RUNNING, QUEUED, FAILED, LOST, STALE, WAITING)
AGAIN = "run the same command again"
MEND = "mend the cause, then run the same command"
ON = "if Snakemake is still at work, it may start it again by itself; else run the same command"
STARTING = 3  # lease times that a program may take until it writes its first record
# Kinds that are no failure: the state is saved, or nothing was begun.
PAUSED = {"time": "stopped in time", "budget": "not begun"}
SILENT = "no record of an end: killed (memory?), node lost, or suspended"
GONE = "no record of an end: its process on this machine is gone, so it was killed (memory?)"
TRAIN, EVALUATE = "train", "evaluate"


@dataclass(frozen=True)
class Seen:
    """What is known of one run at this moment; None where it is not known.

    state: one of STATES; cause: why it is in it, "" where the state says all; kind: of a failure
    (docs/interfaces.md); stage: "train" or "evaluate"; advice: what to do; speed: clips a second;
    left: seconds to the end of the training; heartbeat: seconds since the last sign of life; skew:
    seconds by which the node's clock is ahead of the file system's; slurm: the job's number;
    reason: why Slurm lets it wait.
    """

    job: Job
    state: str
    cause: str = ""
    kind: str | None = None
    stage: str | None = None
    attempt: int | None = None
    log: Path | None = None
    advice: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    speed: float | None = None
    left: float | None = None
    heartbeat: float | None = None
    skew: float | None = None
    host: str | None = None
    slurm: str | None = None
    reason: str | None = None


class Viewer:
    """Looks at runs; recipes are resolved and hashes of prepared files are read once."""

    def __init__(self, suite: Suite, clock: Clock, limit: float) -> None:
        """Take a suite, the file system's clock, and the seconds after which silence is odd."""
        self.suite, self.clock, self.limit = suite, clock, limit
        runs = dict.fromkeys((job.dataset, job.run) for job in suite.jobs())
        self.recipes: dict[tuple[str, str], Recipe] = {key: suite.recipe(*key) for key in runs}
        self.frontends: dict[tuple[str, str], Frontend] = {
            key: suite.frontend(*key) for key in runs
        }
        self._hashes: dict[tuple[str, str, int], tuple[tuple[str, Path, str | None], ...]] = {}

    def look(self, job: Job) -> Seen:
        """Return what a run's folder and log say."""
        folder = self.suite.folder(job)
        found = reading.entries(folder)
        state, cause = self._finished(job, found)
        working = self._working(job, folder) if "state" in found else None
        if working is not None and (working.state == RUNNING or state != DONE):
            return working
        if state == DONE:
            return Seen(job, DONE)
        failed = self._failed(job, folder) if "state" in found else None
        if failed is not None:
            return failed
        if state == STALE:
            return Seen(job, STALE, cause, advice=AGAIN)
        trained = state == TRAIN
        begun = "state" in found and not trained
        note = "trained, not scored yet" if trained else ("begun, not finished" if begun else "")
        stage = EVALUATE if trained else TRAIN
        return self._by_log(Seen(job, WAITING, note, stage=stage))

    # ---------------------------------------------------------------------------- what is finished

    def _finished(self, job: Job, found: Mapping[str, os.DirEntry[str]]) -> tuple[str, str]:
        """Return (done, ""), (stale, cause), (train, "") for a trained run, or ("", "")."""
        if "recipe.yaml" not in found:
            return (STALE, "recipe.yaml is not there") if "metrics.json" in found else ("", "")
        recipe = self.recipes[job.dataset, job.run]
        if "metrics.json" in found:
            cause = self._outdated(job, found, recipe)
            return (STALE, cause) if cause else (DONE, "")
        if _text(found["recipe.yaml"]) != recipe.text:
            return STALE, "its recipe has changed since"
        return (TRAIN, "") if all(name in found for name in TRAINED) else ("", "")

    def _outdated(
        self, job: Job, found: Mapping[str, os.DirEntry[str]], recipe: Recipe
    ) -> str | None:
        """Return why a run with metrics is not done, or None."""
        metrics = reading.read(found["metrics.json"])
        if metrics is None:
            return "metrics.json cannot be read"
        record = reading.stat(found["recipe.yaml"])
        length = len(recipe.text.encode())
        if metrics.value.get("recipe") != recipe.digest or not record or record.st_size != length:
            return "its recipe has changed since"
        missing = [name for name in (*TRAINED, *EVALUATED) if name not in found]
        if missing:
            return f"{missing[0]} is missing"
        weights = reading.stat(found["weights.safetensors"])
        if weights is None or not weights.st_size:
            return "weights.safetensors is empty"
        if weights.st_mtime > metrics.changed:
            return (
                "its weights are newer than its scores, so it will be scored again"
                " (after copying results: snakemake --touch)"
            )
        return self._other_data(job, found)

    def _other_data(self, job: Job, found: Mapping[str, os.DirEntry[str]]) -> str | None:
        """Return which prepared file has another hash than the run was made from, or None."""
        inputs = reading.read(found["inputs.json"])
        if inputs is None:
            return "inputs.json cannot be read"
        if (inputs.value.get("fold"), inputs.value.get("seed")) != (job.fold, job.seed):
            return "inputs.json belongs to another fold or seed"
        for key, path, now in self._read(job):
            if now is not None and now != inputs.value.get(key):
                return f"{path} has changed since"
        return None

    def _read(self, job: Job) -> tuple[tuple[str, Path, str | None], ...]:
        """Return the prepared files that a run reads, with the hashes beside them, read once."""
        frontend = self.frontends[job.dataset, job.run].name
        key = (job.dataset, frontend, job.fold)
        if key not in self._hashes:
            folder = self.suite.prepared_folder(job.dataset)
            statistics = folder / "stats" / frontend / f"fold-{job.fold}.json"
            found = {"manifest": folder / "manifest.csv", "statistics": statistics}
            self._hashes[key] = tuple((k, path, _hash(path)) for k, path in found.items())
        return self._hashes[key]

    # ------------------------------------------------------------------------- what is going on

    def _working(self, job: Job, folder: Path) -> Seen | None:
        """Return what a lease says: a run at work, or one that gives no sign of life."""
        lease = reading.stamped(folder / "state" / leases.NAME)
        if lease is None:
            return None
        progress = reading.read(folder / "state" / "progress.json")
        stage = EVALUATE if lease.value.get("stage") == EVALUATE else TRAIN
        signs = [lease.changed, *([progress.changed] if progress and stage == TRAIN else [])]
        age = self.clock.age(max(signs))
        gone = leases.gone(lease.value)
        alive = not gone and age <= max(self.limit, 3 * (number(lease.value.get("every")) or 0.0))
        seen = Seen(
            job,
            RUNNING if alive else LOST,
            cause=GONE if gone else "",
            stage=stage,
            attempt=_attempts(folder),
            log=self.log(job, stage),
            heartbeat=age,
            skew=_skew(lease),
            host=word(lease.value.get("host")),
            slurm=word(lease.value.get("job")),
        )
        return self._with_progress(seen, progress) if seen.state == RUNNING else _silent(seen)

    def _with_progress(self, seen: Seen, progress: Stamped | None) -> Seen:
        """Add epoch, speed and time left of a training."""
        if progress is None or seen.stage != TRAIN:
            return seen
        values = progress.value
        recipe = self.recipes[seen.job.dataset, seen.job.run].digest
        other = values.get("recipe") not in (None, recipe)
        return dataclasses.replace(
            seen,
            cause="it trains another recipe than the one wanted now" if other else "",
            epoch=whole(values.get("epoch")),
            epochs=whole(values.get("epochs")),
            speed=number(values.get("clips_per_second")),
            left=number(values.get("seconds_left")),
        )

    def _failed(self, job: Job, folder: Path) -> Seen | None:
        """Return what a record of a failure says, unless it is of another recipe."""
        found = reading.read(folder / "state" / failures.NAME)
        digest = self.recipes[job.dataset, job.run].digest
        if found is None or found.value.get("recipe", digest) != digest:
            return None
        values = found.value
        kind = word(values.get("kind")) or "not named"
        message = word(values.get("message")) or "no cause was written"
        stage = EVALUATE if values.get("stage") == EVALUATE else TRAIN
        return Seen(
            job,
            WAITING if kind in PAUSED else FAILED,
            f"{PAUSED[kind]}: {message}" if kind in PAUSED else message,
            kind,
            stage,
            whole(values.get("attempt")) or _attempts(folder),
            self.log(job, stage),
            _advice(kind, values.get("retry")),
        )

    def _by_log(self, seen: Seen) -> Seen:
        """Judge a run without any record by its log: starting, failed early, or killed early."""
        log = self.log(seen.job, seen.stage or TRAIN)
        end = reading.ending(log, self.clock)
        if end is None or (not end.error and f"{seen.stage} " in end.line and ": done" in end.line):
            return seen
        found = dataclasses.replace(seen, log=log, heartbeat=end.age)
        if end.error:
            return dataclasses.replace(found, state=FAILED, cause=end.line, kind="no record",
                                       advice=MEND)  # fmt: skip
        if end.age <= STARTING * self.limit:
            return dataclasses.replace(found, state=RUNNING, cause="starting")
        return _silent(found, end.line)

    def log(self, job: Job, stage: str) -> Path:
        """Return the log of a run's training or evaluation, as the rules name it."""
        folder = self.suite.results / "logs" / stage / job.dataset / job.run
        return folder / f"fold-{job.fold}" / f"seed-{job.seed}.log"


def with_queue(seen: Seen, queue: Queue) -> Seen:
    """Add what Slurm's queue knows of a run."""
    entry = queue.jobs.get(run_key(seen.job))
    if entry is None or seen.state == DONE:
        return _left_queue(seen, queue) if seen.state == LOST else seen
    if entry.pending:
        return seen if seen.state == RUNNING else _queued(seen, entry)
    return _held(seen, entry)


def _queued(seen: Seen, entry: Entry) -> Seen:
    """Return a run that waits in the queue, with what became of its attempt before."""
    before = f"before: {seen.cause}" if seen.state in (FAILED, LOST) and seen.cause else seen.cause
    return dataclasses.replace(
        seen, state=QUEUED, cause=before, slurm=entry.number, reason=entry.reason, advice=None,
        heartbeat=None,
    )  # fmt: skip


def _held(seen: Seen, entry: Entry) -> Seen:
    """Return a run whose job holds a node by Slurm's word."""
    host = seen.host or entry.nodes or None
    found = dataclasses.replace(seen, state=RUNNING, slurm=entry.number, host=host, advice=None)
    if entry.state != "RUNNING":
        return dataclasses.replace(found, cause=f"Slurm says {entry.state}")
    if seen.state == LOST:
        return dataclasses.replace(found, cause=f"{seen.cause}, though Slurm says RUNNING")
    cause = seen.cause if seen.state == RUNNING else "starting"
    return dataclasses.replace(found, cause=cause)


def _left_queue(seen: Seen, queue: Queue) -> Seen:
    """Say of a silent run that its job has ended, where Slurm was asked and knows no such job."""
    if not queue.asked or seen.slurm is None or queue.holds(seen.slurm):
        return seen
    cause = f"{seen.cause}; its Slurm job {seen.slurm} has left the queue"
    return dataclasses.replace(seen, cause=cause)


def with_ending(seen: Seen, endings: Mapping[str, str]) -> Seen:
    """Add how a silent run's job ended by Slurm's accounting."""
    state = endings.get(seen.slurm or "")
    if seen.state != LOST or state is None:
        return seen
    advice = f"give it more memory, then {AGAIN}" if "MEMORY" in state else seen.advice
    return dataclasses.replace(seen, cause=f"{seen.cause}: {state} (sacct)", advice=advice)


def _silent(seen: Seen, line: str = "") -> Seen:
    """Return a run without a sign of life and without a record of why."""
    last = f"; its log ends: {line}" if line else ""
    cause = seen.cause or SILENT
    return dataclasses.replace(seen, state=LOST, cause=f"{cause}{last}", advice=ON)


def _advice(kind: str, retry: object) -> str:
    """Return what to do after a failure, by its record's own word or else by its kind."""
    if kind == "budget":
        return f"raise execution: budget_gpu_hours, then {AGAIN}"
    hopeful = retry if isinstance(retry, bool) else kind in failures.HOPEFUL
    return AGAIN if hopeful else MEND


def _skew(lease: Stamped) -> float | None:
    """Return by how much the node's clock was ahead of the file system's as it wrote its lease."""
    heartbeat = number(lease.value.get("heartbeat"))
    return None if heartbeat is None else heartbeat - lease.changed


def _attempts(folder: Path) -> int | None:
    """Return how often a training was begun."""
    found: Any = reading.read(folder / "state" / "attempts.json")
    starts = found.value.get("starts") if found else None
    return len(starts) if isinstance(starts, list) else None


def _hash(path: Path) -> str | None:
    """Return the hash beside a prepared file, or None where there is none."""
    text = _text(files.sidecar(path))
    return text.strip() if text else None


def _text(path: os.DirEntry[str] | Path) -> str | None:
    """Return a file's text, or None where it is absent or damaged."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
