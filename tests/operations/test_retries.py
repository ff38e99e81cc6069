"""What Snakemake is taught about retries, on jobs made by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.jobs import Job

from cmkd.operations import retries

RECORD = {"retry": False, "invocation": "now", "kind": "data", "message": "no sound"}


class Known:
    """A job as Snakemake's is, in what is looked at."""

    name = "train"

    def __init__(self, output: Path, times: int = 2) -> None:
        self.output = [str(output)]
        self.rule = SimpleNamespace(restart_times=times)

    @property
    def restart_times(self) -> int:
        return self.rule.restart_times


@pytest.fixture
def kind() -> Any:
    return type("Job", (Known,), {"restart_times": vars(Known)["restart_times"]})


def write(path: Path, **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(RECORD | changes))


def test_this_snakemake_has_what_is_taught() -> None:
    assert isinstance(vars(Job)["restart_times"], property)


def test_a_record_of_this_call_ends_the_retries_and_is_told(kind: Any, tmp_path: Path) -> None:
    said: list[str] = []
    assert retries.teach(kind, "now", said.append)
    job = kind(tmp_path / "run" / "weights.safetensors")
    assert job.restart_times == 2 and said == []
    write(tmp_path / "run" / "state" / "failure.json")
    assert job.restart_times == 0
    assert said == ["train is not tried again, it would fail again: data: no sound"]


@pytest.mark.parametrize(
    "changes",
    [
        {"invocation": "before"},
        {"invocation": None},
        {"retry": True},
        {"retry": None},
        {"retry": 0},
    ],
)
def test_another_record_leaves_them(kind: Any, tmp_path: Path, changes: dict) -> None:
    retries.teach(kind, "now", pytest.fail)
    write(tmp_path / "run" / "state" / "failure.json", **changes)
    assert kind(tmp_path / "run" / "weights.safetensors").restart_times == 2


def test_a_record_beside_the_first_output_counts(kind: Any, tmp_path: Path) -> None:
    retries.teach(kind, "now", lambda line: None)
    write(tmp_path / "fold-1.json.failure.json")
    assert kind(tmp_path / "fold-1.json").restart_times == 0
    assert kind(tmp_path / "fold-2.json").restart_times == 2


def test_jobs_without_retries_or_outputs_and_damaged_records_change_nothing(
    kind: Any, tmp_path: Path
) -> None:
    retries.teach(kind, "now", pytest.fail)
    path = tmp_path / "run" / "state" / "failure.json"
    write(path)
    assert kind(tmp_path / "run" / "weights", times=0).restart_times == 0
    job = kind(tmp_path)
    job.output = []
    assert job.restart_times == 2
    for text in ("", "[]", '{"retry": false, "invo'):
        path.write_text(text)
        assert kind(tmp_path / "run" / "weights").restart_times == 2


def test_taught_twice_it_is_asked_once(kind: Any, tmp_path: Path) -> None:
    said: list[str] = []
    for invocation in ("before", "now"):
        retries.teach(kind, invocation, said.append)
    write(tmp_path / "state" / "failure.json")
    assert kind(tmp_path / "weights").restart_times == 0
    assert len(said) == 1


@pytest.mark.parametrize("strange", [{}, {"restart_times": 3}])
def test_another_snakemake_is_left_alone_and_that_is_said(strange: dict) -> None:
    said: list[str] = []
    assert not retries.teach(type("Job", (), strange), "now", said.append)
    assert len(said) == 1 and "Job.restart_times" in said[0]
