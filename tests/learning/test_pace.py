"""RUN/state/progress.json: what it says while a training goes on."""

import time
from pathlib import Path

import pytest

from cmkd import files
from cmkd.learning import pace
from cmkd.learning.fit import State
from cmkd.learning.pace import Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def step(state: State, seconds: float, clips: int = 10) -> None:
    state.step += 1
    state.sums["clips"] += clips
    state.sums["seconds"] += seconds


def test_speed_and_time_left_are_those_of_steps_of_known_length(tmp_path, clock) -> None:
    told, state = Pace(tmp_path, "d", epochs=3), State()
    path = tmp_path / "state" / "progress.json"
    for _ in range(4):  # 10 clips in 2 s of work, and 1 s of something else
        clock[0] += 3
        step(state, 2)
        told(state, 20)
    found = files.read_json(path)
    assert (found["epoch"], found["epochs"], found["step"], found["steps"]) == (1, 3, 1, 60)
    assert (found["clips_per_second"], found["seconds_left"], found["loss"]) == (5, None, None)
    clock[0] += 3
    step(state, 2)
    told(state, 20)  # 12 s after the first file
    found = files.read_json(path)
    assert (found["step"], found["clips_per_second"], found["seconds_left"]) == (5, 5, 3 * 55)
    assert (found["format"], found["stage"], found["recipe"]) == (1, "train", "d")
    assert abs(found["time"] - time.time()) < 60


def test_it_goes_on_after_a_cut_and_ends_at_nought(tmp_path, clock) -> None:
    told, state = Pace(tmp_path, "d", epochs=2), State(epoch=1, batch=2, step=5)
    state.sums.update(clips=20.0, seconds=10.0)
    state.rows.append({"loss": 0.5})
    clock[0] += 1
    step(state, 4)
    told(state, 3)
    found = files.read_json(tmp_path / "state" / "progress.json")
    assert (found["epoch"], found["loss"], found["seconds_left"]) == (2, 0.5, None)
    state.epoch, state.batch, state.sums = 2, 0, State().sums
    told(state, 3)
    assert files.read_json(tmp_path / "state" / "progress.json")["epoch"] == 2


def test_a_training_writes_it_at_each_epochs_end(trained, wanted, monkeypatch, tmp_path) -> None:
    written, write = [], files.write_json

    def note(path: Path, value: dict) -> None:
        if Path(path).name == pace.NAME:
            written.append(dict(value))
        write(path, value)

    monkeypatch.setattr(files, "write_json", note)
    run = trained(wanted())
    ends = [row for row in written if row["loss"] is not None]
    assert [row["step"] for row in ends] == [4, 8, 12]
    assert [row["epoch"] for row in ends] == [2, 3, 3]
    assert ends[-1]["seconds_left"] == 0 and ends[-1]["steps"] == 12
    assert all(row["clips_per_second"] > 0 for row in written)
    last = (run / "history.csv").read_text().splitlines()[-1]
    assert repr(ends[-1]["loss"]) in last
    assert [path.name for path in (run / "state").glob("lease*")] == []
