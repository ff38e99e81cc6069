"""The README's objective of one's own works as written there: one file and one variant word."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import torch
import cmkd
from cmkd.learning import objectives
from cmkd.plan import suites
from cmkd.plan.catalog import read_yaml

suite = suites.make(read_yaml("config/demo.yaml") | {"variants": ["logits"]}, "config/demo.yaml")
run = next(run for run in suite.runs("toy") if run.variants)
recipe = suite.recipe("toy", run)
print(cmkd.__file__, run, "scale: 0.5" in recipe.text, "tau" in recipe.values["objective"])
student, teacher = torch.randn(2, 3, requires_grad=True), torch.zeros(2, 3)
options = recipe.values["objective"] | {"labels": "single"}
found = objectives.find("logits")(student, teacher, torch.eye(3)[:2], options)
found.total.backward()
print(torch.isclose(found.soft, 0.5 * student.square().mean()).item(), student.grad.any().item())
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the package and its configuration with what the README says added."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("cmkd", "config", "workflow/schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    section = (ROOT / "README.md").read_text().partition("## Bring your own objective")[2]
    section = section.partition("\n## ")[0]
    ((file,), (code,), (word,)) = (
        re.findall(pattern, section, re.DOTALL)
        for pattern in (r"for example `(\w+\.py)`", r"```python\n(.*?)```", r"```yaml\n(.*?)```")
    )
    (tmp_path / "cmkd" / "learning" / "objectives" / file).write_text(code)
    with (tmp_path / "config" / "variants.yaml").open("a") as variants:
        variants.write(word)
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_file_and_one_word_make_runs_with_its_loss(copy: Path) -> None:
    lines = python(copy, "-c", CODE).splitlines()
    assert lines[0].split()[0] == str(copy / "cmkd" / "__init__.py")
    assert lines[0].split()[1].startswith("small_") and "+logits@" in lines[0]
    assert lines[0].split()[2:] == ["True", "False"]
    assert lines[1] == "True True"


def test_the_contract_finds_it(copy: Path) -> None:
    (copy / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    shutil.copy(Path(__file__).with_name("test_objectives.py"), copy)
    chosen = ("-k", "logits-own", "-p", "no:cacheprovider", "test_objectives.py")
    told = python(copy, "-m", "pytest", "-q", *chosen)
    passed = re.search(r"(\d+) passed", told)
    assert passed and int(passed[1]) > 10, told
