"""`track --watch`: runs in training appear, grow, pause, die, and give way to their record."""

import os
import shutil
import signal
import time

import pytest
from mlflow import MlflowClient

from cmkd import files, tracking
from cmkd.errors import StoreError
from cmkd.tracking import live, store, watching, writer

NOW = time.time()


@pytest.fixture
def suite(tmp_path, trees, empty_store):
    made = trees.load(trees.suite_file(tmp_path))
    made.results.mkdir(parents=True)
    shutil.copy(empty_store, made.results / "mlflow.db")
    return made


def runs(suite, view=1):
    client = MlflowClient(tracking.tracking_uri(suite))
    number = client.get_experiment_by_name("cmkd/toy").experiment_id
    return client.search_runs([number], run_view_type=view)


def points(suite, run, prefixes=("train", "val")):
    """A run's points as MLflow's client gives them."""
    client = MlflowClient(tracking.tracking_uri(suite))
    return sorted(
        (point.key, point.step, point.timestamp, point.value)
        for name in run.data.metrics
        if name.split("/")[0] in prefixes
        for point in client.get_metric_history(run.info.run_id, name)
    )


def test_curves_grow_while_a_training_writes_and_the_end_is_the_plain_replay(
    suite, trees, tmp_path
):
    job, watch = suite.jobs()[0], watching.Watch(suite)
    rows, steps = trees.rows_of(job, 5), {}
    for done in (0, 2, 4, 5):
        trees.begin(suite, job, rows[:done], NOW, number=done)
        assert watch.look() == "1 running, 3 waiting"
        (run,) = runs(suite)
        assert (run.info.status, run.data.tags["cmkd.state"]) == ("RUNNING", "running")
        assert "cmkd.content_hash" not in run.data.tags
        assert run.data.params["model.builder"]
        assert run.data.tags["progress"].startswith(f"epoch {done + 1} of 5, 123 clips/s")
        steps[done] = [step for name, step, _, _ in points(suite, run) if name == "train/loss"]
    assert steps == {done: list(range(1, done + 1)) for done in (0, 2, 4, 5)}
    assert runs(suite)[0].info.run_id == run.info.run_id
    shown = points(suite, run)
    for one in suite.jobs():
        trees.finish(suite, one)
    shutil.rmtree(suite.folder(job) / "state")
    assert watch.look() == "4 done"
    assert watch.finished
    assert shown == trees.curves(suite, job)  # what was shown was what history.csv says
    other = trees.load(trees.suite_file(tmp_path / "plain"))
    for one in other.jobs():
        trees.finish(other, one)
    tracking.track(other)
    assert content(suite) == content(other)
    assert trees.marker(suite)["pages"].keys() == trees.marker(other)["pages"].keys()
    assert tracking.track(suite).unchanged == 4


def content(suite):
    """All that a store holds of a suite's runs, without the names of tree, run and process."""
    found = []
    for run in runs(suite):
        kept = {
            name: text
            for name, text in run.data.tags.items()
            if name not in ("cmkd.run_key", "cmkd.writer", "cmkd.content_hash", "mlflow.user")
        }
        curves = points(suite, run, ("train", "val", "final"))
        found.append((run.info.run_name, run.info.status, kept, run.data.params, curves))
    return sorted(found, key=lambda entry: entry[0])


def test_a_training_that_dies_waits_or_fails_is_told_apart(suite, trees):
    job, watch = suite.jobs()[0], watching.Watch(suite)
    state = suite.folder(job) / "state"
    rows = trees.rows_of(job, 2)
    trees.begin(suite, job, rows, NOW)
    watch.look()
    silent(state)
    assert watch.look() == "4 waiting"
    (run,) = runs(suite)
    assert (run.info.status, run.data.tags["cmkd.state"]) == ("KILLED", "lost")
    trees.begin(suite, job, rows, NOW)
    watch.look()
    assert runs(suite)[0].info.status == "RUNNING"
    (state / "lease.json").unlink()  # stopped in good order
    watch.look()
    (run,) = runs(suite)
    assert (run.info.status, run.data.tags["cmkd.state"]) == ("SCHEDULED", "waiting")
    digest = suite.recipe(job.dataset, job.run).digest
    failure = {"kind": "non-finite", "message": "the loss is NaN", "recipe": digest}
    files.write_json(state / "failure.json", failure)
    assert watch.look() == "1 failed, 3 waiting"
    (run,) = runs(suite)
    assert (run.info.status, run.data.tags["cause"]) == ("FAILED", "non-finite: the loss is NaN")
    assert not watch.finished


def silent(state):
    """Make a lease whose last heartbeat is an hour old."""
    lease = files.read_json(state / "lease.json")
    files.write_json(state / "lease.json", lease | {"heartbeat": NOW - 3600})
    os.utime(state / "lease.json", (NOW - 3600, NOW - 3600))


def test_a_plain_pass_leaves_living_runs_and_marks_dead_ones(suite, trees):
    job, other = suite.jobs()[:2]
    for one in (job, other):
        trees.begin(suite, one, trees.rows_of(one, 2), NOW)
    watching.Watch(suite).look()
    before = {run.info.run_id for run in runs(suite)}
    silent(suite.folder(other) / "state")
    shutil.rmtree(suite.folder(job) / "state")
    trees.begin(suite, job, trees.rows_of(job, 3), NOW)
    report = tracking.track(suite)
    assert (report.running, report.waiting) == (1, 3)
    after = {run.data.tags["run"]: run for run in runs(suite)}
    assert {run.info.run_id for run in after.values()} == before
    assert (after[job.run].info.status, after[other.run].info.status) == ("RUNNING", "KILLED")
    assert len([p for p in points(suite, after[job.run]) if p[0] == "train/loss"]) == 3
    shutil.rmtree(suite.folder(other) / "state")  # nothing is left of it
    tracking.track(suite)
    assert [run.data.tags["run"] for run in runs(suite)] == [job.run]


def test_a_training_begun_anew_has_no_points_of_the_old_one(suite, trees):
    job, watch = suite.jobs()[0], watching.Watch(suite)
    rows = trees.rows_of(job, 4)
    trees.begin(suite, job, rows[:3], NOW)
    watch.look()
    later = [row | {"time": row["time"] + 1000, "loss": 9.0} for row in rows]
    trees.begin(suite, job, [rows[0], *later[1:]], NOW)
    watch.look()
    (run,) = runs(suite)
    losses = [value for name, _, _, value in points(suite, run) if name == "train/loss"]
    assert sorted(losses) == sorted([rows[0]["loss"], 9.0, 9.0, 9.0])


def test_another_process_goes_on_with_a_shown_run(suite, trees):
    job = suite.jobs()[0]
    for done in (1, 3):
        trees.begin(suite, job, trees.rows_of(job, done), NOW)
        watching.Watch(suite).look()
    (run,) = runs(suite, view=3)  # deleted ones, too
    assert len([p for p in points(suite, run) if p[0] == "train/lr"]) == 3


def test_a_checkpoint_of_another_recipe_is_not_shown(suite, trees):
    job = suite.jobs()[0]
    trees.begin(suite, job, trees.rows_of(job, 3), NOW, number=1)
    path = suite.folder(job) / "state" / "checkpoint-1.json"
    body = files.read_json(path)
    files.write_json(path, body | {"identity": {"recipe": "0123456789abcdef"}})
    watching.Watch(suite).look()
    (run,) = runs(suite)
    assert points(suite, run) == []


def test_the_newest_checkpoint_counts(suite, trees):
    job = suite.jobs()[0]
    rows = trees.rows_of(job, 4)
    trees.begin(suite, job, rows[:4], NOW, number=4)
    trees.begin(suite, job, rows[:3], NOW, number=3)
    sight = live.look(suite, next(iter(writer.collect(suite).values())))
    assert [row["epoch"] for row in sight.rows] == [1, 2, 3, 4]


def test_what_has_not_changed_is_not_read_again(suite, trees, monkeypatch):
    for job in suite.jobs()[:3]:
        trees.finish(suite, job)
    watch = watching.Watch(suite)
    watch.look()
    watch.look()  # writes the saved views
    read, asked = [], []
    monkeypatch.setattr(watching, "state_of", lambda suite, job: read.append(job))
    monkeypatch.setattr(writer.Copy, "known", lambda *_: asked.append(1))
    watch.look()
    assert (read, asked) == ([], [])
    monkeypatch.undo()
    trees.finish(suite, suite.jobs()[1], accuracy=0.5)
    again = []
    real = watching.state_of
    monkeypatch.setattr(watching, "state_of", lambda s, job: again.append(job) or real(s, job))
    watch.look()
    assert again == [suite.jobs()[1]]


def test_an_absent_store_is_told_once_and_waited_for(suite, trees, monkeypatch):
    said, pauses = [], []
    answers = ["away", "away", "there"]

    def client(uri):
        if answers and answers.pop(0) == "away":
            raise StoreError("the MLflow store http://lab does not answer")
        return real(uri)

    real = store.client
    monkeypatch.setattr(store, "client", client)
    monkeypatch.setattr(watching.time, "sleep", pauses.append)
    for job in suite.jobs():
        trees.finish(suite, job)
    tracking.watch(suite, 7.0, said.append)
    assert [line.split(" ", 1)[-1] for line in said] == [
        "the MLflow store http://lab does not answer; trying again every 7 s",
        "the store answers again",
        "4 done",
        "runs are done; see them with `cmkd ui`",
    ]
    assert pauses == [7.0, 7.0]
    assert len(runs(suite)) == 4


def test_ctrl_c_ends_it_in_good_order(tmp_path, trees, empty_store, cmkd):
    path = trees.suite_file(tmp_path)
    suite = trees.load(path)
    suite.results.mkdir(parents=True)
    shutil.copy(empty_store, suite.results / "mlflow.db")
    trees.finish(suite, suite.jobs()[0])
    one = cmkd("track", path, "--watch", "0.2")
    end = time.monotonic() + 60
    while "1 done, 3 waiting" not in one.out.read_text():
        assert one.poll() is None and time.monotonic() < end, one.out.read_text()
        time.sleep(0.05)
    one.send_signal(signal.SIGINT)
    assert one.wait(30) == 0, one.out.read_text()
    assert one.out.read_text().strip().endswith("no longer watching; the runs go on")
    assert one.out.read_text().count("1 done, 3 waiting") == 1


def test_a_wrong_pause_is_a_sentence(capsys):
    from cmkd.cli import main

    with pytest.raises(SystemExit):
        main(["track", "--watch", "config/demo.yaml"])
    assert "the suite stands before --watch" in capsys.readouterr().err
