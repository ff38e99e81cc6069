"""The floors of the house, and what importing a floor costs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "pandas", "mlflow", "scipy", "matplotlib", "snakemake", "numpy", "jsonschema")


def loaded_after(statement: str, names: tuple[str, ...] = HEAVY) -> set[str]:
    """Return which of `names` are imported once `statement` has run in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*(n for n in {names!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_floors_hold() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["cmkd.cli", "cmkd.plan.suites", "cmkd.plan.agreement"])
def test_planning_imports_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


@pytest.mark.parametrize("module", ["cmkd.learning.train", "cmkd.scoring.evaluate"])
def test_verbs_of_the_device_machine_need_little(module: str) -> None:
    missing = ("soundfile", "jsonschema", "rich", "pandas", "mlflow", "snakemake", "torchaudio")
    assert loaded_after(f"import {module}", (*missing, "scipy", "timm")) == set()


def test_tables_need_no_torch() -> None:
    assert "torch" not in loaded_after("import cmkd.reports.leaderboard, cmkd.reports.figures")
