"""Each job of a workstation has a GPU of its own; nvidia-smi is a script that lists some."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.operations import devices

AUTO = {"device": "auto"}
UUIDS = [f"GPU-{number:08d}-aaaa-bbbb-cccc-000000000000" for number in range(4)]
# A job: take a GPU (or two), note when it was held, and that torch was not there before.
JOB = """
import json, os, sys, time
from cmkd.operations import devices
assert "torch" not in sys.modules
with devices.claimed({"device": "auto"}, int(sys.argv[2])) as names:
    begin = time.monotonic()
    time.sleep(0.05)
    row = [names, os.environ["CUDA_VISIBLE_DEVICES"], begin, time.monotonic()]
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(row) + "\\n")
"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that puts an nvidia-smi on the PATH which lists so many GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    locks = tmp_path / "tmp"
    locks.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(locks))
    monkeypatch.setattr(devices, "PAUSE", 0.01)
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(locks))

    def install(count: int) -> None:
        lines = [f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: {UUIDS[n]})" for n in range(count)]
        script = folder / "nvidia-smi"
        script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        script.chmod(0o755)

    return install


def jobs(count: int, each: int, out: Path) -> list[Any]:
    """Run jobs at once and return when each of them held which devices."""
    command = [sys.executable, "-c", JOB, str(out), str(each)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(count)]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert said.count("\n") <= 1, said
    return [json.loads(line) for line in out.read_text().splitlines()]


def overlaps(rows: list[Any]) -> list[tuple[str, float]]:
    """Return the devices that two jobs held at one time."""
    by_device: dict[str, list[tuple[float, float]]] = {}
    for names, _, begin, end in rows:
        for name in names:
            by_device.setdefault(name, []).append((begin, end))
    found = []
    for name, spans in by_device.items():
        spans.sort()
        pairs = zip(spans, spans[1:], strict=False)
        found += [(name, later[0]) for first, later in pairs if later[0] < first[1]]
    return found


def test_sixteen_jobs_share_two_gpus_without_overlap(gpus, tmp_path: Path) -> None:
    gpus(2)
    rows = jobs(16, 1, tmp_path / "rows")
    assert len(rows) == 16
    assert overlaps(rows) == []
    assert {row[0][0] for row in rows} == set(UUIDS[:2])
    assert all(row[1] == ",".join(row[0]) for row in rows)


def test_jobs_that_want_two_of_three_do_not_wait_for_each_other(gpus, tmp_path: Path) -> None:
    gpus(3)
    rows = jobs(5, 2, tmp_path / "rows")
    assert overlaps(rows) == []
    assert all(len(set(row[0])) == 2 for row in rows)


def test_a_killed_job_leaves_its_gpu(gpus, tmp_path: Path) -> None:
    gpus(1)
    holder = subprocess.Popen([sys.executable, "-c", JOB.replace("0.05", "600"), "/dev/null", "1"])
    try:
        wait_until_held()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with devices.claimed(AUTO) as names:
        assert names == UUIDS[:1]


def wait_until_held() -> None:
    """Wait until another process holds the only GPU."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with devices.contextlib.ExitStack() as held:
            if not devices._locked(UUIDS[0], held):
                return
        time.sleep(0.05)
    raise AssertionError("nobody took the GPU")


def test_the_choice_is_that_of_cuda_visible_devices(gpus, monkeypatch: Any) -> None:
    gpus(4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert devices.visible() == ["2", "3"]
    with devices.claimed(AUTO) as one:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == one[0]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        with devices.claimed(AUTO) as other:
            assert sorted([*one, *other]) == ["2", "3"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_number_and_a_uuid_are_one_device(gpus, monkeypatch: Any, capsys: Any) -> None:
    gpus(2)
    with devices.claimed(AUTO, 2) as both:
        assert both == UUIDS[:2]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with devices.claimed(AUTO):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        with devices.claimed(AUTO) as other:
            assert other == UUIDS[1:2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("named", "expected"),
    [("", []), ("-1", []), ("0,-1,1", ["0"]), (" 0 , 1", ["0", "1"]), (UUIDS[1], [UUIDS[1]])],
)
def test_visible_ends_where_cuda_does(gpus, monkeypatch: Any, named: str, expected: Any) -> None:
    gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert devices.visible() == expected


def test_without_nvidia_smi_there_is_no_gpu_and_nothing_is_taken(monkeypatch: Any) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert devices.visible() == []
    with devices.claimed(AUTO) as names:
        assert names == []
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(
    ("execution", "variable"),
    [({"device": "cpu"}, ""), ({"device": "cuda:1"}, ""), ({"device": "auto"}, "SLURM_JOB_ID")],
)
def test_what_was_chosen_already_is_left(gpus, monkeypatch: Any, execution, variable) -> None:
    gpus(2)
    if variable:
        monkeypatch.setenv(variable, "17")
    with devices.claimed(execution) as names:
        assert names == []
        assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_more_than_there_are_is_refused(gpus) -> None:
    gpus(2)
    with pytest.raises(ConfigError, match=r"execution.gpus is 8, .* 2 GPU\(s\)"):
        devices.claimed(AUTO, 8).__enter__()


def test_a_link_in_the_place_of_a_lock_is_not_followed(gpus, tmp_path: Path) -> None:
    gpus(1)
    folder = devices._folder()
    (folder / f"{UUIDS[0]}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        devices.claimed(AUTO).__enter__()
    assert not (tmp_path / "elsewhere").exists()
