"""Threads are never more than the kernel and Slurm give."""

import os
from pathlib import Path

import pytest
import torch

from cmkd.scoring import costs, threads
from cmkd.scoring.predict import choose_device


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors as far as the kernel is concerned."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("slurm", "processes", "expected"),
    [
        (None, None, 8),
        ("3", None, 3),
        ("16", None, 8),  # Slurm may be mistaken about the machine
        ("8", "3", 2),  # two each, and two left over
        ("1", "2", 1),
        ("", "0", 8),
    ],
)
def test_processors(eight: None, slurm: str, processes: str, expected: int) -> None:
    given = {"SLURM_CPUS_PER_TASK": slurm, "LOCAL_WORLD_SIZE": processes}
    environment = {name: value for name, value in given.items() if value is not None}
    assert threads.processors(environment) == expected


def test_fewer_threads_than_asked_for_are_said(
    eight: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert threads.granted(4, {"SLURM_CPUS_PER_TASK": "4"}) == 4
    assert capsys.readouterr().out == ""
    assert threads.granted(4, {"SLURM_CPUS_PER_TASK": "3"}) == 3
    said = capsys.readouterr().out
    assert said == (
        "threads: 3; execution.threads asks for 4, but this process was given 3 processor(s)\n"
    )


def test_torch_gets_the_threads_and_the_record_holds_them(
    eight: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    before = torch.get_num_threads()
    try:
        device = choose_device({"device": "cpu", "threads": 5})
        assert torch.get_num_threads() == 2
        facts = costs.machine(device, {"threads": 5})
    finally:
        torch.set_num_threads(before)
    assert facts["threads"] == 2
    assert facts["execution"] == {"threads": 5}
    host = Path("/proc/sys/kernel/hostname").read_text().strip()
    assert facts["place"] == {
        "host": host,
        "processors": 2,
        "cuda_visible_devices": "",
        "slurm_job": "17",
    }
