"""`execution: budget_gpu_hours`: how much of it is spent, and whether one more training may begin.

Spent is what lies in the suite's run folders: the device hours of every cost file, and for a
training that is not finished what its newest checkpoint says it took. A training that runs now
counts with what it is expected to take. A new one begins while all this and its own expected cost
stay within the budget. What it is expected to take comes from measurements only; without any it
counts nothing, so that the budget can be passed by the trainings that run when it is reached, each
by at most its own cost. Several that begin within the same second do not see each other.

Scoring is never refused: a trained run becomes a row of the leaderboard.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmkd.errors import BudgetError
from cmkd.plan import suites
from cmkd.plan.catalog import read_yaml
from cmkd.plan.pricing import ALIKE, CALIBRATED, MEASURED, Prices
from cmkd.plan.suites import Job, Suite

KIND = "budget"  # in state/failure.json
COSTS = ("cost.json", "cost-evaluate.json")
LEASE_SECONDS = 60.0  # a lease without a heartbeat that long is of a job that is dead


def guard(suite_file: Path, wanted: Path, fold: int, seed: int) -> None:
    """Raise BudgetError where the suite's budget does not reach for this training.

    Args:
        suite_file: the whole resolved suite.
        wanted: the run's wanted recipe.
        fold, seed: which of its trainings.
    """
    suite = suites.load(suite_file, checked=True)
    limit = suite.execution.get("budget_gpu_hours")
    if limit is None:
        return
    recipe = read_yaml(wanted)
    job = Job(str(recipe["dataset"]["name"]), str(recipe["run"]), fold, seed)
    prices = Prices(suite)
    before = spent(suite) + _expected(suite, prices, skip=job)
    if before >= limit or before + hours(prices, job) - _begun(suite, job) > limit:
        raise BudgetError(refusal(limit))


def refusal(limit: float) -> str:
    """Return the sentence of a training that the budget does not reach for."""
    return (
        f"the suite's budget of {limit:g} device hours does not reach for this training; raise "
        "execution.budget_gpu_hours and run the same command again to go on"
    )


def ended(suite: Suite) -> str | None:
    """Return the sentence on a suite that its budget ended, None for any other."""
    limit = suite.execution.get("budget_gpu_hours")
    if limit is None:
        return None
    states = [(suite.folder(job), _json(suite.folder(job) / "state" / "failure.json"))
              for job in suite.jobs()]  # fmt: skip
    if not any(failure.get("kind") == KIND for _, failure in states):
        return None
    left = sum(not (folder / "weights.safetensors").is_file() for folder, _ in states)
    return (
        f"The suite's budget ended it: {spent(suite):.3g} of {limit:g} device hours are spent, "
        f"{left} of {len(states)} trainings are not done. The leaderboard shows those that are; "
        "raise execution.budget_gpu_hours and run the same command again to go on."
    )


def spent(suite: Suite) -> float:
    """Return the device hours that the suite's runs have taken so far."""
    return sum(_finished(suite.folder(job)) or _begun(suite, job) for job in suite.jobs())


def hours(prices: Prices, job: Job) -> float:
    """Return the device hours that a run is expected to take, 0 where nothing was measured."""
    price = prices.of(job.dataset, job.run)
    known = price.basis in (MEASURED, ALIKE, CALIBRATED)
    devices = int(prices.suite.execution.get("gpus", 1))
    return price.seconds * devices / 3600 if known else 0.0


def _expected(suite: Suite, prices: Prices, skip: Job) -> float:
    """Return the hours that trainings which run now will still take."""
    alive = float(suite.execution.get("lease_seconds", LEASE_SECONDS))
    running = [job for job in suite.jobs() if job != skip and _runs(suite.folder(job), alive)]
    return sum(max(0.0, hours(prices, job) - _begun(suite, job)) for job in running)


def _runs(folder: Path, alive: float) -> bool:
    """Tell whether a training holds a lease whose heart still beats."""
    lease = _json(folder / "state" / "lease.json")
    if lease.get("stage") != "train":
        return False
    beat = lease.get("heartbeat")
    return isinstance(beat, int | float) and time.time() - beat < alive


def _finished(folder: Path) -> float:
    """Return the device hours in a run folder's cost files."""
    return sum(_number(_json(folder / name).get("device_hours")) for name in COSTS)


def _begun(suite: Suite, job: Job) -> float:
    """Return the device hours of a training that is not finished, by its newest checkpoint."""
    records = (suite.folder(job) / "state").glob("checkpoint-*.json")
    newest = max(map(_json, records), key=lambda one: _number(one.get("number")), default={})
    progress = newest.get("progress")
    return _number(progress.get("device_seconds") if isinstance(progress, Mapping) else 0) / 3600


def _number(value: Any) -> float:
    """Return a number, 0 for what is none."""
    return float(value) if isinstance(value, int | float) else 0.0


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty where it is absent or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
