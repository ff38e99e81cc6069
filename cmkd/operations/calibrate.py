"""`cmkd plan --calibrate`: measure each kind of work of a suite for some seconds on this device.

Every pair of model and teacher is trained and scored on clips of noise, with its real recipe, in a
process of its own (cmkd/operations/calibration.py). On processors as many of these run beside each
other as the suite's runs will, since processors share caches and memory.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cmkd.errors import ConfigError, RunError
from cmkd.operations import devices
from cmkd.plan import calibration, costs, names, work
from cmkd.plan.calibration import Measurement
from cmkd.plan.measured import middle
from cmkd.plan.suites import Suite
from cmkd.progress import progress

SECONDS = 15.0  # of training that are measured of each kind of work, at least two epochs of it
LONGEST = 300  # seconds after which a measurement is given up
ROWS = 4  # batches of training clips
CROWDED = 0.1  # share of the processors that other work may take without a word
PARTS = ("boot", "start", "first", "later", "score", "again", "taken")


def calibrate(suites: Sequence[Suite], at_once: int | None, seconds: float = SECONDS) -> Path:
    """Measure every kind of work that the suites hold, store it and return the file.

    Args:
        suites: their runs are measured, one of each kind of work.
        at_once: how many run beside each other; None for as many as the processors hold, one where
            the work is done by a GPU.
        seconds: of training that are measured of each.

    Raises RunError where a measurement fails.
    """
    kinds = {work.of_run(suite, d, run): (suite, d, run) for suite, d, run in _runs(suites)}
    found = [
        _measure(likeness, *kinds[likeness], at_once, seconds)
        for likeness in progress(list(kinds), len(kinds), "calibration")
    ]
    taken = middle([one.taken for one in found])
    if taken > CROWDED:
        print(
            f"note: other work took {taken:.0%} of the processors meanwhile; the processor's own "
            "seconds were counted, but a quiet machine gives better ones",
            file=sys.stderr,
        )
    return calibration.add(found)


def _runs(suites: Iterable[Suite]) -> Iterable[tuple[Suite, str, str]]:
    """Yield every run of every suite, each once a suite."""
    for suite in suites:
        for dataset, run in dict.fromkeys((job.dataset, job.run) for job in suite.jobs()):
            yield suite, dataset, run


def _measure(
    likeness: str, suite: Suite, dataset: str, run: str, at_once: int | None, seconds: float
) -> Measurement:
    """Measure one kind of work by some processes beside each other."""
    count = at_once or _places(suite)
    order = json.dumps(_order(suite, dataset, run, seconds))
    with tempfile.TemporaryDirectory(prefix="cmkd-calibrate-") as folder:
        started = [_start(Path(folder) / str(number), order) for number in range(count)]
        answers = [_answer(process, run) for process in started]
    parts = {part: middle([answer[part] for answer in answers]) for part in PARTS}
    return Measurement(
        likeness=likeness,
        run=f"{dataset}/{run}",
        device=answers[0]["device"],
        at_once=count,
        **parts,
        machine=_machine(),
        versions=answers[0]["versions"],
        time=answers[0]["time"],
    )


def _order(suite: Suite, dataset: str, run: str, seconds: float) -> dict[str, Any]:
    """Return what a measuring process must know, as JSON can hold it."""
    recipe, teacher = suite.recipe(dataset, run), names.parse(run).teacher
    sizes = costs.sizes(suite, dataset)
    if sizes is None:
        raise ConfigError(
            f"nobody knows how long a clip of '{dataset}' is: give it a size in datasets.yaml "
            "({clips: N, seconds: S}), or prepare it first"
        )
    return {
        "recipe": recipe.text,
        "teacher": suite.recipe(dataset, teacher).text if teacher else None,
        "classes": list(suite.dataset(dataset)["classes"]),
        "folds": bool(suite.dataset(dataset).get("folds")),
        "clips": max(2, min(int(sizes.train), ROWS * recipe.values["training"]["batch"])),
        "validated": sizes.val > 0,
        "clip_seconds": sizes.seconds,
        "execution": {**suite.execution, "gpus": 1},
        "seconds": seconds,
    }


def _places(suite: Suite) -> int:
    """Return how many runs work beside each other here: one on a GPU, else as processors allow."""
    wanted = str(suite.execution["device"])
    if wanted.startswith("cuda") or (wanted == "auto" and devices.visible()):
        return 1
    return max(1, len(os.sched_getaffinity(0)) // int(suite.execution["threads"]))


def _start(folder: Path, order: str) -> subprocess.Popen[str]:
    """Start a measuring process, which works in a folder of its own."""
    folder.mkdir()
    command = [sys.executable, "-m", "cmkd.operations.calibration", str(folder), str(time.time())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(order)
    process.stdin.close()
    process.stdin = None
    return process


def _answer(process: subprocess.Popen[str], run: str) -> dict[str, Any]:
    """Wait for a measuring process; RunError with its last words where it fails or takes long."""
    try:
        out, error = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RunError(f"{run}: no step was done within {LONGEST} s on this device") from None
    if process.returncode:
        last = (error.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"{run} cannot be measured on this device: {last}")
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


def _machine() -> str:
    """Return what processor this is, and its host."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return f"{found.group(1) if found else platform.machine()}, {platform.node()}"
