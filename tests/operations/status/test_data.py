"""Prepared data, statistics and downloads."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd import cli
from cmkd.operations.status.data import Item
from cmkd.operations.status.look import look
from cmkd.plan import suites


def items(tree: Any) -> dict[str, Item]:
    """Return a suite's data by kind (statistics: those of fold 1)."""
    found = look(tree.suite).data
    return {item.kind: item for item in found if item.kind != "stats" or "fold 1" in item.name}


def log(tree: Any, name: str, text: str, age: float = 0.0) -> Path:
    """Write a log."""
    path = Path(tree.suite.results / "logs" / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def clear(tree: Any) -> None:
    """Remove all that was prepared."""
    shutil.rmtree(tree.suite.prepared_folder("toy"))


def test_nothing_begun_waits(tree: Any) -> None:
    clear(tree)
    assert {item.state for item in items(tree).values()} == {"waiting"}


def test_nothing_is_missed_that_no_run_needs(tree: Any) -> None:
    tree.finish(*tree.suite.jobs())
    clear(tree)
    assert items(tree)["prepare"].cause == "not there; no run needs it"


def test_a_failed_preparation_has_cause_and_log(
    tree: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence is the one that the real verb ends with."""
    clear(tree)
    wanted = Path("data.yaml")
    text = tree.suite.data_recipe("toy").text.replace("reader: toy", "reader: esc50")
    wanted.write_text(text)
    command = ["prepare", str(wanted), "--prepared", str(tree.suite.prepared_folder("toy"))]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    path = log(tree, "prepare/toy.log", said, age=9999)
    found = items(tree)["prepare"]
    assert (found.state, found.log) == ("failed", path)
    assert f"cmkd: {found.cause[:60]}" in " ".join(said.split())


def test_a_preparation_at_work_shows_its_last_line(tree: Any) -> None:
    clear(tree)
    log(tree, "prepare/toy.log", "toy clips [###   ] 10/36 5 s left\n", age=100)
    found = items(tree)["prepare"]
    assert (found.state, found.cause) == ("running", "toy clips [### ] 10/36 5 s left")


def test_a_silent_preparation_is_lost(tree: Any) -> None:
    clear(tree)
    log(tree, "prepare/toy.log", "toy clips [###   ] 10/36 5 s left\n", age=9999)
    assert items(tree)["prepare"].state == "lost"


def test_data_of_another_entry_are_stale(tree: Any) -> None:
    with open(tree.suite.prepared_folder("toy") / "recipe.yaml", "a") as file:
        file.write("more: 1\n")
    log(tree, "prepare/toy.log", "toy: 36 clips\n", age=9999)
    assert items(tree)["prepare"].state == "stale"


def test_statistics_of_another_manifest_are_stale(tree: Any) -> None:
    (tree.suite.prepared_folder("toy") / "manifest.csv.sha256").write_text("0" * 64 + "\n")
    assert items(tree)["stats"].state == "stale"


def test_failed_statistics_are_found(tree: Any) -> None:
    name = tree.suite.frontend("toy", "small_cnn").name
    (tree.suite.prepared_folder("toy") / "stats" / name / "fold-1.json").unlink()
    log(tree, f"stats/toy/{name}/fold-1.log", "cmkd: fold 1 has no training clip\n")
    found = items(tree)["stats"]
    assert (found.state, found.cause) == ("failed", "fold 1 has no training clip")


def test_a_download_is_told_apart(tree: Any) -> None:
    keys = {"datasets": ["esc50"], "download": True, "folds": [1], "pairs": ["alone"], "set": {}}
    tree.suite = suites.make(tree.suite.config | keys, Path("config/small.yaml"))
    assert items(tree)["download"].state == "waiting"
    log(tree, "download/esc50.log", "ESC-50.zip [##  ] 10/600 MB\n")
    assert items(tree)["download"].state == "running"
    marker = tree.suite.downloads / "esc50" / "download.json"
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    assert items(tree)["download"].state == "done"
