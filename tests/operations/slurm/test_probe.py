"""The two ends of a probe, one of them in a process of its own with a clock that is wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd import __version__
from cmkd.operations.slurm import probe, reader
from cmkd.operations.slurm.form import Form

SKEWED = """
import sys, time
real = time.time
time.time = lambda: real() + {ahead}
from pathlib import Path
from cmkd.operations.slurm import node
class Done: returncode, stderr = 0, ""
class Failed: returncode, stderr = 1, "error: no controller"
node.subprocess.run = lambda command, **_: Failed if "{fails}" in command else Done
node.main(Path(sys.argv[1]))
"""


def levels(found: Any) -> dict[str, list[str]]:
    """Return the levels of each subject."""
    listed: dict[str, list[str]] = {}
    for one in found:
        listed.setdefault(one.subject, []).append(one.level)
    return listed


@pytest.fixture
def run(
    published: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> Any:
    """Return a function that probes with a node whose clock is ahead and whose srun may fail."""
    monkeypatch.setattr(probe, "requests", lambda form, gpus: [form.requests()[1]])

    def start(ahead: float = 0.0, fails: str = "none") -> list[Any]:
        started = []

        def submit(request: Any, folder: Path) -> reader.Answer:
            text = SKEWED.format(ahead=ahead, fails=fails)
            started.append(subprocess.Popen([sys.executable, "-c", text, str(folder)]))
            return reader.Answer(0, "17\n", "")

        monkeypatch.setattr(probe, "submit", submit)
        found = list(probe.check(published, tmp_path, 30))
        assert [process.wait(timeout=30) for process in started] == [0]
        return found

    return start


def test_a_good_node_is_well(run: Any, tmp_path: Path) -> None:
    found = levels(run())
    assert set(found) == {"shared file system", "program", "clocks", "srun", "file system"}
    assert {level for one in found.values() for level in one} == {"ok"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ahead", [100.0, -100.0])
def test_a_clock_that_is_wrong_is_measured(run: Any, ahead: float) -> None:
    (found,) = [one for one in run(ahead) if one.subject == "clocks"]
    assert found.level == "wrong"
    measured = float(found.text.split("clock is ")[1].split(" s")[0])
    assert abs(measured - ahead) < 2


def test_a_srun_that_fails_inside_a_job_is_wrong(run: Any) -> None:
    found = {one.subject: one for one in run(fails="srun")}
    assert (found["srun"].level, "no controller" in found["srun"].text) == ("wrong", True)
    # A training that cannot ask for the time left is still told by a signal.
    found = {one.subject: one for one in run(fails="squeue")}
    assert (found["srun"].level, found["walltime"].level) == ("ok", "warning")


def test_a_job_that_is_refused_is_wrong(published: Form, tmp_path: Path, said: Any) -> None:
    said["sbatch"] = reader.Answer(1, "", "sbatch: error: invalid account")
    found = list(probe.check(published, tmp_path, 30))
    assert [one.level for one in found] == ["wrong", "wrong"]
    assert "invalid account" in found[0].text


def test_a_job_that_waits_is_taken_back(
    published: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    answers = {"sbatch": "17", "scontrol": "JobId=17 JobState=PENDING", "squeue": "Priority"}

    def ask(*command: str, **_: Any) -> reader.Answer:
        asked.append(command)
        return reader.Answer(0, answers.get(command[0], ""), "")

    monkeypatch.setattr(reader, "ask", ask)
    found = list(probe.check(published, tmp_path, 0.1))
    assert [one.level for one in found] == ["warning", "warning"]
    assert "waits in the queue (Priority)" in found[0].text
    assert ("scancel", "17") in asked


def test_a_job_that_wrote_nothing_saw_another_file_system(
    published: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"sbatch": "17", "scontrol": "JobId=17 JobState=FAILED"}
    monkeypatch.setattr(
        reader, "ask", lambda *command, **_: reader.Answer(0, answers.get(command[0], ""), "")
    )
    found = list(probe.check(published, tmp_path, 0.1))
    assert [one.subject for one in found] == ["shared file system"] * 2
    assert found[0].level == "wrong"


def test_another_program_on_the_node_is_wrong() -> None:
    node = {"cmkd": __version__, "python": "/other/python", "snakemake": True, "command": None}
    (found,) = probe._program(node)
    assert found.level == "wrong"


def test_slow_files_are_told_apart_from_slow_clocks(published: Form) -> None:
    # Sent at 100, seen there at 190 (their clock), written at 190, seen here at 280.
    found = list(probe._clock(published, {"seen": 190.0, "written": 190.0}, (100.0, 280.0)))
    assert [one.level for one in found] == ["ok", "wrong"]
    assert found[1].cure.endswith("latency-wait: 361")


def test_the_nodes_file_is_written_whole(tmp_path: Path) -> None:
    from cmkd.operations.slurm import node

    node.put(tmp_path / "a.json", {"time": time.time()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert node.get(tmp_path / "a.json") == json.loads((tmp_path / "a.json").read_text())
    assert node.get(tmp_path / "none.json") is None


def test_steps_are_tried_without_what_the_plugin_takes_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from cmkd.operations.slurm import node

    seen: dict[str, str] = {}

    def run(command: list[str], env: dict[str, str], **_: Any) -> Any:
        seen.update(env)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(node.subprocess, "run", run)
    for name in ("SLURM_CONF", "SLURM_GPUS", "SRUN_CPUS_PER_TASK", "SLURM_JOB_ID", "OTHER"):
        monkeypatch.setenv(name, "7")
    assert node._step("true") == ""
    assert {"SLURM_JOB_ID", "OTHER"} <= set(seen)
    assert not {"SLURM_CONF", "SLURM_GPUS", "SRUN_CPUS_PER_TASK"} & set(seen)
