"""States of runs: against the leaderboard's judge, against clocks, damage and races."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.operations.status.clock import Clock
from cmkd.operations.status.look import Snapshot, look
from cmkd.operations.status.runs import Seen
from cmkd.plan.agreement import EVALUATED, TRAINED, Agreement
from cmkd.plan.suites import Job
from cmkd.reports import runs as reports

FIRST = Job("toy", "small_cnn", 1, 0)
OTHER = Job("toy", "small_ast", 2, 1)
STUDENT = Job("toy", "small_cnn@small_ast", 1, 0)
OLD = 1_000_000_000.0


def of(tree: Any, job: Job) -> Seen:
    """Return what is seen of one run."""
    found = {seen.job: seen for seen in look(tree.suite).runs}
    return found[job]


def test_what_the_real_verbs_left_is_done(tree: Any) -> None:
    snapshot = look(tree.suite)
    assert {s.job for s in snapshot.runs if s.state == "done"} == {FIRST}
    assert snapshot.counts() | {"done": 1, "waiting": 15} == snapshot.counts()
    assert {item.state for item in snapshot.data} == {"done"}
    assert not snapshot.finished
    tree.finish(*tree.suite.jobs())
    assert look(tree.suite).finished


CHANGES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda run: None,
    "no folder": shutil.rmtree,
    "another recipe": lambda run: (run / "recipe.yaml").write_text("run: other\n") and None,
    "no metrics": lambda run: (run / "metrics.json").unlink(),
    "no record": lambda run: (run / "recipe.yaml").unlink(),
    "no weights": lambda run: (run / "weights.safetensors").unlink(),
    "damaged metrics": lambda run: (run / "metrics.json").write_text("{") and None,
    "other metrics": lambda run: (run / "metrics.json").write_text('{"recipe": "0"}') and None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_done_and_stale_are_as_the_leaderboard_has_them(tree: Any, change: str) -> None:
    CHANGES[change](tree.suite.folder(FIRST))
    wanted = tree.suite.recipe("toy", "small_cnn")
    status, _ = reports.judge(tree.suite.folder(FIRST), wanted)
    expected = {"missing": "waiting"}.get(status, status)
    assert of(tree, FIRST).state == expected


@pytest.mark.parametrize("name", [*TRAINED, *EVALUATED])
def test_a_missing_file_runs_again_by_the_workflow_and_is_not_done_here(
    tree: Any, name: str
) -> None:
    (tree.suite.folder(FIRST) / name).unlink()
    assert not Agreement(tree.suite).scored(FIRST)
    assert of(tree, FIRST).state != "done"


@pytest.mark.parametrize("key", ["fold", "seed", "manifest", "statistics"])
def test_other_inputs_are_stale_as_in_the_workflow(tree: Any, key: str) -> None:
    path = tree.suite.folder(FIRST) / "inputs.json"
    times = path.stat()
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 7}))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Agreement(tree.suite).disagreement(FIRST)
    assert of(tree, FIRST).state == "stale"


def test_weights_newer_than_scores_are_scored_again(tree: Any) -> None:
    weights = tree.suite.folder(FIRST) / "weights.safetensors"
    later = time.time() + 100
    os.utime(weights, (later, later))
    assert not Agreement(tree.suite).scored(FIRST)
    assert of(tree, FIRST).state == "stale" and "newer" in of(tree, FIRST).cause


def test_weights_are_never_opened(tree: Any) -> None:
    weights = tree.suite.folder(FIRST) / "weights.safetensors"
    size, changed = weights.stat().st_size, weights.stat().st_mtime
    weights.unlink()
    os.mkfifo(weights)  # opening it would wait for ever; its size is 0
    os.utime(weights, (changed, changed))
    assert of(tree, FIRST).state == "stale"
    weights.unlink()
    with open(weights, "wb") as file:
        file.truncate(size)
    os.utime(weights, (changed, changed))
    assert of(tree, FIRST).state == "done"


# --------------------------------------------------------------------------------------- running


def test_a_running_training_shows_epoch_speed_and_time_left(tree: Any) -> None:
    tree.lease(OTHER, age=4)
    tree.progress(OTHER, age=20)
    seen = of(tree, OTHER)
    assert (seen.state, seen.epoch, seen.epochs, seen.speed) == ("running", 3, 25, 97.4)
    assert (seen.left, seen.host, seen.slurm) == (180.0, "node7", "4711")
    assert seen.heartbeat == pytest.approx(4, abs=2)


def test_a_running_evaluation_has_no_epoch(tree: Any) -> None:
    tree.lease(OTHER, stage="evaluate")
    tree.progress(OTHER)
    seen = of(tree, OTHER)
    assert (seen.state, seen.stage, seen.epoch) == ("running", "evaluate", None)
    assert str(seen.log).endswith("logs/evaluate/toy/small_ast/fold-2/seed-1.log")


def test_a_stale_run_that_is_trained_again_is_running(tree: Any) -> None:
    (tree.suite.folder(FIRST) / "recipe.yaml").write_text("run: other\n")
    tree.lease(FIRST)
    assert of(tree, FIRST).state == "running"


def test_progress_of_another_recipe_is_said(tree: Any) -> None:
    tree.lease(OTHER)
    tree.progress(OTHER, recipe="0123456789abcdef")
    assert "another recipe" in of(tree, OTHER).cause


@pytest.mark.parametrize("ahead", [-7200.0, -300.0, 300.0, 7200.0])
def test_a_nodes_wrong_clock_kills_nobody(tree: Any, ahead: float) -> None:
    tree.lease(OTHER, age=5, ahead=ahead)
    seen = of(tree, OTHER)
    assert seen.state == "running"
    assert seen.heartbeat == pytest.approx(5, abs=3)
    assert seen.skew == pytest.approx(ahead, abs=3)


@pytest.mark.parametrize("ahead", [-7200.0, -300.0, 300.0, 7200.0])
def test_our_own_wrong_clock_kills_nobody(
    tree: Any, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system's clock counts, even where ours differs from it by hours."""
    tree.lease(OTHER, age=5)
    right = time.time
    monkeypatch.setattr("cmkd.operations.status.clock.time.time", lambda: right() + ahead)
    assert of(tree, OTHER).state == "running"
    assert of(tree, OTHER).heartbeat == pytest.approx(5, abs=3)


def test_a_silent_run_is_lost_though_our_clock_is_behind(
    tree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.lease(OTHER, age=300)
    right = time.time
    monkeypatch.setattr("cmkd.operations.status.clock.time.time", lambda: right() - 7200)
    assert of(tree, OTHER).state == "lost"


def test_a_folder_that_cannot_be_written_is_looked_at_by_our_clock(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "not" / "there", 60)
    clock._measure = lambda: (_ for _ in ()).throw(PermissionError())  # type: ignore[method-assign]
    assert clock.age(time.time() - 300) == pytest.approx(300, abs=2)


def test_measuring_the_clock_leaves_nothing_behind(tmp_path: Path) -> None:
    assert Clock(tmp_path, 60).ahead() == 0.0
    assert list(tmp_path.iterdir()) == []


def test_the_lease_time_is_the_suites(tree: Any) -> None:
    tree.lease(OTHER, age=100)
    tree.suite.execution["lease_seconds"] = 60
    assert of(tree, OTHER).state == "lost"
    tree.suite.execution["lease_seconds"] = 300
    assert of(tree, OTHER).state == "running"


def test_a_lease_that_beats_seldom_is_given_three_beats(tree: Any) -> None:
    tree.lease(OTHER, age=100, every=50)
    assert of(tree, OTHER).state == "running"
    tree.lease(OTHER, age=160, every=50)
    assert of(tree, OTHER).state == "lost"


def test_a_real_lease_is_seen_and_its_killed_holder_at_once(tree: Any) -> None:
    """Against the lease's own code, in a process that is killed."""
    run = tree.suite.folder(OTHER)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cmkd.scoring.lease import held\n"
        f"with held(Path({str(run)!r}), 'train'):\n"
        "    print('held', flush=True)\n    time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(files.checkout()), "SLURM_JOB_ID": "99"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        seen = of(tree, OTHER)
        assert (seen.state, seen.slurm, seen.host) == ("running", "99", socket.gethostname())
        assert seen.heartbeat is not None and seen.heartbeat < 30
    finally:
        process.kill()
        process.communicate()
    assert of(tree, OTHER).state == "lost" and "process" in of(tree, OTHER).cause


def test_a_lease_read_in_halves_is_a_sign_of_life(tree: Any) -> None:
    tree.put(OTHER, "lease.json", '{"format": 1, "tok')
    assert of(tree, OTHER).state == "running"


def test_fresh_progress_is_a_sign_of_life(tree: Any) -> None:
    tree.lease(OTHER, age=500)
    tree.progress(OTHER, age=3)
    assert of(tree, OTHER).state == "running"


# ------------------------------------------------------------------------------- failed and lost


@pytest.mark.parametrize(
    ("changes", "state", "advice"),
    [
        ({}, "failed", "mend"),
        ({"kind": "data"}, "failed", "mend"),
        ({"kind": "bug"}, "failed", "mend"),
        ({"kind": "memory"}, "failed", "run the same"),
        ({"kind": "memory", "retry": False}, "failed", "mend"),
        ({"kind": "data", "retry": True}, "failed", "run the same"),
        ({"kind": "time"}, "waiting", "run the same"),
        ({"kind": "machine"}, "failed", "run the same"),
        ({"kind": "budget", "retry": False}, "waiting", "raise execution: budget_gpu_hours"),
    ],
)
def test_a_failure_says_what_to_do(
    tree: Any, changes: dict[str, Any], state: str, advice: str
) -> None:
    tree.fail(OTHER, **changes)
    seen = of(tree, OTHER)
    assert seen.state == state
    assert str(seen.advice).startswith(advice)
    assert "the loss is nan in epoch 3, step 7" in seen.cause
    assert str(seen.log) == "out/logs/train/toy/small_ast/fold-2/seed-1.log"


def test_attempts_are_counted(tree: Any) -> None:
    tree.fail(OTHER, attempt=3)
    assert of(tree, OTHER).attempt == 3
    tree.fail(OTHER)
    tree.put(OTHER, "attempts.json", {"identity": {}, "starts": [1.0, 2.0]})
    assert of(tree, OTHER).attempt == 2


def test_a_failure_of_another_recipe_is_forgotten(tree: Any) -> None:
    tree.fail(OTHER, recipe="0123456789abcdef")
    assert of(tree, OTHER).state == "waiting"


def test_a_job_killed_without_a_record_is_named_as_such(tree: Any) -> None:
    tree.lease(OTHER, age=500)
    tree.progress(OTHER, age=500)
    seen = of(tree, OTHER)
    assert seen.state == "lost"
    assert "no record" in seen.cause and "killed" in seen.cause and seen.advice
    assert seen.heartbeat == pytest.approx(500, abs=3)


def test_an_old_lease_beside_a_finished_run_says_nothing(tree: Any) -> None:
    tree.lease(FIRST, age=500)
    assert of(tree, FIRST).state == "done"


def test_a_checkpoint_without_a_lease_waits(tree: Any) -> None:
    tree.put(OTHER, "checkpoint-0.json", {})
    assert (of(tree, OTHER).state, of(tree, OTHER).cause) == ("waiting", "begun, not finished")


def test_a_trained_run_waits_to_be_scored(tree: Any) -> None:
    for name in EVALUATED:
        (tree.suite.folder(FIRST) / name).unlink()
    assert of(tree, FIRST).cause == "trained, not scored yet"


# -------------------------------------------------------------------------------------- by a log


def test_an_error_before_any_record_is_found_in_the_log(tree: Any) -> None:
    path = tree.log(OTHER, "starting\ncmkd: wanted.yaml is not there: name the file\n")
    seen = of(tree, OTHER)
    assert (seen.state, seen.cause) == ("failed", "wanted.yaml is not there: name the file")
    assert seen.log == path.relative_to(tree.root) if path.is_absolute() else path


def test_a_traceback_is_a_failure(tree: Any) -> None:
    tree.log(OTHER, "Traceback (most recent call last):\n  File x\nImportError: libcuda.so\n", 999)
    assert (of(tree, OTHER).state, of(tree, OTHER).cause) == ("failed", "ImportError: libcuda.so")


def test_a_fresh_log_without_a_lease_is_a_start(tree: Any) -> None:
    tree.log(OTHER, "")
    assert (of(tree, OTHER).state, of(tree, OTHER).cause) == ("running", "starting")


def test_an_old_log_without_an_end_is_lost_and_quoted(tree: Any) -> None:
    tree.log(OTHER, "Killed\n", age=4000)
    assert of(tree, OTHER).state == "lost" and "Killed" in of(tree, OTHER).cause


def test_the_log_of_a_finished_training_starts_nothing(tree: Any) -> None:
    tree.log(OTHER, "train results/runs/x: done, 12.0 s in all\n")
    assert of(tree, OTHER).state == "waiting"


# ------------------------------------------------------------------------------ damage and races

DAMAGED = (
    *("", "{", "[]", "null", "7", '"text"', "\x00\x01", "[" * 100_000),
    '{"stage": ["train"], "heartbeat": "soon"}',
    '{"heartbeat": NaN, "job": {}, "host": []}',
    '{"recipe": 5, "starts": 3}',
    '{"epoch": "three", "epochs": [], "clips_per_second": {}, "seconds_left": -Infinity}',
    '{"kind": [], "message": {}, "retry": "yes", "attempt": 1.5}',
)


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_files_are_never_an_error(tree: Any, text: str) -> None:
    for name in ("lease.json", "progress.json", "failure.json", "attempts.json"):
        tree.lease(OTHER)
        tree.put(OTHER, name, text)
        assert of(tree, OTHER).state in ("running", "failed", "waiting", "lost")
    for name in ("metrics.json", "inputs.json", "recipe.yaml", "cost.json"):
        (tree.suite.folder(FIRST) / name).write_text(text)
        assert of(tree, FIRST).state in ("stale", "done", "waiting")


def test_folders_in_place_of_files_are_never_an_error(tree: Any) -> None:
    for name in ("lease.json", "progress.json", "failure.json"):
        (tree.suite.folder(OTHER) / "state" / name).mkdir(parents=True)
    (tree.suite.folder(FIRST) / "metrics.json").unlink()
    (tree.suite.folder(FIRST) / "metrics.json").mkdir()
    shutil.rmtree(tree.suite.prepared_folder("toy"))
    tree.suite.prepared_folder("toy").write_text("a file")
    assert of(tree, OTHER).state == "waiting"
    assert of(tree, FIRST).state == "stale"


def test_folders_that_come_and_go_while_it_looks_are_never_an_error(tree: Any) -> None:
    stop = threading.Event()
    jobs = tree.suite.jobs()[1:]

    def disturb(part: int) -> None:
        while not stop.is_set():
            for job in jobs[part::2]:
                tree.finish(job)
                tree.lease(job)
                tree.log(job, "")
                shutil.rmtree(tree.suite.folder(job), ignore_errors=True)

    threads = [threading.Thread(target=disturb, args=(part,)) for part in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        seen: list[Snapshot] = [look(tree.suite) for _ in range(60)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(len(snapshot.runs) == 16 for snapshot in seen)
    assert len({state for s in seen for state, count in s.counts().items() if count}) > 2
