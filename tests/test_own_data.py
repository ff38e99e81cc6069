"""The README's example of your own data works as written there: sounds, one entry, one suite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cmkd import files
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.plan import suites

ROOT = files.checkout()
CLONED = ("Snakefile", "workflow", "profiles", "config")


@pytest.fixture(scope="module")
def example() -> list[str]:
    """Return the lines of the README's shell block."""
    section = (ROOT / "README.md").read_text().partition("## Bring your own data\n")[2]
    block = re.search(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    assert block is not None
    return block[1].splitlines()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into a copy of what a clone has of configuration and workflow."""
    for name in CLONED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


def shell(lines: list[str]) -> str:
    """Run lines in a shell that stops at the first failure; return what they print."""
    done = subprocess.run(
        ["sh", "-e"], input="\n".join(lines) + "\n", text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_sounds_entry_and_suite_fit_together(example: list[str], clone: Path) -> None:
    shell([line for line in example if not line.startswith(("snakemake ", "cmkd "))])
    suite = suites.load("config/sounds.yaml", {"data_root": "sounds"})
    runs = {"small_cnn", "small_ast", "small_cnn@small_ast"}
    assert {job.run for job in suite.jobs()} == runs and suite.folds("sounds") == (1, 2)
    prepare(suite.data_recipe("sounds").text, Path("out"), suite.root("sounds"), workers=1)
    clips = Clips(Path("out"))
    assert len(clips) == 60 and clips.classes == ("high", "low")
    for fold in (1, 2):
        assert clips.labels[clips.subset(fold, "test")].sum(axis=0).tolist() == [15, 15]


@pytest.mark.slow
def test_it_runs_as_written(example: list[str], clone: Path) -> None:
    printed = shell(example)
    for run in ("small_cnn", "small_ast", "small_cnn@small_ast"):
        assert re.search(rf"^ *\S+ +{run} .* 2/2 ", printed, re.MULTILINE), printed
    assert (clone / "results/sounds/tables/sounds/leaderboard.html").is_file()
