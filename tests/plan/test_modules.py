"""Modules found without importing them, and the literals that they say to configuration."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import modules, objectives
from cmkd.plan.recipes import BUILDERS


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty package that is searched instead of cmkd's."""
    folder = tmp_path / "cmkd" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setattr(modules, "PACKAGE", tmp_path / "cmkd")
    modules.literals.cache_clear()
    yield folder
    modules.literals.cache_clear()


def read(*names: str) -> dict:
    return {
        k: dict(v) for k, v in modules.literals("models", "build", names or ("OPTIONS",)).items()
    }


def test_a_module_is_found_by_its_function(package: Path) -> None:
    (package / "mine.py").write_text("import nowhere\n\ndef build(part):\n    pass\n")
    (package / "other.py").write_text("def built(part):\n    pass\n    def build(): pass\n")
    (package / "build.py").write_text("def build(part):\n    pass\n")
    assert modules.named("models", "build") == {"mine"}
    assert read() == {"mine": {}}


@pytest.mark.parametrize(
    "text",
    [
        'OPTIONS = ("a", "b")',
        'OPTIONS = ("a",  # one\n    "b")',
        'OPTIONS = (\n    "a",\n\n    "b",\n)  # two',
        'OPTIONS: tuple[str, ...] = ("a", "b")',
        'A = 1\nOPTIONS = ("a", "b")\nOPTION = 3',
    ],
)
def test_literals_however_they_are_laid_out(package: Path, text: str) -> None:
    (package / "mine.py").write_text(
        f'"""OPTIONS = 3"""\n\n{text}\n\n\ndef build():\n    OPTIONS = 1\n'
    )
    assert read() == {"mine": {"OPTIONS": ("a", "b")}}


def test_what_has_to_be_run_is_refused_with_its_file(package: Path) -> None:
    (package / "mine.py").write_text("KEYS = ('a',)\nOPTIONS = (*KEYS, 'b')\ndef build(): ...\n")
    with pytest.raises(ConfigError, match="cmkd/models/mine.py: OPTIONS is read without running"):
        read()


def test_builders_have_the_options_that_they_had() -> None:
    assert {name: set(BUILDERS[name]) for name in ("cnn", "small_cnn", "ast")} == {
        "cnn": {"backbone", "head", "heads", "stem", "drop_path", "dropout"},
        "small_cnn": {"widths", "head", "heads", "dropout"},
        "ast": {
            *("trunk", "dim", "depth", "heads", "patch", "stride", "token", "stem"),
            *("drop_path", "dropout"),
        },
    }
    assert set(BUILDERS) == modules.named("models", "build")


def test_objectives_are_found_without_torch() -> None:
    assert set(objectives.known()) >= {"alone", "distill", "dkd", "logit_std", "dist", "mld"}
    code = (
        "import sys; from cmkd.plan import objectives; objectives.known(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_builder_that_says_it_computes_something_else_makes_its_runs_stale(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {run: bench.load().recipe("birds", run) for run in ("a", "b", "b@a")}
    true = modules.literals

    def raised(package: str, function: str, names: tuple[str, ...]) -> Any:
        found = dict(true(package, function, names))
        if names == ("BEHAVIOUR",) and package == "models":
            found["small_cnn"] = {"BEHAVIOUR": 2}
        return found

    monkeypatch.setattr(modules, "literals", raised)
    after = {run: bench.load().recipe("birds", run) for run in before}
    assert after["a"].values["model"]["code"] == 2
    changed = {run for run in before if before[run].digest != after[run].digest}
    assert changed == {"a", "b@a"}  # the student follows its teacher


def test_behaviour_stands_in_the_module(package: Path) -> None:
    (package / "mine.py").write_text("BEHAVIOUR = 3\n\n\ndef build():\n    pass\n")
    assert read("BEHAVIOUR") == {"mine": {"BEHAVIOUR": 3}}
