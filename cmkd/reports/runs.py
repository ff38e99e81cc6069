"""The state of each run of a suite, told from its folder alone: done, stale, failed or missing."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.plan.recipes import Recipe
from cmkd.plan.suites import Job, Suite

DONE, STALE, FAILED, MISSING = "done", "stale", "failed", "missing"
DIGEST_LENGTH = 16
_hashes: dict[tuple[str, int, int], str] = {}


@dataclass(frozen=True)
class RunState:
    """What is known of one run.

    status: done, stale, failed or missing; cause: why it is not done, "" for a done or untouched
    run, or for a done run what a reader should know; metrics: metrics.json of a done run, else
    empty; cost: the costs that were written, by phase ("train", "evaluate"); folder: where it lies.
    """

    job: Job
    status: str
    cause: str
    metrics: Mapping[str, Any]
    cost: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def done(self) -> bool:
        """Tell whether its numbers may be shown."""
        return self.status == DONE


def collect(suite: Suite) -> dict[Job, RunState]:
    """Return the state of every run of the suite, in the suite's order of jobs."""
    return {job: state_of(suite, job) for job in suite.jobs()}


def state_of(suite: Suite, job: Job) -> RunState:
    """Return the state of one run."""
    folder = suite.folder(job)
    status, cause = judge(folder, suite.recipe(job.dataset, job.run))
    metrics = read(folder / "metrics.json") if status == DONE else None
    if status == DONE:
        cause = _remark(suite, job)
    return RunState(job, status, cause, metrics or {}, _costs(folder), folder)


def judge(folder: Path, wanted: Recipe) -> tuple[str, str]:
    """Return (status, cause) of a run folder against the recipe that is wanted now.

    A run is done when metrics.json names the digest of the recipe.yaml beside it and the sha256 of
    the weights, and that recipe is the one wanted now. A failure that
    belongs to another recipe is forgotten.
    """
    complaint = disagreement(folder, wanted)
    if complaint is None:
        return DONE, ""
    failure = read(folder / "state" / "failure.json")
    if failure is not None and failure.get("recipe", wanted.digest) == wanted.digest:
        stopped = failure.get("kind") in ("time", "budget")  # it goes on when run again
        return (MISSING if stopped else FAILED), failure_text(failure)
    if (folder / "metrics.json").exists() or _recorded(folder) not in (None, wanted.text):
        return STALE, complaint
    return MISSING, _progress(folder)


def disagreement(folder: Path, wanted: Recipe) -> str | None:
    """Return why the folder does not hold finished numbers of the wanted recipe, or None."""
    record = _recorded(folder)
    if record is None:
        return "recipe.yaml is not there"
    if record != wanted.text:
        return "its recipe has changed since"
    metrics = read(folder / "metrics.json")
    if metrics is None:
        return "metrics.json is not there or cannot be read"
    if metrics.get("recipe") != files.sha256_text(record)[:DIGEST_LENGTH]:
        return "metrics.json is of another recipe"
    if metrics.get("weights") != sha256(folder / "weights.safetensors"):
        return "metrics.json is of other weights"
    return None


def failure_text(failure: Mapping[str, Any]) -> str:
    """Return the cause in a failure.json as one line: its kind and message."""
    kind = str(failure.get("kind") or "")
    message = str(failure.get("message") or failure.get("cause") or "")
    text = ": ".join(part for part in (kind, message) if part) or "no cause was written"
    return " ".join(text.split())


def read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where the file is absent or damaged."""
    try:
        value = files.read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def sha256(path: Path) -> str | None:
    """Return a file's sha256, remembered by size and time of change, or None where it is absent."""
    try:
        stat = path.stat()
    except OSError:
        return None
    key = (str(path), stat.st_size, stat.st_mtime_ns)
    if key not in _hashes:
        _hashes[key] = files.sha256_file(path)
    return _hashes[key]


def summary(states: Sequence[RunState]) -> list[str]:
    """Return one line for each cause that keeps runs from being done, with the runs' count.

    Runs that were simply not begun say nothing: done/planned tells it.
    """
    causes = Counter((state.status, state.cause) for state in states if state.cause)
    return [
        f"{_word(status)} {count}/{len(states)}: {cause}"
        for (status, cause), count in causes.items()
    ]


def ids_hash(states: Sequence[RunState]) -> str:
    """Return what names the test clips of runs: the hash of one set, or of the folds' hashes."""
    found = sorted({(s.job.fold, str(s.metrics.get("ids_hash", ""))) for s in states})
    if len(found) < 2:
        return found[0][1] if found else ""
    return files.sha256_text("\n".join(f"{fold} {value}" for fold, value in found))


def _word(status: str) -> str:
    """Return a status as a note begins with it."""
    return "not done" if status == MISSING else status


def _recorded(folder: Path) -> str | None:
    """Return the text of the folder's recipe.yaml, or None."""
    try:
        return (folder / "recipe.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _progress(folder: Path) -> str:
    """Return how far a run without metrics has come: "" where nothing was begun."""
    if (folder / "weights.safetensors").exists():
        return "trained, not scored yet"
    if (folder / "state").exists():
        return "begun, not finished"
    return ""


def _remark(suite: Suite, job: Job) -> str:
    """Return a remark where a done run was made from a teacher or data that have changed since."""
    inputs = read(suite.folder(job) / "inputs.json") or {}
    teacher = suite.teacher_of(job)
    if teacher is not None and inputs.get("teacher"):
        now = sha256(suite.folder(teacher) / "weights.safetensors")
        if now not in (None, inputs["teacher"]):
            return "taught by weights that its teacher no longer has"
    manifest = files.sidecar(suite.prepared_folder(job.dataset) / "manifest.csv")
    if manifest.is_file() and inputs.get("manifest"):
        now = manifest.read_text(encoding="utf-8").strip()
        if now != inputs["manifest"]:
            return "its prepared data have changed since"
    return ""


def _costs(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the costs written in a run folder, by phase."""
    names = {"train": "cost.json", "evaluate": "cost-evaluate.json"}
    found = {phase: read(folder / name) for phase, name in names.items()}
    return {phase: cost for phase, cost in found.items() if cost is not None}
