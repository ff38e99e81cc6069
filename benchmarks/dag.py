"""The DAG at size, and what a Slurm job costs beside its verb: python benchmarks/dag.py [--quick]

Suites of 1,000 to 5,000 trainings (20 runs, 5 folds) in a checkout of their own, with folders as
finished runs leave them: `snakemake -n` with nothing done, everything done, and one model's
learning rate changed. User and system CPU and wall seconds, medians; a line through them and how
far it is off. Then the job that the Slurm plugin submits, with stand-ins for sbatch, srun and the
verb: it starts Snakemake twice, and that is what is counted.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from scratch import ROOT, checkout

from cmkd.plan import agreement, suites

SNAKEMAKE = Path(sys.executable).parent / "snakemake"
SIZES = (1000, 2000, 3500, 5000)
RUNS, FOLDS = 20, 5
VARIANTS = ("lambda0", "lambda025", "lambda075", "lambda1", "tau05", "tau2", "tau4", "clean")
SUITE = {
    "datasets": ["esc50"],
    "models": ["effnet_b0", "effnet_b0_att", "ast_tiny"],
    "data_root": "recordings",
}
SBATCH = """#!{python}
import json, os, sys
with open(os.environ["CAUGHT"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + chr(10))
sys.exit("caught")
"""
SRUN = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n'
VERB = """#!/bin/sh
# Leaves what Snakemake looks for behind a training.
while [ "$1" != --run ]; do shift; done
mkdir -p "$2"
for name in {names}; do echo > "$2/$name"; done
"""
Cost = tuple[float, float, float]  # user and system CPU seconds, wall seconds


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 trainings once, and a job")
    parser.add_argument("--times", type=int, default=3, help="of which the median is taken")
    chosen = parser.parse_args()
    sizes, times = ((2000,), 1) if chosen.quick else (SIZES, chosen.times)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start", flush=True)
    with checkout() as root:
        _planning(root, sizes, times)
        _job(root, max(times, 3))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


# -------------------------------------------------------------------------------------------- plans


def _planning(root: Path, sizes: tuple[int, ...], times: int) -> None:
    """Print the cost of a dry run for each size and state of the suite."""
    states: dict[str, Callable[[Path, int], None]] = {
        "nothing done": lambda root, size: None,
        "all done": _finish,
        "one model's rate changed": _change,
    }
    found: dict[str, list[Cost]] = {state: [] for state in states}
    print(f"{'snakemake -n':26}{'trainings':>9}{'jobs':>7}{'user':>8}{'system':>8}{'wall':>8} s")
    for size in sizes:
        suite(root, size)
        for state, change in states.items():
            change(root, size)
            jobs, cost = _dry_run(times)
            found[state].append(cost)
            numbers = "".join(f"{value:8.1f}" for value in cost)
            print(f"{state:26}{size:9}{jobs:7}{numbers}", flush=True)
        shutil.rmtree(root / "results")
        shutil.copy2(ROOT / "config" / "models.yaml", root / "config" / "models.yaml")
    if len(sizes) > 2:
        for state, costs in found.items():
            _line(state, sizes, costs)


def suite(root: Path, size: int) -> None:
    """Write a suite of so many trainings: its seeds make the number."""
    seeds = size // (RUNS * FOLDS)
    teaching = [f"ast_tiny+{word}@effnet_b0" for word in VARIANTS]
    pairs = ["alone", "cross", "same", "self", *teaching]
    whole = SUITE | {"pairs": pairs, "seeds": list(range(seeds))}
    (root / "config" / "size.yaml").write_text(yaml.safe_dump(whole))
    found = suites.load(root / "config" / "size.yaml")
    assert len(found.jobs()) == size, len(found.jobs())


def _dry_run(times: int) -> tuple[int, Cost]:
    """Return the planned jobs and the median cost of planning them."""
    command = [SNAKEMAKE, "-n", "-q", "rules", "--cores", "2", "--configfile", "config/size.yaml"]
    costs, text = [], ""
    for _ in range(times):
        cost, text = spend([str(part) for part in command])
        costs.append(cost)
    totals = [line.split()[1] for line in text.splitlines() if line.startswith("total ")]
    return int(totals[0]) if totals else 0, _median(costs)


def _finish(root: Path, size: int) -> None:
    """Leave the files of finished runs, one after the other as they come to be."""
    found = suites.load(root / "config" / "size.yaml")
    prepared = found.prepared_folder("esc50")
    for name in agreement.PREPARED:
        _put(prepared / name, name)
    manifest = hashlib.sha256(b"manifest.csv").hexdigest()
    _put(prepared / "manifest.csv.sha256", manifest)
    _put(prepared / "recipe.yaml", found.data_recipe("esc50").text)
    statistics_text = json.dumps({"manifest": manifest})
    digest = hashlib.sha256(statistics_text.encode()).hexdigest()
    for path in {found.statistics(job) for job in found.jobs()}:
        _put(path, statistics_text)
        _put(Path(f"{path}.sha256"), digest)
    for job in found.jobs():
        folder = found.folder(job)
        inputs = {"fold": job.fold, "seed": job.seed, "manifest": manifest, "statistics": digest}
        for name in (*agreement.TRAINED, *agreement.EVALUATED):
            _put(folder / name, "{}")
        _put(folder / "inputs.json", json.dumps(inputs))
        _put(folder / "recipe.yaml", found.recipe(job.dataset, job.run).text)
    # Scores after all weights, whatever order the folders were written in.
    for job in found.jobs():
        for name in agreement.EVALUATED:
            os.utime(found.folder(job) / name)


def _change(root: Path, size: int) -> None:
    """Give one model another learning rate: its runs and its students run again."""
    path = root / "config" / "models.yaml"
    models = yaml.safe_load(path.read_text())
    models["effnet_b0"]["recipe"]["training"] = {"lr": 0.123}
    path.write_text(yaml.safe_dump(models))


def _put(path: Path, text: str) -> None:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _line(state: str, sizes: tuple[int, ...], costs: list[Cost]) -> None:
    """Print the line through the user CPU and how far the worst size lies from it."""
    user = np.array([cost[0] for cost in costs])
    slope, start = np.polyfit(sizes, user, 1)
    off = np.abs(user / (start + slope * np.array(sizes)) - 1).max()
    print(
        f"{state}: {start:.1f} s + {1000 * slope:.2f} s a 1,000 trainings (user CPU), "
        f"the farthest size is {off:.0%} off that line"
    )


# ------------------------------------------------------------------------------------- a Slurm job


def _job(root: Path, times: int) -> None:
    """Print the CPU seconds of one submitted job whose verb does nothing, and of bare Snakemake."""
    suite(root, 1000)
    fakes = root / "fakes"
    names = " ".join(agreement.TRAINED)
    programs = dict.fromkeys(("sacct", "scontrol", "sinfo", "squeue", "scancel"), "#!/bin/sh\n")
    programs |= {"sbatch": SBATCH.format(python=sys.executable), "srun": SRUN}
    programs["cmkd"] = VERB.replace("{names}", names)
    for name, text in programs.items():
        _put(fakes / name, text)
        (fakes / name).chmod(0o755)
    _finish(root, 1000)
    found = suites.load(root / "config" / "size.yaml")
    job = found.jobs()[0]
    shutil.rmtree(found.folder(job))
    command = _submitted(root, fakes)
    environment = {**_environment(root, fakes), "SLURM_JOB_ID": "1"}
    costs = []
    for _ in range(times):
        shutil.rmtree(found.folder(job), ignore_errors=True)
        costs.append(spend(["sh", "-c", command], environment)[0])
        assert (found.folder(job) / "weights.safetensors").is_file()
    empty = root / "empty.smk"
    empty.write_text("rule all:\n    shell: 'true'\n")
    bare = [str(SNAKEMAKE), "--list", "--snakefile", str(empty), "--workflow-profile", "none"]
    alone = _median([spend(bare)[0] for _ in range(times)])
    user, system, wall = _median(costs)
    print(f"a Slurm job beside its verb: {user + system:.2f} s CPU, {wall:.1f} s wall")
    print(f"  of it Snakemake's own start, twice: {2 * (alone[0] + alone[1]):.2f} s CPU")


def _submitted(root: Path, fakes: Path) -> str:
    """Return the command of the job that the plugin hands to sbatch."""
    log = root / "caught.jsonl"
    command = [str(SNAKEMAKE), "--cores", "all", "--profile", "profiles/slurm", "--retries", "0"]
    command += ["--slurm-init-seconds-before-status-checks", "1"]
    command += ["--configfile", "config/size.yaml"]
    environment = _environment(root, fakes) | {"CAUGHT": str(log)}
    subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    words = next(call for call in calls if "train" in call[call.index("--comment") + 1])
    text = next(word for word in words if word.startswith("--wrap=")).removeprefix("--wrap=")
    # The job waits for a folder that goes when the Snakemake that submitted it ends.
    for folder in re.findall(r"'([^']*/\.snakemake/tmp\.[^']*)'", text):
        Path(folder).mkdir(exist_ok=True)
    return text


def _environment(root: Path, fakes: Path) -> dict[str, str]:
    """Return an environment in which the stand-ins come first."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    return kept | {"PATH": f"{fakes}:{SNAKEMAKE.parent}:{kept['PATH']}", "PYTHONPATH": str(ROOT)}


# ------------------------------------------------------------------------------------- measuring


def spend(command: list[str], environment: dict[str, str] | None = None) -> tuple[Cost, str]:
    """Run a command and return what it and its children cost, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    cpu = (after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
    return (*cpu, wall), done.stdout


def _median(costs: list[Cost]) -> Cost:
    """Return the median of each number."""
    user, system, wall = (statistics.median(column) for column in zip(*costs, strict=True))
    return user, system, wall


if __name__ == "__main__":
    main()
