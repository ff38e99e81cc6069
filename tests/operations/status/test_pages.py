"""The page, the JSON, the watch."""

import io
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd import cli, files
from cmkd.operations.status import pages, watch
from cmkd.operations.status.look import look
from cmkd.operations.status.pages import Style
from cmkd.operations.status.runs import STATES
from cmkd.operations.status.show import as_json
from cmkd.plan import suites
from cmkd.plan.suites import Job

FIRST = Job("toy", "small_cnn", 1, 0)
OTHER = Job("toy", "small_ast", 2, 1)
NARROW = Style(True, 80, 50, False)
ROOT = Path(__file__).resolve().parents[3]


def page(tree: Any, style: Style = NARROW, everything: bool = False) -> str:
    """Return the page."""
    return pages.page(look(tree.suite), style, everything)


def busy(tree: Any) -> None:
    """Put runs into every state."""
    jobs = tree.suite.jobs()
    tree.finish(*jobs[:6])
    tree.lease(jobs[6])
    tree.progress(jobs[6])
    tree.lease(jobs[7], ahead=300, stage="evaluate")
    tree.fail(jobs[8])
    tree.fail(jobs[9], message="word " * 60)
    tree.lease(jobs[10], age=500)
    tree.finish(jobs[11])
    (tree.suite.folder(jobs[11]) / "recipe.yaml").write_text("run: other\n")


def test_the_page_counts_and_fits_80_columns(tree: Any) -> None:
    busy(tree)
    text = page(tree)
    assert "small: 6 of 16 runs done" in text
    counts = look(tree.suite).counts()
    for state in ("running", "failed", "lost", "stale", "waiting"):
        assert f"{counts[state]} {state}" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "out/logs/train/toy/" in text and "epoch 3/25" in text and "3 min left" in text
    assert "its clock is 5 min ahead" in text


def test_a_groups_row_counts_folds_and_seeds_together(tree: Any) -> None:
    tree.finish(*(Job("toy", "small_ast", fold, 0) for fold in (1, 2)))
    tree.lease(OTHER)
    row = next(line for line in page(tree).splitlines() if line.startswith("  small_ast "))
    assert row.split() == ["small_ast", "2/4", "1", "1"]
    assert "folds 1-2 x seeds 0-1" in page(tree)


def test_long_names_stay_whole(tree: Any) -> None:
    name = "@".join(["small_cnn", "small_ast"] * 5)
    keys = {"pairs": [name]}
    tree.suite = suites.make(tree.suite.config | keys, Path("config/small.yaml"))
    tree.fail(Job("toy", name, 1, 0))
    assert f"  {name}" in page(tree).splitlines()
    assert f"toy {name} fold 1 seed 0" in page(tree)


def test_long_lists_are_cut_and_say_so(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST", 3)
    for job in tree.suite.jobs()[4:]:
        tree.fail(job)
    text = page(tree)
    assert "and 9 more (--all shows them)" in text
    assert text.count("the loss is nan") == 3
    whole = page(tree, everything=True)
    assert "more (--all" not in whole and whole.count("the loss is nan") == 12


def test_colours_are_for_terminals_only(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert pages.style(Terminal()).colour and not pages.style(io.StringIO()).colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not pages.style(Terminal()).colour
    monkeypatch.delenv("NO_COLOR")
    busy(tree)
    coloured = page(tree, Style(True, 80, 50, True))
    assert "\x1b[31m" in coloured
    assert _plain(coloured) == _plain(page(tree))


def _plain(text: str) -> str:
    """Return a text without colours and without times that pass."""
    text = re.sub(r"\x1b\[\d*m", "", text)
    return "\n".join(line.rstrip() for line in re.sub(r"\d+ s ago", "", text).splitlines())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (-3, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (7200, "2.0 h"),
     (5 * 86400, "5.0 days")],
)  # fmt: skip
def test_times_in_words(seconds: float, said: str) -> None:
    assert pages.span(seconds) == said


def test_what_is_left_is_the_median_of_finished_runs(tree: Any) -> None:
    """Worked by hand: three runs of 100, 200 and 900 s with 10 s of scoring, one is left."""
    jobs = [job for job in tree.suite.jobs() if job.run == "small_cnn"]
    tree.finish(*jobs[1:])
    for job, seconds in zip(jobs, (100, 200, 900, 0), strict=True):
        for name, value in (("cost.json", seconds), ("cost-evaluate.json", 10)):
            (tree.suite.folder(job) / name).write_text(json.dumps({"seconds": {"total": value}}))
    (tree.suite.folder(jobs[3]) / "metrics.json").unlink()
    left = look(tree.suite).left
    assert left.seconds == statistics.median([110, 210, 910])
    assert (left.runs, left.unknown) == (13, 12)


def test_the_time_left_of_a_running_run_is_its_own(tree: Any) -> None:
    shutil.rmtree(tree.suite.folder(FIRST))  # no other measure
    tree.lease(OTHER)
    tree.progress(OTHER, seconds_left=42.0)
    assert look(tree.suite).left.seconds == 42.0


# ------------------------------------------------------------------------------------------ JSON


def test_every_key_of_the_json_is_documented(tree: Any) -> None:
    busy(tree)
    value = json.loads(json.dumps(as_json(look(tree.suite)), allow_nan=False))
    text = (ROOT / "docs" / "interfaces.md").read_text()
    section = text.split("## cmkd status --json")[1].split("\n## ")[0]
    keys = {*value, *value["left"], *value["queue"], *value["jobs"][0], *value["data"][0]}
    assert {key for key in keys if f"`{key}`" not in section} == set()
    assert set(value["counts"]) == set(STATES)
    assert {state for state in STATES if f"`{state}`" not in section} == set()
    assert sum(value["counts"].values()) == value["runs"] == len(value["jobs"]) == 16
    assert all(set(job) == set(value["jobs"][0]) for job in value["jobs"])


# ------------------------------------------------------------------------------------- the verb


def test_the_verb_prints_page_and_json(tree: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "config/small.yaml"]) == 0
    assert "small: 1 of 16 runs done" in capsys.readouterr().out
    assert cli.main(["status", "config/small.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["done"] == 1


def test_failed_runs_are_no_failure_of_the_verb(tree: Any) -> None:
    busy(tree)
    assert cli.main(["status", "config/small.yaml"]) == 0


@pytest.mark.parametrize(
    "arguments", [["config/nothing.yaml"], ["config/small.yaml", "--json", "--watch"]]
)
def test_a_wrong_request_is_one_sentence(
    tree: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cmkd: ") and len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("seconds", ["0", "nan", "soon", "config/small.yaml"])
def test_a_watch_needs_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["status", "--watch", seconds])
    assert stopped.value.code == 2 and repr(seconds) in capsys.readouterr().err


def test_the_verb_imports_nothing_heavy(tree: Any) -> None:
    heavy = ("torch", "pandas", "mlflow", "scipy", "matplotlib", "snakemake", "numpy")
    code = (
        "import sys; from cmkd import cli; cli.main(['status', 'config/small.yaml']);"
        f" print('HEAVY', *(name for name in {heavy!r} if name in sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(files.checkout())}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY"


# ---------------------------------------------------------------------------------------- watching


def test_a_watch_in_a_log_adds_lines_only_for_changes_and_ends_when_all_is_done(tree: Any) -> None:
    out = io.StringIO()
    told: list[int] = []
    jobs = tree.suite.jobs()

    def sleep(_: float) -> None:
        told.append(len(out.getvalue().splitlines()))
        if len(told) == 2:
            tree.lease(OTHER)
        if len(told) == 4:
            tree.finish(OTHER)
        if len(told) == 6:
            tree.finish(*jobs)

    watch.watch(tree.suite, out, 5.0, sleep=sleep)
    lines = out.getvalue().splitlines()
    assert told[0] == told[1] and told[2] == told[3] and told[4] == told[5]
    assert "toy small_ast fold 2 seed 1: waiting -> running" in "\n".join(lines[told[1] : told[2]])
    assert "toy small_ast fold 2 seed 1: running -> done" in "\n".join(lines[told[3] : told[4]])
    assert lines[-1].endswith("of 16 runs 16 done")
    assert "\x1b" not in out.getvalue()


def test_a_watch_never_looks_all_the_time(tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = look(tree.suite)
    monkeypatch.setattr(watch, "look", lambda suite: time.sleep(0.05) or slow)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        raise KeyboardInterrupt

    watch.watch(tree.suite, io.StringIO(), 0.1, sleep=sleep)
    assert pauses[0] >= 0.5


def test_a_watch_on_a_terminal_redraws_and_ctrl_c_ends_it_with_0(tree: Any) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(files.checkout()), "TERM": "xterm"}
    command = [sys.executable, "-m", "cmkd.cli", "status", "config/small.yaml", "--watch", "0.1"]
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}

    def heed_ctrl_c() -> None:  # a shell lets its background jobs ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(command, env=environment, preexec_fn=heed_ctrl_c, **streams)
    os.close(theirs)
    try:
        assert "small: 1 of 16 runs done" in _until(ours, "small_ast@small_cnn")
        tree.lease(OTHER)
        drawn = _until(ours, "1 running")
        assert "1 running" in drawn and "\x1b[H" in drawn and "\x1b[K" in drawn
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _until(handle: int, wanted: str) -> str:
    """Read a terminal until a text is there."""
    text = ""
    end = time.monotonic() + 60
    while wanted not in text and time.monotonic() < end:
        if select.select([handle], [], [], 0.5)[0]:
            text += os.read(handle, 65536).decode()
    return text
