"""Room, latency and clock of a folder."""

import os
import shutil
import time
from pathlib import Path

import pytest

from cmkd.operations import disks


def test_room_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert disks.there(tmp_path / "a" / "b") == tmp_path
    free = shutil.disk_usage(tmp_path).free
    assert abs(disks.room(tmp_path / "a" / "b") - free) < 0.1 * free


def test_latency_is_what_the_disk_takes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.02))
    assert disks.latency(tmp_path) >= 0.02
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        disks.latency(tmp_path / "none")


def test_a_clock_that_is_ahead_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    assert abs(disks.clock_ahead(tmp_path)) < 2
    monkeypatch.setattr(disks.time, "time", lambda: now() - 100)
    assert 98 < disks.clock_ahead(tmp_path) < 102
