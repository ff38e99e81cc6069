"""What is written of one run: its name, tags, parameters, curves and artifacts; no MLflow here."""

import csv
import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.plan import names, recipes
from cmkd.plan.suites import Job, Suite
from cmkd.reports.columns import METRICS
from cmkd.reports.runs import DONE, FAILED, RunState, sha256
from cmkd.reports.wording import DIRECTIONS

SCHEMA = 2  # raised when what is written of a run changes, so that all are written again
KEY, HASH, STATE = "cmkd.run_key", "cmkd.content_hash", "cmkd.state"
COSTS = ("cost.json", "cost-evaluate.json")
ARTIFACTS = ("recipe.yaml", "history.csv", "metrics.json", *COSTS)
CONTENT = (*ARTIFACTS, "inputs.json")
FAILURE = "state/failure.json"
NOT_CURVES = ("epoch", "step", "time")
NOT_USAGE = ("format", "execution", "versions", "threads", "processes", "place", "attempts")
BILLIONS = {"flops": "gflops", "peak_memory": "peak_memory_gb"}
LONGEST_PARAM, LONGEST_TAG = 6000, 5000

Curve = tuple[str, float, int, int]  # metric, value, milliseconds, epoch


@dataclass(frozen=True)
class Entry:
    """Everything that is written of one run; times in milliseconds since 1970."""

    name: str
    status: str
    start: int
    end: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[Curve]
    manifest: str
    artifacts: Sequence[Path]


def run_key(identity: str, job: Job) -> str:
    """Return the key of a run: the results' id and where its folder lies."""
    return f"{identity}/{job.dataset}/{job.run}/fold-{job.fold}/seed-{job.seed}"


def name_of(job: Job) -> str:
    """Return the name of a run as the UI shows it."""
    return f"{job.run} f{job.fold} s{job.seed}"


def digest_of(state: RunState, tags: Mapping[str, str]) -> str:
    """Return the hash of everything a run's entry is made from."""
    parts = [f"schema {SCHEMA}", json.dumps(tags, sort_keys=True)]
    for name in CONTENT if state.status == DONE else (FAILURE,):
        path = state.folder / name
        parts.append(f"{name} {sha256(path)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def entry_of(suite: Suite, state: RunState, tags: Mapping[str, str]) -> Entry:
    """Return what is written of a finished or failed run."""
    done = state.status == DONE
    rows = history(state.folder / "history.csv") if done else []
    start, end = _times(state, rows)
    recipe = suite.recipe(state.job.dataset, state.job.run)
    values = recipes.read_recipe(state.folder / "recipe.yaml") if done else recipe.values
    return Entry(
        name=name_of(state.job),
        status="FINISHED" if done else "FAILED",
        start=start,
        end=end,
        tags=tags,
        params=flatten(values),
        metrics=[*_finals(state, end), *curves(rows), *_usage(state, end)] if done else [],
        manifest=str(_inputs(state).get("manifest", "")) if done else "",
        artifacts=[path for name in ARTIFACTS if done and (path := state.folder / name).is_file()],
    )


def tags_of(suite: Suite, state: RunState, identity: str) -> dict[str, str]:
    """Return the tags of a run: what to filter and group by, its key and its note."""
    job, run = state.job, names.parse(state.job.run)
    cost = state.cost.get("train", {}) if state.status == DONE else {}
    commit = str(cost.get("commit") or "unknown")
    tags = {
        KEY: run_key(identity, job),
        STATE: state.status,
        "dataset": job.dataset,
        "run": job.run,
        "model": run.model,
        "student": run.link,
        "teacher": str(run.teacher) if run.teacher else "none",
        "direction": suite.direction(run),
        "family": suite.family(run),
        "class": suite.klass(run),
        "teacher_family": suite.family(run.teacher) if run.teacher else "none",
        "teacher_class": suite.klass(run.teacher) if run.teacher else "none",
        "fold": str(job.fold),
        "seed": str(job.seed),
        "recipe": suite.recipe(job.dataset, job.run).digest,
        "commit": commit,
        "device": str(cost.get("device", "unknown")),
        "mlflow.source.name": "cmkd train",
        "mlflow.source.type": "JOB",
    }
    if commit != "unknown":
        tags["mlflow.source.git.commit"] = commit
    if state.status == FAILED:
        tags["cause"] = state.cause[:LONGEST_TAG] or "unknown"
    return tags | {"mlflow.note.content": _note(tags, state)[:LONGEST_TAG]}


def _note(tags: Mapping[str, str], state: RunState) -> str:
    """Return in Markdown what the run is, what came out, and a table of its scores.

    The UI shows the first lines only, so the score stands there.
    """
    how = DIRECTIONS.get(tags["direction"], tags["direction"])
    taught = "alone" if tags["teacher"] == "none" else f"taught by `{tags['teacher']}` ({how})"
    place = f"{tags['dataset']}, fold {tags['fold']}, seed {tags['seed']}"
    lines = [f"`{tags['student']}` {taught} on {place}."]
    if "cause" in tags:
        lines.append(f"**Failed:** {tags['cause']}")
    if state.metrics:
        lines += _scores(state.metrics)
    return "\n\n".join(lines) + "\n"


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    """Return the headline score as a sentence, and the scores of every readout as a table."""
    name, readout = str(metrics.get("metric", "")), str(metrics.get("readout", "last"))
    value, split = metrics.get("value"), metrics.get("split", "test")
    text = f"{value:.4f}" if isinstance(value, int | float) else "none"
    sentence = f"**{METRICS.get(name, name)} {text}** on the {split} clips, readout {readout}."
    table = ["| readout | metric | value |", "|---|---|---|"]
    for of, found in _readouts(metrics):
        named = f"{of} (epoch chosen on the test clips)" if of == "peek" else of
        table += [f"| {named} | {key} | {number:.4f} |" for key, number in _numbers(found)]
    return [sentence, "\n".join(table)]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested values as text under dotted names; lists are written as JSON."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{prefix}{name}"] = text[:LONGEST_PARAM]
    return flat


def history(path: Path) -> list[dict[str, float]]:
    """Return the rows of history.csv, the numbers that are there."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: float(text) for name, text in row.items() if text} for row in rows]


def curves(rows: Sequence[Mapping[str, float]]) -> list[Curve]:
    """Return train/... and val/... by epoch at the time the epoch ended."""
    return [
        (_curve_name(name), value, round(row["time"] * 1000), int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name not in NOT_CURVES and not math.isinf(value)
    ]


def _curve_name(column: str) -> str:
    """Return the metric of a column: val_accuracy is val/accuracy, loss is train/loss."""
    return f"val/{column[4:]}" if column.startswith("val_") else f"train/{column}"


def _finals(state: RunState, end: int) -> list[Curve]:
    """Return final/... of the headline readout and readout_NAME/... of the others."""
    headline = str(state.metrics.get("readout", "last"))
    return [
        (f"{'final' if readout == headline else f'readout_{readout}'}/{name}", value, end, 0)
        for readout, metrics in _readouts(state.metrics)
        for name, value in _numbers(metrics)
    ]


def _readouts(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the scores of each readout, the headline first."""
    headline = str(metrics.get("readout", "last"))
    others = metrics.get("readouts") or {}
    return [
        (headline, _metrics_of(metrics)),
        *((name, _metrics_of(found)) for name, found in others.items() if name != headline),
    ]


def _metrics_of(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values by metric, whether they lie under `metrics` or at the top."""
    inner = metrics.get("metrics", metrics)
    return inner if isinstance(inner, Mapping) else {}


def _usage(state: RunState, end: int) -> list[Curve]:
    """Return usage/... : what training took, and evaluating with a prefix; sizes in units of 1e9.

    The name sorts after `train`, so that in the UI curves stand above these single numbers.
    """
    found: list[Curve] = []
    for phase, cost in state.cost.items():
        head = "" if phase == "train" else f"{phase}_"
        chosen = {name: value for name, value in cost.items() if name not in NOT_USAGE}
        for name, value in _numbers(chosen):
            size = value / 1e9 if name in BILLIONS else value
            found.append((f"usage/{head}{BILLIONS.get(name, name)}", size, end, 0))
    return found


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the finite numbers of nested values, names joined by `_`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}_")
        elif type(value) in (int, float) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def _inputs(state: RunState) -> Mapping[str, Any]:
    """Return inputs.json, empty where it is missing."""
    path = state.folder / "inputs.json"
    found = files.read_json(path) if path.is_file() else {}
    return found if isinstance(found, Mapping) else {}


def _times(state: RunState, rows: Sequence[Mapping[str, float]]) -> tuple[int, int]:
    """Return start and end of the training: of its costs, else the history, else the last file.

    What evaluating took is not in it: a scheduler may have it wait for hours.
    """
    last = state.folder / ("metrics.json" if state.status == DONE else FAILURE)
    written = round(last.stat().st_mtime * 1000) if last.is_file() else 0
    times = [round(row["time"] * 1000) for row in rows] or [written]
    cost = state.cost.get("train", {}) if state.status == DONE else {}
    start = _milliseconds(cost["start"]) if cost.get("start") else times[0]
    end = _milliseconds(cost["end"]) if cost.get("end") else times[-1]
    return start, max(start, end)


def _milliseconds(moment: Any) -> int:
    """Return a Unix time or an ISO 8601 text as milliseconds since 1970."""
    if isinstance(moment, (int, float)):
        return round(moment * 1000)
    return round(datetime.datetime.fromisoformat(str(moment)).timestamp() * 1000)
