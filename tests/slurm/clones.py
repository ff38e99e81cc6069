"""A checkout whose default suite is cut to demo size, and Snakemake running in it."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

ROOT = Path(__file__).parents[2]
CLONED = ("Snakefile", "workflow", "profiles", "slurm", "config", "cmkd", "pyproject.toml")
FAKE = ROOT / "tests" / "workflow" / "fake_cmkd.py"
CLASSES = yaml.safe_load((ROOT / "config" / "datasets.yaml").read_text())["esc50"]["classes"]
RATE = 44100
# Of config/config.yaml these keys are changed, and no others.
SMALL = {
    "models": ["small_cnn", "small_ast"],
    "pairs": ["alone", "cross"],
    "folds": [1],
    "seeds": [0],
    "results": "results/small",
    "data_root": "recordings/ESC-50-master",
    "set": {
        "input": {"frames": 128},
        "training": {"epochs": 2, "batch": 24, "average": [1, 2]},
    },
}
# What a site fills into the form, and shorter waits than a real night needs.
FORM = {
    "latency-wait": 10,
    "slurm-init-seconds-before-status-checks": 2,
    "max-status-checks-per-second": 1,
}


class Clone:
    """A checkout in a folder of its own, and a cluster to run on."""

    def __init__(self, root: Path, machine: Any, fakes: Path | None = None) -> None:
        """`fakes` is a folder with a `cmkd` that comes before the real one."""
        self.root = root
        self.machine = machine
        self.fakes = fakes
        self.log = root / "calls.jsonl"
        self._started: list[subprocess.Popen[str]] = []

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the clone's commands: its own code, its own cluster."""
        found: dict[str, str] = self.machine.environment
        kept = {name: value for name, value in found.items() if not name.startswith("CMKD_INV")}
        if self.fakes:
            kept["PATH"] = os.pathsep.join((str(self.fakes), kept["PATH"]))
        own = {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        return kept | own | {"FAKE_LOG": str(self.log)} | more

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start Snakemake in the clone, in a process group of its own; see `text` for its words."""
        number = len(self._started)
        with open(self.root / f"snakemake-{number}.out", "w") as out:
            process = subprocess.Popen(
                ["snakemake", *(arguments or ("--cores", "all", "--profile", "slurm"))],
                cwd=self.root,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def text(self, process: "subprocess.Popen[str]") -> str:
        """Return what a started Snakemake has said so far, both streams."""
        number = self._started.index(process)
        return (self.root / f"snakemake-{number}.out").read_text()

    def finish(self, process: "subprocess.Popen[str]", timeout: float = 300) -> str:
        """Wait for a started Snakemake and return what it said; a hang fails with the state."""
        try:
            process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            message = f"Snakemake was not done after {timeout:.0f} s:\n{self.text(process)}"
            raise AssertionError(f"{message}\n{self.machine.tell()}") from None
        return self.text(process)

    def snakemake(
        self, *arguments: str, timeout: float = 300, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run Snakemake, by default `--cores all --profile slurm`; stdout holds both streams."""
        process = self.start(*arguments, **environment)
        text = self.finish(process, timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, text)

    def cmkd(self, *arguments: object, timeout: float = 200) -> str:
        """Run a verb in the clone, here and not on the cluster, and return what it said."""
        command = ("cmkd", *map(str, arguments))
        own = self.environment()
        text: str = self.machine.run(*command, cwd=self.root, timeout=timeout, environment=own)
        return text

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def edit(self, file: str, changes: dict[str, Any]) -> None:
        """Set keys of a YAML file of the clone, such as config/config.yaml."""
        path = self.root / file
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def profile(self, **resources: dict[str, Any]) -> None:
        """Set resources of rules in the Slurm profile: profile(train={"runtime": 1})."""
        path = self.root / "profiles" / "slurm" / "config.yaml"
        rules = yaml.safe_load(path.read_text())["set-resources"]
        for rule, changes in resources.items():
            rules[rule] = rules.get(rule, {}) | changes
        self.edit("profiles/slurm/config.yaml", {"set-resources": rules})

    def folder(self, run: str, fold: int = 1, seed: int = 0, dataset: str = "esc50") -> Path:
        """Return a run's folder."""
        return self.root / f"results/small/runs/{dataset}/{run}/fold-{fold}/seed-{seed}"


def checkout(root: Path) -> None:
    """Copy what a checkout needs to run, with the form of profiles/slurm filled in for tests."""
    root.mkdir(parents=True)
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in CLONED:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / name, ignore=unwanted, symlinks=True)
        else:
            shutil.copy2(source, root / name, follow_symlinks=False)


def recordings(root: Path) -> None:
    """Write 250 clips of a second in ESC-50's published layout: one a class and fold."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    header = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    lines = [_line(fold, target) for fold in range(1, 6) for target in range(len(CLASSES))]
    with open(root / "meta" / "esc50.csv", "w", newline="") as file:
        csv.writer(file).writerows((header, *lines))
    for name, fold, target, *_ in lines:
        soundfile.write(root / "audio" / name, _sound(fold, target), RATE, subtype="PCM_16")


def _line(fold: int, target: int) -> tuple[Any, ...]:
    """Return one line of the published table."""
    source = 1000 * fold + target
    return (f"{fold}-{source}-A-{target}.wav", fold, target, CLASSES[target], True, source, "A")


def _sound(fold: int, target: int) -> np.ndarray:
    """Return one second of a tone of the class and some noise of the clip."""
    draws = np.random.default_rng((fold, target))
    tone = np.sin(2 * np.pi * 150 * (target + 1) * np.arange(RATE) / RATE)
    return (0.3 * tone + 0.05 * draws.standard_normal(RATE)).astype(np.float32)


def make(root: Path, machine: Any, fake: bool = False, **suite: Any) -> Clone:
    """Return a clone whose default suite is small; `suite` changes keys of it.

    With `fake` the verbs only write files (tests/workflow/fake_cmkd.py), on the data set `toy`.
    """
    checkout(root)
    clone = Clone(root, machine, _fakes(root) if fake else None)
    if fake:
        small = SMALL | {"datasets": ["toy"], "set": {}, "data_root": None}
        small = {key: value for key, value in small.items() if value}
    else:
        small = SMALL
        recordings(root / SMALL["data_root"])
    clone.edit("config/config.yaml", small | suite)
    clone.edit("profiles/slurm/config.yaml", FORM)
    return clone


def _fakes(root: Path) -> Path:
    """Return a folder with a `cmkd` that only writes files."""
    folder = root / "fakes"
    folder.mkdir()
    program = folder / "cmkd"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{FAKE}" "$@"\n')
    program.chmod(0o755)
    return folder
