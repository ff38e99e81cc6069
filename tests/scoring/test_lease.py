"""The lease on a run's folder: one holder at a time, whatever is killed or frozen."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.errors import ConfigError, LeaseLost, RunError, Stopped
from cmkd.scoring import lease
from cmkd.scoring.lease import Lease

WORKER = Path(__file__).with_name("lease_worker.py")
HOLD = """
import sys, time
from pathlib import Path
from cmkd.scoring import lease
with lease.held(Path(sys.argv[1]), "train", float(sys.argv[2])):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""
SHORT = 0.6  # seconds of silence that are death, in these tests


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def content(run: Path) -> dict[str, Any]:
    return files.read_json(run / "state" / lease.NAME)


@contextlib.contextmanager
def holder(run: Path, silence: float = 60.0, hold: float = 60.0) -> Iterator[subprocess.Popen]:
    """Another process that holds the lease."""
    command = [sys.executable, "-c", HOLD, str(run), str(silence), str(hold)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def elsewhere(run: Path, **changes: Any) -> None:
    """Make a lease look as one of another machine, whose processes cannot be seen."""
    path = run / "state" / lease.NAME
    text = json.dumps(content(run) | {"machine": "elsewhere"} | changes)
    path.write_text(text.ljust(lease.SIZE))


class Enough(Exception):
    """A waiter in a test has waited enough."""


def looks(count: int) -> Any:
    """Return a tick that ends the waiting after so many looks."""
    left = iter(range(count))

    def tick() -> None:
        if next(left, None) is None:
            raise Enough

    return tick


def test_the_file_says_who_and_since_when_and_goes_at_the_end(run, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    before = time.time()
    with lease.held(run, "evaluate", 30.0) as own:
        found = content(run)
        assert (found["format"], found["token"], found["stage"]) == (1, own.token, "evaluate")
        assert (found["host"], found["pid"]) == (os.uname().nodename, os.getpid())
        assert (found["job"], found["every"], found["beat"]) == ("417", 5.0, 0)
        assert before <= found["began"] <= found["heartbeat"] <= time.time()
        assert own.waited is False
    assert not (run / "state").exists()


def test_other_files_of_the_state_stay(run) -> None:
    with lease.held(run, "train"):
        (run / "state" / "checkpoint-0.json").touch()
    assert [path.name for path in (run / "state").iterdir()] == ["checkpoint-0.json"]


def test_it_goes_when_the_block_fails(run) -> None:
    with pytest.raises(ZeroDivisionError), lease.held(run, "train"):
        1 / 0  # noqa: B018
    assert not (run / "state").exists()


def test_the_heart_beats_in_place(run) -> None:
    with lease.held(run, "train", SHORT) as own:
        path = run / "state" / lease.NAME
        first, node, size = content(run), path.stat().st_ino, path.stat().st_size
        until = time.monotonic() + 30
        while content(run)["beat"] < 3 and time.monotonic() < until:
            time.sleep(0.02)
        last = content(run)
        assert last["beat"] >= 3 and last["heartbeat"] > first["heartbeat"]
        assert (path.stat().st_ino, path.stat().st_size) == (node, size)
        constant = set(first) - {"beat", "heartbeat"}
        assert {key: last[key] for key in constant} == {key: first[key] for key in constant}
        own.check()


def test_a_second_copy_waits_for_the_first(run, capsys) -> None:
    with holder(run, hold=1.0) as first, lease.held(run, "evaluate", SHORT) as own:
        assert first.wait(timeout=10) == 0
        assert own.waited and content(run)["token"] == own.token
    said = capsys.readouterr().out
    assert said.startswith(f"waits: process {first.pid} on {os.uname().nodename} is at work on")
    assert "(train) since 20" in said and "takes over" not in said


def test_waiting_ends_where_the_tick_says_so(run) -> None:
    with holder(run) as first, pytest.raises(Enough), lease.held(run, "train", SHORT, looks(3)):
        raise AssertionError("there are two holders")
    assert first.poll() is not None
    assert content(run)["pid"] == first.pid


@pytest.mark.parametrize("reaped", [True, False])
def test_a_process_of_this_machine_that_was_killed_is_dead_at_once(run, reaped, capsys) -> None:
    with holder(run) as first:
        first.kill()
        if reaped:
            first.wait()
        else:
            os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        with lease.held(run, "train", 3600.0, looks(0)):
            assert content(run)["pid"] == os.getpid()
    assert f"takes over from process {first.pid}" in capsys.readouterr().out


def test_another_process_with_the_old_ones_number_is_not_it(run) -> None:
    with lease.held(run, "train") as own:
        text = json.dumps(content(run) | {"process": 1, "token": "0" * 32})
    (run / "state").mkdir()
    (run / "state" / lease.NAME).write_text(text)
    with lease.held(run, "train", 3600.0, looks(0)) as second:
        assert content(run)["token"] == second.token != own.token


def test_a_silent_lease_of_another_machine_dies_after_its_seconds(run) -> None:
    with holder(run) as first:
        first.kill()
    elsewhere(run, every=0.1)
    with pytest.raises(Enough), lease.held(run, "train", 30.0, looks(2)):
        pass
    began = time.monotonic()
    with lease.held(run, "train", SHORT) as own:
        assert time.monotonic() - began >= SHORT
        assert own.waited


def test_a_holder_that_beats_rarely_is_given_three_beats(run) -> None:
    with holder(run) as first:
        first.kill()
    elsewhere(run, every=0.5)
    began = time.monotonic()
    with lease.held(run, "train", SHORT):
        assert time.monotonic() - began >= 1.5


def test_beats_seen_from_another_machine_keep_a_lease_alive(run, monkeypatch) -> None:
    # The clocks of the two have nothing to do with each other: only that something changes counts.
    monkeypatch.setattr(lease, "machine", lambda: "another machine")
    count = 3 * lease.LOOKS
    with (
        holder(run, SHORT) as first,
        pytest.raises(Enough),
        lease.held(run, "train", SHORT, looks(count)),
    ):
        pass
    assert content(run)["pid"] == first.pid


def test_a_waiter_that_was_frozen_itself_does_not_count_that_time(run, monkeypatch) -> None:
    with holder(run) as first:
        first.kill()
    elsewhere(run, every=0.01)
    watch = lease.Watch(run / "state" / lease.NAME, SHORT)
    watch.look()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600)
    assert watch.look() is not None and not watch.dead()


def test_of_two_that_saw_the_same_death_one_moves_the_new_lease_and_puts_it_back(run) -> None:
    with holder(run) as first:
        first.kill()
    late = Lease(run / "state" / lease.NAME, "train", SHORT)
    watch = lease.Watch(late.path, SHORT)
    watch.look()
    with lease.held(run, "train", SHORT) as own:
        # Its own last look comes just before that of `own`: it moves what it should not.
        read, answers = lease.read, iter([watch.content])
        lease.read = lambda path: next(answers, None) or read(path)
        try:
            late._bury(watch)
        finally:
            lease.read = read
        assert content(run)["token"] == own.token
        own.check()
        assert [path.name for path in (run / "state").iterdir()] == [lease.NAME]


def test_a_lease_moved_by_mistake_is_waited_for(run) -> None:
    with lease.held(run, "train", 60.0) as own:
        aside = run / "state" / "aside"
        own.path.rename(aside)
        threading.Timer(0.2, lambda: aside.rename(own.path)).start()
        own.check()
        assert content(run)["token"] == own.token


def test_a_lease_moved_by_one_that_was_killed_then_is_taken_again(run, monkeypatch) -> None:
    monkeypatch.setattr(lease, "PUT_BACK", 0.1)
    with lease.held(run, "train", 60.0) as own:
        own.path.rename(run / "state" / "aside")
        own.check()
        assert content(run)["token"] == own.token


def test_a_swept_folder_is_a_lost_lease(run) -> None:
    with pytest.raises(LeaseLost), lease.held(run, "train") as own:
        own.path.unlink()
        own.check()


def taken_over(run: Path, first: Lease) -> Lease:
    """Take a lease from a holder that is alive, as if it had been silent for long."""
    watch = lease.Watch(first.path, SHORT)
    watch.look()
    second = Lease(first.path, "train", 60.0)
    second._bury(watch)
    second.take()
    return second


def test_one_that_lost_its_lease_writes_nothing_more(run) -> None:
    (run / "state").mkdir(parents=True)
    said = "another copy of this job has taken .*run over"
    with pytest.raises(LeaseLost, match=said), lease.held(run, "train", 60.0) as own:
        files.write_text(run / "one", "mine")
        second = taken_over(run, own)
        with pytest.raises(LeaseLost):
            files.write_text(run / "one", "too late")
        with pytest.raises(LeaseLost):
            files.write_json(run / "two", 2)
        own.check()
    assert sorted(path.name for path in run.iterdir()) == ["one", "state"]
    assert (run / "one").read_text() == "mine"
    assert content(run)["token"] == second.token
    assert LeaseLost("").exit_code == Stopped("").exit_code == 75
    second.release()
    files.write_text(run / "two", "free again")


def test_a_late_heartbeat_does_not_touch_the_next_holders_lease(run) -> None:
    first = Lease(run / "state" / lease.NAME, "train", 60.0)
    first.take()
    handle = first._handle
    second = taken_over(run, first)
    before = second.path.read_bytes()
    lease._write(handle, first._record | {"beat": 99})
    assert second.path.read_bytes() == before
    with pytest.raises(LeaseLost):
        first.check()
    first.release()
    assert second.path.read_bytes() == before
    second.release()


def test_the_heart_notices_a_loss_by_itself(run) -> None:
    first = Lease(run / "state" / lease.NAME, "train", SHORT)
    first.take()
    second = taken_over(run, first)
    until = time.monotonic() + 30
    while not first.lost and time.monotonic() < until:
        time.sleep(0.02)
    assert first.lost
    first.release()
    second.release()


def test_without_hard_links_it_is_a_new_file(run, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with lease.held(run, "train", SHORT) as own:
        with pytest.raises(Enough), lease.held(run, "train", SHORT, looks(2)):
            pass
        until = time.monotonic() + 30
        while content(run)["beat"] < 2 and time.monotonic() < until:
            time.sleep(0.02)
        assert content(run)["beat"] >= 2
        own.check()
    assert not (run / "state").exists()


def test_a_copy_put_back_without_hard_links_goes_on_beating(run) -> None:
    with lease.held(run, "train", SHORT) as own:
        copy = run / "state" / "copy"
        copy.write_bytes(own.path.read_bytes())
        copy.rename(own.path)
        until = time.monotonic() + 30
        while content(run)["beat"] < 3 and time.monotonic() < until:
            time.sleep(0.02)
        assert content(run)["beat"] >= 3


def test_an_answer_that_nfs_lost_still_counts(run, monkeypatch) -> None:
    link = os.link

    def linked_but_told_otherwise(source: Path, path: Path) -> None:
        link(source, path)
        raise FileExistsError

    monkeypatch.setattr(os, "link", linked_but_told_otherwise)
    with lease.held(run, "train", 60.0, looks(0)) as own:
        assert content(run)["token"] == own.token


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"every": true, "pid": "x"}', b"\xff"])
def test_a_damaged_lease_dies_too(run, damaged) -> None:
    (run / "state").mkdir(parents=True)
    (run / "state" / lease.NAME).write_bytes(damaged)
    with lease.held(run, "train", SHORT) as own:
        assert content(run)["token"] == own.token and own.waited


def test_a_lease_that_cannot_be_read_is_refused(run) -> None:
    (run / "state" / lease.NAME).mkdir(parents=True)
    with pytest.raises(RunError, match="cannot be read"), lease.held(run, "train"):
        pass


@pytest.mark.parametrize("wrong", [0, -1, "60", True, None, float("nan")])
def test_seconds_are_a_number_above_0(wrong) -> None:
    with pytest.raises(ConfigError, match=r"execution\.lease_seconds"):
        lease.seconds({"lease_seconds": wrong})
    assert lease.seconds({}) == 60.0 and lease.seconds({"lease_seconds": 5}) == 5.0


def verdict(log: Path, late: bool) -> dict[str, int]:
    """Read the witness: no token may write again after another one has.

    `late` allows each one a single line after that, its very last: it was frozen after its check.
    """
    lines = [line.split() for line in log.read_text().splitlines()]
    counts = {word: sum(line[0] == word for line in lines) for word in ("take", "give", "lost")}
    tokens = [token for word, token in lines if word != "lost"]
    last = {token: number for number, token in enumerate(tokens)}
    alone = [
        token
        for number, token in enumerate(tokens)
        if not (late and number == last[token] and number and tokens[number - 1] != token)
    ]
    holders = [token for token, _ in itertools.groupby(alone)]
    assert len(holders) == len(set(holders)), "two wrote at one time"
    return {**counts, "lines": len(tokens), "late": len(tokens) - len(alone)}


def stress(tmp_path: Path, processes: int, takes: int, seconds: float, freeze: bool) -> dict:
    """Have processes take one lease many times, kill some of them and start others instead."""
    chance, log = random.Random(processes * takes), tmp_path / "log"
    log.touch()

    def start() -> subprocess.Popen:
        given = (tmp_path / "run", log, SHORT, 0.05, takes, chance.random())
        return subprocess.Popen([sys.executable, str(WORKER), *map(str, given)])

    running, kills, until = [start() for _ in range(processes)], 0, time.monotonic() + seconds
    while time.monotonic() < until and any(one.poll() is None for one in running):
        time.sleep(chance.uniform(0.05, 0.3))
        number = chance.randrange(processes)
        if freeze and chance.random() < 0.5:
            freezing(running[number], chance)
            continue
        running[number].kill()
        kills += running[number].wait() == -signal.SIGKILL
        running[number] = start()
    for one in running:
        assert one.wait(timeout=120) in (0, -signal.SIGKILL)
    return {**verdict(log, freeze), "kills": kills}


def freezing(process: subprocess.Popen, chance: random.Random) -> None:
    """Freeze a process for a time that may be longer than a lease lives."""
    process.send_signal(signal.SIGSTOP)
    later = threading.Timer(chance.uniform(0, 3 * SHORT), process.send_signal, [signal.SIGCONT])
    later.start()


def test_many_processes_one_holder(tmp_path: Path) -> None:
    counts = stress(tmp_path, processes=4, takes=10, seconds=4, freeze=False)
    assert counts["take"] >= 20 and counts["kills"] >= 5 and counts["lost"] == 0
    assert not (tmp_path / "run" / "state" / lease.NAME).exists()


@pytest.mark.slow
def test_many_processes_killed_and_frozen(tmp_path: Path) -> None:
    counts = stress(tmp_path, processes=8, takes=40, seconds=60, freeze=True)
    print(counts)  # with -s
    assert counts["take"] >= 100 and counts["kills"] >= 20
