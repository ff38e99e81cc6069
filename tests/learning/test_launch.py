"""`gpus: 2` through the verb: exit codes, sentences, signals, and going on to the bit."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cmkd.errors import InputError, ProcessLost, Stopped, TrainingError
from cmkd.learning.launch import judge

CLOCKS = {"time", "seconds", "clips_per_second"}


def reply(rank: int, code: int, kind: str, parted: bool = False) -> dict[str, Any]:
    message = f"{kind} of {rank}"
    return {"rank": rank, "code": code, "kind": kind, "message": message, "parted": parted,
            "trace": f"Traceback: {message}\n", "failure": {}}  # fmt: skip


def test_a_good_end_says_nothing() -> None:
    judge({}, [], 2)


@pytest.mark.parametrize(
    ("kind", "code", "error"),
    [("Stopped", 75, Stopped), ("TrainingError", 2, TrainingError), ("DataError", 2, InputError)],
)
def test_the_first_who_knows_is_heard(kind: str, code: int, error: type[Exception]) -> None:
    replies = [reply(0, 1, "Parted", parted=True), reply(1, code, kind), reply(2, 1, "KeyError")]
    with pytest.raises(error, match=f"{kind} of 1") as caught:
        judge({0: 1, 1: code, 2: 1}, replies, 3)
    assert caught.value.exit_code == code


def test_a_bug_ends_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        judge({0: 1, 1: 1}, [reply(1, 1, "KeyError"), reply(0, 1, "Parted", parted=True)], 2)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "process 1:\nTraceback: KeyError of 1\n"


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [(-9, r"process 2 \(signal 9, SIGKILL\)", 137), (3, r"process 2 \(exit code 3\)", 3),
     (-99, r"process 2 \(signal 99\)", 227)],
)  # fmt: skip
def test_who_says_nothing_is_named(code: int, words: str, expected: int) -> None:
    replies = [reply(rank, 1, "Parted", parted=True) for rank in (0, 1)]
    with pytest.raises(ProcessLost, match=words) as caught:
        judge({0: 1, 1: 1, 2: code}, replies, 3)
    assert caught.value.exit_code == expected


@pytest.fixture
def order(wanted, multi, data: SimpleNamespace, tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that gives the command of a training in two processes."""

    def command(run: str, gpus: int = 2, **changes: Any) -> list[str]:
        execution = tmp_path / f"execution-{gpus}.yaml"
        execution.write_text(f"device: cpu\ngpus: {gpus}\ncheckpoint_seconds: 1000\n")
        options = {
            "--run": tmp_path / run,
            "--fold": 0,
            "--seed": 0,
            "--prepared": data.multi,
            "--statistics": data.multi / "stats.json",
            "--execution": execution,
        }
        recipe = wanted("wanted", **multi, **{"training.epochs": 400, **changes})
        words = [str(word) for pair in options.items() for word in pair]
        return [sys.executable, "-m", "cmkd.cli", "train", str(recipe), *words]

    return command


def begun(command: list[str], log: Path, epochs: int = 3, **given: Any) -> subprocess.Popen[str]:
    """Start a training and wait until it has done some epochs."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, **given)
    deadline = time.monotonic() + 120
    while f"epoch {epochs}/" not in log.read_text():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def rank(launcher: int, number: int) -> int:
    """Return the process id of a rank (proc(5))."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "environ").read_bytes().split(b"\0") if parent == launcher else []
        except OSError:
            continue
        if f"RANK={number}".encode() in words:
            return int(folder.name)
    raise AssertionError(f"no process of rank {number}")


def whole(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a training to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def history(run: Path) -> list[dict[str, str]]:
    """Return a history but for what a clock says."""
    with (run / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in CLOCKS} for row in csv.DictReader(file)]


def test_sigterm_saves_and_the_rest_follows_to_the_bit(order, tmp_path: Path) -> None:
    command = order("cut", **{"training.epochs": 60})
    process = begun(command, tmp_path / "log")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert said.startswith("cmkd: stopped after step ")
    assert said.count("\n") == 1
    first = whole(command)
    assert first.returncode == 0, first.stderr
    assert "begins at  step" in first.stdout
    second = whole(order("whole", **{"training.epochs": 60}))
    assert second.returncode == 0, second.stderr
    assert "begins at  the beginning" in second.stdout
    assert second.stdout.count("\nepoch ") == 60  # the second process prints nothing
    for name in ("weights.safetensors", "recipe.yaml", "inputs.json"):
        files = [tmp_path / run / name for run in ("cut", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    cost = json.loads((tmp_path / "cut" / "cost.json").read_text())
    assert (cost["processes"], cost["processes_by_attempt"]) == (2, [2, 2])
    assert cost["device_hours"] == pytest.approx(2 * cost["seconds"]["total"] / 3600)


def test_wrong_input_is_one_sentence(order, tmp_path: Path) -> None:
    command = order("run")
    command[4] = str(tmp_path / "missing.yaml")
    done = whole(command)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cmkd: {tmp_path}/missing.yaml is not there")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_killed_process_takes_the_others_with_it(order, tmp_path: Path) -> None:
    for number in (0, 1):
        process = begun(order(f"run-{number}"), tmp_path / "log")
        os.kill(rank(process.pid, number), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 137
        assert f"process {number} (signal 9, SIGKILL) ended without a word" in said
        assert said.count("\n") == 1
    failure = json.loads((tmp_path / "run-1" / "state" / "failure.json").read_text())
    assert failure["exception"] == "ProcessLost"
    assert failure["retry"]


@pytest.mark.slow
def test_without_its_launcher_it_stops_and_goes_on_in_one_process(order, tmp_path: Path) -> None:
    process = begun(order("run", **{"training.epochs": 60}), tmp_path / "log")
    ranks = [rank(process.pid, number) for number in (0, 1)]
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    failure = json.loads((tmp_path / "run" / "state" / "failure.json").read_text())
    assert failure["message"].startswith("stopped after step")
    done = whole(order("run", gpus=1, **{"training.epochs": 60}))
    assert done.returncode == 0, done.stderr
    assert "begins at  step" in done.stdout
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert (cost["processes"], cost["processes_by_attempt"]) == (1, [2, 1])
    total = cost["seconds"]["total"] / 3600
    assert total < cost["device_hours"] < 2 * total


@pytest.mark.slow
def test_a_bug_in_one_process_is_shown_once_and_recorded(order, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    from cmkd.learning import fit\n"
        "    fit._check_finite = lambda *arguments: {}['lost']\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        order("run"), capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.startswith("process 1:\nTraceback")
    assert done.stderr.endswith("KeyError: 'lost'\n")
    assert done.stderr.count("Traceback") == 1
    failure = json.loads((tmp_path / "run" / "state" / "failure.json").read_text())
    assert (failure["kind"], failure["retry"]) == ("bug", False)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all(order, tmp_path: Path) -> None:
    done = whole(order("run", **{"training.lr": 1.0e30}))
    assert done.returncode == 2
    assert done.stderr.startswith("cmkd: training is no longer finite at epoch ")
    assert done.stderr.count("\n") == 1
