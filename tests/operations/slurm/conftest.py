"""What real clusters said (Slurm 22.05), and the profile as it is published."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cmkd.operations.slurm import form, reader, site

ROOT = Path(__file__).parents[3]
RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the answers that `ask` gives: those of no cluster, to be changed by the test."""
    answers: dict[str, Any] = {}

    def ask(*command: str, **_: Any) -> reader.Answer:
        found = answers.get(" ".join(command)) or answers.get(command[0])
        return found if found else reader.Answer(127, "", f"{command[0]}: not there")

    monkeypatch.setattr(reader, "ask", ask)
    user = SimpleNamespace(getuser=lambda: "USER")
    monkeypatch.setattr(reader, "getpass", user)
    monkeypatch.setattr(site, "getpass", user)
    # No root, and a member of no group.
    own = SimpleNamespace(getuid=lambda: 1000, getgid=lambda: 1000, getgrouplist=lambda *_: [])
    monkeypatch.setattr(site, "os", own)
    return answers


@pytest.fixture
def at(said: dict[str, Any]) -> Callable[..., reader.Site]:
    """Return a function that reads a recorded cluster: at("main"), at("plain"), at("rights")."""

    def recorded(name: str) -> reader.Site:
        answers = json.loads((RECORDED / f"{name}.json").read_text())
        said.update({command: reader.Answer(**one) for command, one in answers.items()})
        said["sbatch"] = reader.Answer(0, "", "sbatch: Job 4 to start at once")
        return reader.read_site()

    return recorded


@pytest.fixture
def published() -> form.Form:
    """Return the form as it is in the checkout."""
    return form.read(ROOT / "profiles" / "slurm")


@pytest.fixture
def edited(published: form.Form) -> Callable[..., form.Form]:
    """Return a function that gives the form with pieces of its text replaced."""

    def edit(*pairs: tuple[str, str]) -> form.Form:
        text = published.text
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        return form.parse(published.path, text)

    return edit
