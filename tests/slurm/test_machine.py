"""The cluster itself: nodes, GPUs, and that nothing but its own is taken down."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any


def test_a_job_gets_its_gpu_and_what_it_asked_for(cluster: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ask = ("sbatch", "--wait", "--gpus=2", "-c", "8", "--mem=32000", "-t", "5", "-o", str(out))
    cluster.run(*ask, "--comment=two", "--wrap", "echo $CUDA_VISIBLE_DEVICES", cwd=tmp_path)
    assert out.read_text() == "0,1\n"

    def accounted() -> list[dict[str, str]]:
        ended = [job for job in cluster.jobs() if job["state"] == "COMPLETED"]
        return [job for job in ended if job["comment"] == "two"]

    # The accounts are written a moment after the job has ended.
    cluster.wait(accounted, 30, "the job is in the accounts")
    (job,) = accounted()
    assert (job["cpus"], job["memory"]) == ("8", "32000M")
    assert job["nodes"] in ("node1", "node2")
    assert "gres/gpu=2" in job["tres"]


def test_nothing_but_its_own_is_taken_down(cluster: Any, tmp_path: Path) -> None:
    # Another cluster stands beside it, and a process that has nothing to do with either.
    other = type(cluster)(cluster.folder.with_name(f"{cluster.folder.name}-b"), accounting=False)
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        other.up()
        assert {other.port() + one for one in range(6)}.isdisjoint(
            cluster.port() + one for one in range(6)
        )
        out = tmp_path / "pid"
        other.run("sbatch", "-o", str(out), "--wrap", "echo $$; exec sleep 300", cwd=tmp_path)
        other.wait(lambda: out.is_file() and out.read_text().strip(), 30, "the job runs")
        job = Path(f"/proc/{out.read_text().strip()}/cmdline")
        # Without its controller the job cannot be cancelled in good order.
        other.kill("slurmctld")
        assert job.read_bytes().startswith(b"sleep")
        other.down()
        assert not job.exists() or not job.read_bytes()
        assert all(other.pid(name) is None for name in other.daemons())
        assert all(cluster.pid(name) for name in cluster.daemons())
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        other.down()
        shutil.rmtree(other.folder, ignore_errors=True)


def test_a_dead_node_comes_back(cluster: Any) -> None:
    cluster.kill("node3", jobs=True)
    assert cluster.pid("node3") is None
    cluster.wait(lambda: cluster.nodes()["node3"].startswith("down"), 60, "the node is missed")
    cluster.restore()
    assert cluster.nodes()["node3"] == "idle"


def test_without_packages_one_line_says_so(tmp_path: Path) -> None:
    # A machine whose apt-get refuses, and one of another user; both are content.
    here = Path(__file__).parent
    for name, text in (
        ("python3", 'echo "packages are missing"; exit 1'),
        ("apt-get", 'echo "E: no network"; exit 100'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = [here / "install", "touch", tmp_path / "ran"]
    how = {"env": {"PATH": path}, "capture_output": True, "text": True}
    done = subprocess.run(command, **how)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert "left out: apt-get could not install munge" in done.stdout
    assert "(E: no network)" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_with_packages_the_command_decides(tmp_path: Path) -> None:
    command = [Path(__file__).parent / "install", "sh", "-c", "exit 7"]
    assert subprocess.run(command, timeout=60).returncode == 7
