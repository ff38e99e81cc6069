import os
from pathlib import Path

import pytest
import yaml

from cmkd import files
from cmkd.reports import runs


def status(folder, job):
    state = runs.collect(folder.suite)[job]
    return state.status, state.cause


def test_a_finished_run_is_done_and_brings_its_numbers(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job)
    state = runs.collect(folder.suite)[job]
    assert (state.status, state.cause) == ("done", "")
    assert state.metrics == files.read_json(state.folder / "metrics.json")
    assert state.cost["train"]["parameters"] == 12_345
    assert state.cost["evaluate"]["device_hours"] == 0.01


def test_an_untouched_run_is_missing_without_a_cause(made):
    folder = made()
    assert {state.status for state in runs.collect(folder.suite).values()} == {"missing"}
    assert runs.summary(list(runs.collect(folder.suite).values())) == []


def test_weights_without_metrics_are_missing(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job)
    (folder.suite.folder(job) / "metrics.json").unlink()
    assert status(folder, job) == ("missing", "trained, not scored yet")


def test_a_checkpoint_alone_is_missing(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    (folder.suite.folder(job) / "state").mkdir(parents=True)
    assert status(folder, job) == ("missing", "begun, not finished")


def test_a_failed_run_names_its_cause_on_one_line(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.fail(job, message="the loss is nan\n  in epoch 3")
    assert status(folder, job) == ("failed", "non-finite: the loss is nan in epoch 3")


def test_a_failed_retrain_never_shows_the_old_numbers(made):
    old = made()
    job = old.jobs("cnn_a")[0]
    old.finish(job)
    new = made(set={"training": {"lr": 0.5}})
    new.fail(job)
    state = runs.collect(new.suite)[job]
    assert state.status == "failed"
    assert state.metrics == {}


def test_a_failure_of_another_recipe_is_forgotten(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.fail(job, recipe="0" * 16)
    assert status(folder, job) == ("missing", "begun, not finished")


@pytest.mark.parametrize("kind", ["time", "budget"])
def test_a_run_stopped_in_time_or_by_the_budget_has_not_failed(made, kind):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.fail(job, kind=kind, message="stopped, run it again")
    assert status(folder, job) == ("missing", f"{kind}: stopped, run it again")


def test_a_changed_recipe_makes_exactly_its_runs_and_their_students_stale(made):
    old = made()
    old.finish()
    path = old.root / "config" / "models.yaml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries["tr"]["recipe"].setdefault("training", {})["lr"] = 0.5
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    states = runs.collect(made().suite).values()
    stale = {state.job.run for state in states if state.status == "stale"}
    done = {state.job.run for state in states if state.status == "done"}
    assert stale == {"tr", "cnn_a@tr", "tr@cnn_a"}
    assert done == {"cnn_a"}
    assert {state.cause for state in states if state.cause} == {"its recipe has changed since"}


def test_metrics_of_another_recipe_are_stale(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job, recipe="f" * 16)
    assert status(folder, job) == ("stale", "metrics.json is of another recipe")


def test_metrics_of_other_or_lost_weights_are_stale(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job)
    weights = folder.suite.folder(job) / "weights.safetensors"
    weights.write_bytes(b"other weights, of another size")
    assert status(folder, job) == ("stale", "metrics.json is of other weights")
    weights.unlink()
    assert status(folder, job) == ("stale", "metrics.json is of other weights")


def test_a_lost_record_is_stale(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job)
    (folder.suite.folder(job) / "recipe.yaml").unlink()
    assert status(folder, job) == ("stale", "recipe.yaml is not there")


def test_damaged_metrics_are_stale(made):
    folder = made()
    job = folder.jobs("cnn_a")[0]
    folder.finish(job)
    (folder.suite.folder(job) / "metrics.json").write_text('{"value": 0.', encoding="utf-8")
    assert status(folder, job) == ("stale", "metrics.json is not there or cannot be read")


def test_a_student_of_weights_that_are_gone_is_remarked_on(made):
    folder = made()
    folder.finish()
    student, teacher = folder.jobs("tr@cnn_a")[0], folder.jobs("cnn_a")[0]
    inputs = folder.suite.folder(student) / "inputs.json"
    files.write_json(inputs, files.read_json(inputs) | {"teacher": "0" * 64})
    assert status(folder, student) == ("done", "taught by weights that its teacher no longer has")
    assert status(folder, teacher) == ("done", "")


def test_a_run_on_older_data_is_remarked_on(made):
    folder = made()
    folder.finish()
    job = folder.jobs("cnn_a")[0]
    manifest = folder.suite.prepared_folder("tiny") / "manifest.csv"
    files.write_text(files.sidecar(manifest), "0" * 64 + "\n")
    assert status(folder, job) == ("done", "")
    files.write_text(files.sidecar(manifest), "2" * 64 + "\n")
    assert status(folder, job) == ("done", "its prepared data have changed since")


def test_weights_are_hashed_again_only_when_size_or_time_change(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"one")
    first = runs.sha256(path)
    calls: list[Path] = []
    monkeypatch.setattr(runs.files, "sha256_file", lambda p: calls.append(p) or "new")
    assert runs.sha256(path) == first
    assert calls == []
    os.utime(path, ns=(1, 1))
    assert runs.sha256(path) == "new"
    assert runs.sha256(tmp_path / "absent") is None


def test_collecting_writes_nothing(made):
    folder = made()
    folder.finish()
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.root.rglob("*"))
    runs.collect(folder.suite)
    assert sorted((p, p.stat().st_mtime_ns) for p in folder.root.rglob("*")) == before


def test_the_summary_counts_each_cause(made):
    folder = made()
    first, second, *_ = jobs = folder.jobs("cnn_a")
    folder.fail(first)
    folder.fail(second)
    states = [runs.collect(folder.suite)[job] for job in jobs]
    cause = "non-finite: the loss is nan in epoch 3, step 7"
    assert runs.summary(states) == [f"failed 2/6: {cause}"]
