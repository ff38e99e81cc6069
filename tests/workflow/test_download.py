"""Datasets that are fetched: one job before what needs it, and never a reason to run again.

That it runs where Snakemake was started is in test_slurm.py.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

PETS = {"reader": "esc50", "labels": "single", "metric": "accuracy", "folds": [1, 2],
        "classes": ["dog", "hen"]}  # fmt: skip
FILE = {"url": "https://example.org/pets.zip", "file": "pets.zip", "folder": "pets",
        "no_hash": "it is an example"}  # fmt: skip


@pytest.fixture
def pets(clean: Any) -> Any:
    """A clone whose suite runs one model on two datasets that come in one archive."""
    return with_pets(clean, "pets", "few")


def with_pets(clone: Any, *datasets: str) -> Any:
    """Let a clone's suite run one model on datasets of one archive, on one fold."""
    clone.edit("datasets", "pets", to={**PETS, "downloads": [FILE]})
    clone.edit("datasets", "few", to={**PETS, "downloads_of": "pets"})
    clone.edit("suite", "datasets", to=list(datasets))
    clone.edit("suite", "models", to=["small_cnn"])
    clone.edit("suite", "pairs", to=["alone"])
    clone.edit("suite", "folds", to=[1])
    return clone


def marker(clone: Any) -> Path:
    """Return the marker of the download."""
    return Path(clone.root / "results/downloads/pets/download.json")


def downloads(plan: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return the planned downloads."""
    return [job for job in plan if job[0] == "download"]


def test_without_the_key_nothing_is_fetched(pets: Any, count: Any) -> None:
    plan = pets.plan()
    assert downloads(plan) == []
    assert count(plan)["prepare"] == 2


def test_one_archive_of_two_datasets_is_one_job(pets: Any) -> None:
    assert downloads(pets.plan("--config", "download=true")) == [("download", "pets")]
    pets.edit("suite", "download", to=True)
    assert downloads(pets.plan()) == [("download", "pets")]


def test_it_is_fetched_before_both_are_prepared_and_then_nothing_is_planned(pets: Any) -> None:
    pets.edit("suite", "download", to=True)
    pets.edit("suite", "downloads", to="my downloads")
    said = pets.run()
    first, second, third = pets.calls("prepare")
    assert first[1].startswith(".cmkd/wanted/pets/prepared/")
    assert (pets.root / first[1]).is_file()
    assert first[2:] == ["--data-root", "my downloads/pets", "--catalog", "config",
                         "--download-only"]  # fmt: skip
    for call in (second, third):
        assert call[call.index("--data-root") + 1] == "my downloads/pets"
        assert "--download-only" not in call
    assert (pets.root / "results/logs/download/pets.log").is_file(), said
    assert pets.plan() == []


def test_a_finished_download_makes_nothing_stale(pets: Any) -> None:
    pets.edit("suite", "download", to=True)
    pets.run()
    tomorrow = time.time() + 86400
    os.utime(marker(pets), (tomorrow, tomorrow))
    assert pets.plan() == []
    shutil.rmtree(marker(pets).parent)
    assert pets.plan() == []
    # Only what must be prepared anew is fetched again.
    pets.edit("datasets", "few", "on_missing", to="count")
    planned = pets.plan()
    assert downloads(planned) == [("download", "pets")]
    assert [job for job in planned if job[0] == "prepare"] == [("prepare", "few")]


def test_switching_it_on_or_off_plans_nothing_in_a_finished_suite(finished: Any) -> None:
    assert finished.plan("--config", "download=true") == []


def test_recordings_that_the_user_has_are_not_fetched(pets: Any) -> None:
    pets.edit("suite", "download", to=True)
    assert downloads(pets.plan("--config", "data_root=/mine")) == []
    pets.edit("datasets", "pets", "data_root", to="/mine")
    pets.edit("suite", "datasets", to=["pets"])
    assert downloads(pets.plan()) == []


def test_a_failed_download_stops_what_needs_it_and_leaves_no_marker(pets: Any) -> None:
    program = pets.root / "bin"
    program.mkdir()
    (program / "cmkd").write_text("#!/bin/sh\necho 'cmkd: the server says 404' >&2\nexit 2\n")
    (program / "cmkd").chmod(0o755)
    path = os.pathsep.join((str(program), pets.environment()["PATH"]))
    failed = pets.snakemake("--cores", "1", "--config", "download=true", PATH=path)
    assert failed.returncode == 1
    assert "the server says 404" in failed.stdout
    assert not marker(pets).exists()
    assert pets.calls("train") == []
