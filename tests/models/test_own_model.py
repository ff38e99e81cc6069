"""The README's models of one's own work as written there: one entry; one file and one entry."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = """
from cmkd.plan import suites
from cmkd.plan.catalog import read_yaml

models = {"models": ["small_ast", "regnet_att", "tdnn"], "pairs": ["alone", "tdnn@small_ast"]}
suite = suites.make(read_yaml("config/demo.yaml") | models, "config/demo.yaml")
print(*suite.runs("toy"))
part = suite.recipe("toy", "tdnn").values["model"]
print(*sorted(part))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the package and its configuration with what the README says added."""
    folder = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("cmkd", "config", "workflow/schemas"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    section = (ROOT / "README.md").read_text().partition("## Bring your own model\n")[2]
    section = section.partition("\n## ")[0]
    ((file,), (code,), entries) = (
        re.findall(pattern, section, re.DOTALL)
        for pattern in (r"for example `(\w+\.py)`", r"```python\n(.*?)```", r"```yaml\n(.*?)```")
    )
    known = yaml.safe_load((folder / "config" / "models.yaml").read_text())
    assert not set(yaml.safe_load("".join(entries))) & set(known), "an example must be new"
    assert not (folder / "cmkd" / "models" / file).exists()
    (folder / "cmkd" / "models" / file).write_text(code)
    with (folder / "config" / "models.yaml").open("a") as models:
        models.write("".join(f"\n{entry}" for entry in entries))
    return folder


def python(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_entries_make_runs_and_the_file_gets_its_own_keys_only(copy: Path) -> None:
    runs, keys = python(copy, "-c", CODE).splitlines()
    assert {"regnet_att", "tdnn", "tdnn@small_ast"} <= set(runs.split())
    assert keys.split() == ["behaviour", "builder", "layers", "normalise", "weights", "width"]


def test_the_contract_finds_them(copy: Path) -> None:
    (copy / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow']\n")
    shutil.copy(Path(__file__).with_name("test_contract.py"), copy)
    names = "tdnn or (regnet_att and logits)"
    chosen = ("-k", names, "-p", "no:cacheprovider", "test_contract.py")
    told = python(copy, "-m", "pytest", "-q", *chosen)
    passed = re.search(r"(\d+) passed", told)
    assert passed and int(passed[1]) == 9 + 4, told
