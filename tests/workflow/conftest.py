"""A clone in a folder with a space, whose whole DAG was run once with fake verbs."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLONED = ("Snakefile", "workflow", "profiles", "slurm", "config", "cmkd", "pyproject.toml")
SUITE = {
    "datasets": ["toy"],
    "models": ["small_cnn", "small_ast"],
    "pairs": ["alone", "cross", "self"],
    "folds": [1, 2],
    "seeds": [0],
}
JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", re.MULTILINE)
WILDCARDS = re.compile(r"^    wildcards: (.*)$", re.MULTILINE)


class _Dumper(yaml.SafeDumper):
    """PyYAML's own, without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Clone:
    """A checkout in a temporary folder, with fake verbs on its PATH."""

    def __init__(self, root: Path, fakes: Path) -> None:
        self.root = root
        self.fakes = fakes
        self.log = root / "calls.jsonl"

    def snakemake(self, *arguments: str, suite: str | None = "suite", **environment: str) -> Any:
        """Run Snakemake in the clone; the answer's stdout holds both streams."""
        process = self.start(*arguments, suite=suite, **environment)
        text, _ = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, text)

    def start(self, *arguments: str, suite: str | None = "suite", **environment: str) -> Any:
        """Start Snakemake in the clone."""
        chosen = ["--configfile", f"config/{suite}.yaml"] if suite else []
        command = [str(Path(sys.executable).parent / "snakemake"), *arguments, *chosen, "--nocolor"]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def cmkd(self, *arguments: Any, **environment: str) -> None:
        """Call a fake verb in the clone."""
        command = [self.fakes / "cmkd", *arguments]
        subprocess.run(command, cwd=self.root, env=self.environment(**environment), check=True)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the clone's commands."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
        path = os.pathsep.join((str(self.fakes), kept["PATH"]))
        own = {"PATH": path, "PYTHONPATH": str(self.root), "FAKE_LOG": str(self.log)}
        return kept | own | {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"} | more

    def run(self, *arguments: str, **options: Any) -> str:
        """Run the suite; it must succeed."""
        done = self.snakemake("--cores", "2", *arguments, **options)
        assert done.returncode == 0, done.stdout
        return str(done.stdout)

    def plan(self, *arguments: str, **options: Any) -> list[tuple[str, ...]]:
        """Return the planned jobs, sorted: ("train", "small_cnn", "1"), ("prepare", "toy") ..."""
        text = self.run("-n", *arguments, **options)
        jobs = sorted(_job(rule, body) for rule, body in JOB.findall(text))
        assert jobs or "Nothing to be done" in text, text
        return [job for job in jobs if job[0] not in ("default", "all")]

    def calls(self, verb: str) -> list[list[str]]:
        """Return the calls of a verb so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [call for call in map(json.loads, lines) if call[0] == verb]

    def edit(self, file: str, *path: str, to: Any) -> None:
        """Set one value in a file of config/."""
        where = self.root / "config" / f"{file}.yaml"
        whole = node = yaml.safe_load(where.read_text())
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = to
        where.write_text(yaml.dump(whole, Dumper=_Dumper))

    def folder(self, run: str, fold: int = 1) -> Path:
        """Return a run's folder."""
        return self.root / f"results/runs/toy/{run}/fold-{fold}/seed-0"

    def copy(self, to: Path) -> "Clone":
        """Copy everything with its times."""
        shutil.copytree(self.root, to, symlinks=True)
        return Clone(to, self.fakes)


def _job(rule: str, body: str) -> tuple[str, ...]:
    """Return a planned job as a tuple: its rule, then its run or dataset, then its fold."""
    found = WILDCARDS.search(body)
    pairs = (pair.split("=", 1) for pair in found.group(1).split(", ")) if found else ()
    names = dict(pairs)
    run = names.get("run", names.get("link"))
    run = f"{run}@{names['teacher']}" if "teacher" in names else run
    subject = run or names.get("dataset")
    return tuple(part for part in (rule, subject, names.get("fold")) if part is not None)


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `cmkd` that only writes files."""
    folder = tmp_path_factory.mktemp("fakes")
    program = Path(__file__).parent / "fake_cmkd.py"
    executable(folder / "cmkd", f'#!/bin/sh\nexec "{sys.executable}" -IS "{program}" "$@"\n')
    return folder


@pytest.fixture(scope="session")
def _clean(tmp_path_factory: pytest.TempPathFactory, fakes: Path) -> Clone:
    """A clone with nothing made."""
    root = tmp_path_factory.mktemp("clean") / "a clone"
    root.mkdir()
    bytecode = shutil.ignore_patterns("__pycache__")
    for name in CLONED:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / name, ignore=bytecode, symlinks=True)
        else:
            shutil.copy2(source, root / name, follow_symlinks=False)
    (root / "config" / "suite.yaml").write_text(json.dumps(SUITE))
    return Clone(root, fakes)


@pytest.fixture(scope="session")
def _finished(_clean: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose suite was run."""
    clone = _clean.copy(tmp_path_factory.mktemp("finished") / "a clone")
    clone.run()
    return clone


@pytest.fixture
def clean(_clean: Clone, tmp_path: Path) -> Clone:
    """A clone of one's own with nothing made."""
    return _clean.copy(tmp_path / "a clean clone")


@pytest.fixture
def finished(_finished: Clone, tmp_path: Path) -> Clone:
    """A clone of one's own whose suite was run."""
    return _finished.copy(tmp_path / "a clone")


@pytest.fixture(scope="session")
def count() -> Any:
    """Return a function that counts planned jobs by rule."""
    return lambda plan: dict(Counter(job[0] for job in plan))
