"""What `cmkd plan` says against what a suite then takes: python benchmarks/plan_check.py DATA_ROOT

On a quiet machine: calibrates, predicts every pair of fold 1 of the suite of ESC-10 (12 trainings,
about 12 minutes on two cores), runs them, and prints predicted against measured: device seconds of
every run as its cost files have them, their sum, and the wall time. Works in a folder of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml
from scratch import ROOT, checkout

from cmkd.operations import calibrate
from cmkd.plan import suites
from cmkd.plan.forecast import forecasts, makespan
from cmkd.plan.measured import FILES
from cmkd.plan.preview import render
from cmkd.plan.suites import Job, Suite

SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def main() -> None:
    """Print predicted against measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_root", type=Path, help="folder of ESC-50's recordings")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--model", action="append", help="only these models (to be repeated)")
    chosen = parser.parse_args()
    with checkout() as root:
        _check(_suite(root, chosen.data_root.resolve(), chosen.model), chosen.cores)


def _suite(root: Path, recordings: Path, models: list[str] | None) -> Suite:
    """Write and load the suite of one fold, in the same results as the whole one."""
    path = root / "config" / "esc10.yaml"
    whole = yaml.safe_load(path.read_text()) | {"folds": [1], "data_root": str(recordings)}
    path.write_text(yaml.safe_dump(whole | ({"models": models} if models else {})))
    return suites.load(path)


def _check(suite: Suite, cores: int) -> None:
    """Calibrate, predict, run and compare."""
    print(f"load {os.getloadavg()[0]:.1f} before the calibration", flush=True)
    began = time.time()
    calibrate.calibrate([suite], cores)
    print(f"calibrated in {time.time() - began:.0f} s")
    (found,) = forecasts([suite])
    print(render([found], cores), flush=True)
    predicted = {job: found.prices.of(job.dataset, job.run).seconds for job in suite.jobs()}
    wall = makespan(found.tasks(), cores)
    command = [SNAKEMAKE, "--cores", str(cores), "--configfile", "config/esc10.yaml", "-q", "all"]
    # The clips first: their time is no part of the prediction.
    statistics = [str(suite.statistics(job)) for job in suite.jobs()]
    _run([*command, "--", *dict.fromkeys(statistics)])
    print(f"load {os.getloadavg()[0]:.1f} before the trainings", flush=True)
    began = time.time()
    _run(command)
    took = time.time() - began
    print(f"load {os.getloadavg()[0]:.1f} after the trainings")
    _compare(suite, predicted, wall, took)


def _run(command: list[str | Path]) -> None:
    """Run Snakemake."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{SNAKEMAKE.parent}:{environment['PATH']}"
    subprocess.run([str(part) for part in command], env=environment, check=True)


def _compare(suite: Suite, predicted: dict[Job, float], wall: float, took: float) -> None:
    """Print the comparison, run by run and in sum."""
    measured = {job: _seconds(suite.folder(job)) for job in suite.jobs()}
    print(f"{'run':30}{'predicted':>10}{'measured':>10} s   off")
    for job, seconds in measured.items():
        print(f"{job.run:30}{_numbers(predicted[job], seconds)}")
    print(f"{'device seconds':30}{_numbers(sum(predicted.values()), sum(measured.values()))}")
    print(f"{'wall time (with the tables)':30}{_numbers(wall, took)}")


def _numbers(predicted: float, measured: float) -> str:
    """Return two numbers and how far the first is off."""
    return f"{predicted:10.1f}{measured:10.1f}   {predicted / measured - 1:+.0%}"


def _seconds(folder: Path) -> float:
    """Return what a run's cost files say."""
    costs = [json.loads((folder / name).read_text()) for name in FILES.values()]
    return float(sum(cost["seconds"]["total"] for cost in costs))


if __name__ == "__main__":
    main()
