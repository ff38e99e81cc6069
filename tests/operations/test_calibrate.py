"""Calibration: the real training on noise, stopped after a moment; no number of it is asserted."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmkd.errors import ConfigError, RunError
from cmkd.operations import calibrate, calibration
from cmkd.plan import suites, work
from cmkd.plan.calibration import read
from cmkd.plan.forecast import forecasts
from cmkd.plan.preview import render

SUITE = {
    "datasets": ["toy"],
    "models": ["small_cnn", "small_ast"],
    "pairs": ["small_cnn@small_ast"],
    "folds": [1],
    "execution": {"device": "cpu"},
    "set": {"training": {"batch": 4}},
    "results": "results/small",
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> suites.Suite:
    monkeypatch.chdir(tmp_path)
    return suites.make(SUITE, "small.yaml")


@pytest.mark.parametrize("run", ["small_ast", "small_cnn@small_ast"])
@pytest.mark.parametrize("validated", [False, True])
def test_a_pair_is_measured(suite: Any, tmp_path: Path, run: str, validated: bool) -> None:
    order = calibrate._order(suite, "toy", run, 0.05) | {"validated": validated}
    found = calibration.measure(json.loads(json.dumps(order)), tmp_path, time.time() - 5)
    assert set(calibrate.PARTS) | {"device", "versions", "time"} == set(found)
    assert found["device"] == "cpu, 1 thread"
    assert all(found[part] > 0 for part in ("boot", "start", "first", "later", "score", "again"))
    assert 0 <= found["taken"] < 1


def test_the_real_recipe_is_trained_with_its_teacher(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    build = calibration.train.build_task

    def noting(found: Any, execution: Any) -> Any:
        seen.append(build(found, execution))
        return seen[-1]

    monkeypatch.setattr(calibration.train, "build_task", noting)
    order = calibrate._order(suite, "toy", "small_cnn@small_ast", 0.05)
    calibration.measure(order, tmp_path, time.time())
    task = seen[-1]
    recipe = suite.recipe("toy", "small_cnn@small_ast").values
    assert task.teacher.name == "small_ast"
    assert task.training["lr"] == recipe["training"]["lr"]
    assert task.training["batch"] == 4 and len(task.views.banks) == 4 * calibrate.ROWS
    assert len(seen) == 2  # the first is thrown away: it only loads libraries


def test_noise_has_roles_that_share_no_clip(suite: Any, tmp_path: Path) -> None:
    order = calibrate._order(suite, "toy", "small_ast", 1.0) | {"validated": True}
    clips = calibration.Noise(order, tmp_path)
    parts = [set(clips.subset(1, role)) for role in ("train", "val", "test")]
    assert set.union(*parts) == set(range(len(clips)))
    assert sum(map(len, parts)) == len(clips)
    assert clips.wave(3).dtype == np.int16 and len(clips.wave(3)) == 2 * 16000  # toy: 2 s
    assert (clips.labels.sum(axis=1) == 1).all()


def test_processes_measure_beside_each_other_and_the_plan_rests_on_it(
    suite: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    only = suites.make({**SUITE, "pairs": ["alone"], "models": ["small_ast"]}, "small.yaml")
    assert "estimated" in render(forecasts([only]))
    calibrate.calibrate([only], at_once=2, seconds=0.1)
    (one,) = read()
    assert (one.run, one.at_once) == ("toy/small_ast", 2)
    assert one.likeness == work.of_run(only, "toy", "small_ast")
    assert one.versions["torch"]
    text = render(forecasts([only]))
    assert "calibrated  would run: new" in text and "a calibration on the device" in text
    assert "calibration: 1 of 1" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said(
    suite: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = calibrate._order(suite, "toy", "small_ast", 0.1) | {"recipe": "model: {}"}
    with pytest.raises(RunError, match="^small_ast cannot be measured on this device: KeyError"):
        calibrate._answer(calibrate._start(tmp_path / "one", json.dumps(broken)), "small_ast")
    monkeypatch.setitem(suite.entries.datasets, "toy", {**suite.dataset("toy"), "size": None})
    with pytest.raises(ConfigError, match="nobody knows how long a clip of 'toy' is"):
        calibrate._order(suite, "toy", "small_ast", 0.1)


def test_as_many_at_once_as_processors_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(calibrate.devices, "visible", lambda: [])
    kinds = [{"device": "auto", "threads": 3}, {"device": "cpu", "threads": 16}, {"device": "cuda"}]
    made = [suites.make({**SUITE, "execution": kind}, "small.yaml") for kind in kinds]
    assert [calibrate._places(suite) for suite in made] == [2, 1, 1]
    monkeypatch.setattr(calibrate.devices, "visible", lambda: ["0"])
    assert calibrate._places(made[0]) == 1
