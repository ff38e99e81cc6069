"""The lock of a killed Snakemake is removed; that of a living one, or of one elsewhere, is not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmkd.operations import owners

ENTER = """
import sys, time
from pathlib import Path
from cmkd.operations import owners
owners.enter(Path(sys.argv[1]))
print("in", flush=True)
time.sleep(float(sys.argv[2]))
"""


class Folder:
    """A folder, and processes that enter it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.locks = path / owners.LOCKS
        self.processes: list[subprocess.Popen[str]] = []

    def enter(self, seconds: float = 60) -> tuple["subprocess.Popen[str]", str]:
        """Start a process that enters and stays; return it and what it said on entering."""
        command = [sys.executable, "-c", ENTER, str(self.path), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        said = ""
        while not said.endswith("in\n"):
            line = process.stdout.readline()
            assert line, "it ended at once"
            said += line
        return process, said

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """Kill a process as nothing can be done against."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def lock(self) -> None:
        """Lock as Snakemake does."""
        self.locks.mkdir(parents=True, exist_ok=True)
        (self.locks / "0.output.lock").write_text("results/a\n")

    def notes(self) -> list[dict[str, Any]]:
        """Return who is noted."""
        return [json.loads(path.read_text()) for path in (self.path / owners.OWNERS).glob("*")]

    def note(self, **changes: Any) -> Path:
        """Note a process that is not this one."""
        own = owners.me()
        assert own is not None
        other = owners.Owner(**(vars(own) | changes))
        path = self.path / owners.OWNERS / other.note
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(other)))
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder whose processes are ended."""
    made = Folder(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


def test_the_lock_of_a_killed_process_is_removed(folder: Folder) -> None:
    first, _ = folder.enter()
    folder.lock()
    folder.kill(first)
    second, said = folder.enter()
    assert not folder.locks.exists()
    assert f"process {first.pid}" in said and "squeue --me" in said
    assert [note["pid"] for note in folder.notes()] == [second.pid]


def test_the_lock_of_a_living_process_stays(folder: Folder) -> None:
    first, _ = folder.enter()
    folder.lock()
    _, said = folder.enter()
    assert (folder.locks / "0.output.lock").exists()
    assert f"process {first.pid} on" in said and "snakemake --unlock" in said


def test_a_lock_stays_while_one_of_two_lives(folder: Folder) -> None:
    dead, _ = folder.enter()
    alive, _ = folder.enter()
    folder.lock()
    folder.kill(dead)
    _, said = folder.enter()
    assert folder.locks.exists()
    assert f"process {alive.pid} on" in said and str(dead.pid) not in said


def test_a_process_that_ends_in_order_leaves_no_note(folder: Folder) -> None:
    first, _ = folder.enter(seconds=0)
    assert first.wait() == 0
    assert folder.notes() == []


@pytest.mark.parametrize(
    "changes", [{"host": "login2"}, {"machine": "another container"}], ids=["machine", "container"]
)
def test_a_lock_from_elsewhere_stays(folder: Folder, changes: dict[str, Any]) -> None:
    folder.note(pid=1, process=1, **changes)
    folder.lock()
    _, said = folder.enter()
    assert folder.locks.exists()
    assert "process 1 on" in said


def test_a_number_given_again_is_not_taken_for_the_dead_process(folder: Folder) -> None:
    # This very process has the number, but began at another time than the one that was noted.
    note = folder.note(process=1)
    folder.lock()
    folder.enter()
    assert not folder.locks.exists()
    assert not note.exists()


def test_a_note_that_cannot_be_read_keeps_the_lock(folder: Folder) -> None:
    folder.note(host="x").write_text("{")
    folder.lock()
    _, said = folder.enter()
    assert folder.locks.exists()
    assert "another machine" in said


def test_without_a_lock_old_notes_go(folder: Folder) -> None:
    dead, young, old = folder.note(pid=2**30), folder.note(host="a"), folder.note(host="b")
    day = time.time() - owners.FORGOTTEN
    os.utime(old, (day - 60, day - 60))
    _, said = folder.enter()
    assert said == "in\n"
    assert [dead.exists(), young.exists(), old.exists()] == [False, True, False]


def test_a_lock_that_nobody_noted_stays(folder: Folder) -> None:
    folder.lock()
    _, said = folder.enter()
    assert folder.locks.exists()
    assert said == "in\n"
