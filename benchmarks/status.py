"""Seconds of `cmkd status` on a suite of thousands of runs while others write (wanted: under 3 s).

    python benchmarks/status.py [--datasets 5] [--names 40] [--folds 5] [--seeds 5] [--folder DIR]

Makes a suite of 12 models (40 runs a fold and seed, students among them) with run folders as real
ones are: every file, with its size; weights of 20 MB are holes in the file, which nobody reads. Of
the runs 96 % are done, 20 are at work (a writer replaces their lease and progress all the time),
20 have failed, 20 were killed; the rest has not begun. The verb is called as a user does, in a
process of its own: with all files in memory, with other processes at work on every core, and, where
this may be done (root), after the kernel's caches were dropped.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from cmkd import files
from cmkd.plan import suites
from cmkd.plan.suites import Job, Suite

MODELS = (
    *("effnet_b0", "effnet_b2", "densenet121", "mobilenetv2", "resnet50", "convnext_tiny"),
    *("ast_tiny", "ast_tiny_s16", "ast_small", "ast_small_s16", "ast_base", "ast_base_s16"),
)
CACHES = Path("/proc/sys/vm/drop_caches")
WEIGHTS = 20_000_000
AT_WORK = FAILED = KILLED = 20
TIMES = 5


def suite(folder: Path, chosen: argparse.Namespace) -> Path:
    """Write the suite and its catalogue; return the suite's file."""
    shutil.copytree(files.checkout() / "config", folder / "config")
    listed = yaml.safe_load((folder / "config" / "datasets.yaml").read_text())
    names = [f"data_{number}" for number in range(chosen.datasets)]
    folds = list(range(1, chosen.folds + 1))
    listed |= {name: {**listed["esc10"], "folds": folds} for name in names}
    (folder / "config" / "datasets.yaml").write_text(yaml.safe_dump(listed))
    taught = (f"{a}@{b}" for a, b in itertools.product(MODELS, repeat=2) if a != b)
    config = {
        "datasets": names,
        "models": list(MODELS),
        "pairs": [*MODELS, *itertools.islice(taught, chosen.names - len(MODELS))],
        "seeds": list(range(chosen.seeds)),
    }
    path = folder / "config" / "many.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def prepared(found: Suite) -> None:
    """Write the prepared data sets' small files."""
    for dataset in found.datasets:
        folder = found.prepared_folder(dataset)
        folder.mkdir(parents=True)
        for name in ("manifest.csv", "clips.bin", "clips.csv"):
            (folder / name).write_text("x")
            files.sidecar(folder / name).write_text("0" * 64 + "\n")
        (folder / "recipe.yaml").write_text(found.data_recipe(dataset).text)
    for job in found.jobs():
        path = found.statistics(job)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"manifest": "0" * 64, "mean": -5.0, "std": 4.0}))
            files.sidecar(path).write_text("1" * 64 + "\n")


def finished(found: Suite, job: Job) -> None:
    """Write every file of a finished run, as large as a real one's."""
    folder, recipe = found.folder(job), found.recipe(job.dataset, job.run)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.text)
    made_from = {"format": 1, "fold": job.fold, "seed": job.seed, "teacher": None, "initial": None}
    put(folder / "inputs.json", made_from | {"manifest": "0" * 64, "statistics": "1" * 64})
    with open(folder / "weights.safetensors", "wb") as file:
        file.truncate(WEIGHTS)
    (folder / "history.csv").write_text("x" * 9000)
    cost = {"format": 1, "device": "gpu", "seconds": {"total": 1234.5}, "versions": "x" * 700}
    put(folder / "cost.json", cost)
    (folder / "scores.npz").write_bytes(bytes(16000))
    put(folder / "cost-evaluate.json", {**cost, "seconds": {"total": 12.3}})
    metrics = {"format": 1, "recipe": recipe.digest, "weights": "2" * 64, "value": 0.9}
    put(folder / "metrics.json", {**metrics, "readouts": {"last": "x" * 500}})
    log(found, job, f"train {folder}: done, 1234.5 s in all\n")


def log(found: Suite, job: Job, text: str) -> None:
    """Write a run's log."""
    folder = found.results / "logs" / "train" / job.dataset / job.run / f"fold-{job.fold}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{job.seed}.log").write_text(text)


def put(path: Path, value: Any) -> None:
    """Write JSON without waiting for the disk."""
    path.write_text(json.dumps(value, indent=2))


def at_work(found: Suite, job: Job, beat: int) -> None:
    """Write what a training at work writes, whole or not at all."""
    state = found.folder(job) / "state"
    state.mkdir(parents=True, exist_ok=True)
    now = time.time()
    lease = {"format": 1, "token": "ab", "host": "node1", "pid": 1, "job": str(beat), "beat": beat,
             "stage": "train", "began": now, "heartbeat": now, "every": 10}  # fmt: skip
    progress = {"format": 1, "stage": "train", "recipe": found.recipe(job.dataset, job.run).digest,
                "epoch": 3, "epochs": 25, "step": beat, "steps": 1000, "loss": 0.5,
                "clips_per_second": 812.4, "seconds_left": 1800.0, "time": now}  # fmt: skip
    for name, value in (("lease.json", lease), ("progress.json", progress)):
        put(state / f".new-{name}", value)
        (state / f".new-{name}").replace(state / name)


def ended(found: Suite, job: Job, killed: bool) -> None:
    """Write what a failed or a killed training leaves."""
    at_work(found, job, 1)
    state = found.folder(job) / "state"
    if killed:
        os.utime(state / "lease.json", (1, 1))
        os.utime(state / "progress.json", (1, 1))
        return
    (state / "lease.json").unlink()
    failure = {"format": 1, "kind": "non-finite", "stage": "train", "message": "the loss is nan"}
    put(state / "failure.json", failure | {"recipe": found.recipe(job.dataset, job.run).digest})


def build(path: Path) -> list[Job]:
    """Make the tree; return the jobs at work."""
    found = suites.load(path)
    prepared(found)
    # A suite is worked off fold by fold and seed by seed rather than name by name.
    jobs = sorted(found.jobs(), key=lambda job: (job.seed, job.fold))
    others = len(jobs) - int(0.96 * len(jobs))
    done, rest = jobs[:-others], jobs[-others:]
    for job in done:
        finished(found, job)
    for job in rest[AT_WORK : AT_WORK + FAILED]:
        ended(found, job, killed=False)
    for job in rest[AT_WORK + FAILED : AT_WORK + FAILED + KILLED]:
        ended(found, job, killed=True)
    return rest[:AT_WORK]


def keep_writing(path: Path, jobs: list[Job]) -> None:
    """Beat for all jobs at work, again and again, until the process is ended."""
    found = suites.load(path)
    for beat in itertools.count():
        for job in jobs:
            at_work(found, job, beat)
        time.sleep(0.2)


def spin(*_: Any) -> None:
    """Keep a core busy."""
    while True:
        sum(range(100_000))


def once(arguments: list[str]) -> tuple[float, float, str]:
    """Return wall and processor seconds of one call, and what it said."""
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cmkd.cli", "status", *arguments], capture_output=True, text=True
    )
    wall, after = time.monotonic() - began, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    spent = after.children_user - before.children_user
    return wall, spent + after.children_system - before.children_system, done.stdout


@contextlib.contextmanager
def others(count: int, target: Any, *arguments: Any) -> Any:
    """Run processes beside, and end them."""
    started = [multiprocessing.Process(target=target, args=arguments) for _ in range(count)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def measure(path: Path, jobs: list[Job]) -> None:
    """Print a line for each way of calling."""
    with others(1, keep_writing, path, jobs):
        time.sleep(1)
        report("files in memory", [str(path)])
        report("files in memory, --json", [str(path), "--json"])
        report("files in memory, --all", [str(path), "--all"])
        with others(os.cpu_count() or 1, spin):
            report("every core busy with others", [str(path)])
        if os.access(CACHES, os.W_OK):
            report("caches dropped", [str(path)], drop=True)
        else:
            print("caches dropped                not measured: needs root")


def report(name: str, arguments: list[str], drop: bool = False) -> None:
    """Print the median and the longest of a few calls."""
    found = []
    for _ in range(TIMES):
        if drop:
            os.sync()
            try:
                CACHES.write_text("3")
            except OSError as error:
                print(f"{name:<30}not measured: {error.strerror}")
                return
        found.append(once(arguments))
    walls = sorted(wall for wall, _, _ in found)
    spent = sorted(cpu for _, cpu, _ in found)[TIMES // 2]
    load = os.getloadavg()[0]
    print(f"{name:<30}{walls[TIMES // 2]:.2f} s (longest {walls[-1]:.2f}), {spent:.2f} s CPU, "
          f"load {load:.1f}", flush=True)  # fmt: skip


def main() -> None:
    """Build, measure, remove."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("datasets", 5), ("names", 40), ("folds", 5), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, help="where the tree is made (default: temporary)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            (str(files.checkout()), os.environ.get("PYTHONPATH", ""))
        )
        os.chdir(name)
        path = suite(Path(name), chosen)
        jobs = build(path)
        print(f"{len(suites.load(path).jobs())} runs on {os.cpu_count()} cores", flush=True)
        print(once([str(path)])[2][:1500])
        measure(path, jobs)


if __name__ == "__main__":
    main()
