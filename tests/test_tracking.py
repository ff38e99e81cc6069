"""Replay into MLflow: what is written, and that no pass leaves doubles or gaps."""

import base64
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import pytest

from cmkd import files, tracking
from cmkd.errors import RunError
from cmkd.plan import suites
from cmkd.tracking import entries, store, upload

HISTORY = """epoch,step,time,seconds,lr,loss,loss_hard,loss_soft,clips_per_second,val_accuracy
1,4,1700000001.5,1.5,0.003,1.5,1.4,,100.0,0.25
2,8,1700000003.25,1.75,0.0015,inf,1.2,0.1,101.0,0.5
"""
RUNS = 4


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "GIT_PYTHON_REFRESH"):
        monkeypatch.setenv(name, os.environ.get(name, "true" if name[0] != "G" else "quiet"))


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store without experiments, made once: its tables take longer than a pass."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def suite(tmp_path, empty_store):
    made = make_suite(tmp_path)
    made.results.mkdir(parents=True)
    shutil.copy(empty_store, made.results / "mlflow.db")
    return made


def make_suite(tmp_path, **more):
    config = {
        "datasets": ["toy"],
        "models": ["small_cnn", "small_ast"],
        "pairs": ["alone", "cross"],
        "folds": [1],
        "seeds": [0],
        "results": str(tmp_path / "with space" / "results"),
        "catalog": str(files.checkout() / "config"),
    }
    return suites.Suite(config | more, "small", files.checkout() / "config")


def finish(suite, job, accuracy=0.75):
    """Make the folder of a finished run."""
    folder, recipe = suite.folder(job), suite.recipe(job.dataset, job.run)
    files.write_text(folder / "recipe.yaml", recipe.text)
    files.write_bytes(folder / "weights.safetensors", f"{job} {accuracy}".encode())
    files.write_text(folder / "history.csv", HISTORY)
    files.write_json(folder / "inputs.json", {"format": 1, "fold": job.fold, "manifest": "ab" * 32})
    cost = {
        "format": 1,
        "seconds": {"student": 2.0, "total": 3.5},
        "parameters": 1000,
        "execution": {"threads": 1},
        "commit": "c0ffee",
        "device": "cpu",
        "flops": 49_000_000,
        "start": "2023-11-14T22:13:20+00:00",
        "end": "2023-11-14T22:13:24+00:00",
    }
    files.write_json(folder / "cost.json", cost)
    after = {"seconds": {"total": 0.5}, "end": "2023-11-14T22:13:30+00:00"}
    files.write_json(folder / "cost-evaluate.json", after)
    values = {"accuracy": accuracy, "map": 0.8, "auc": 0.9, "d_prime": None}
    metrics = {
        "format": 1,
        "recipe": recipe.digest,
        "weights": files.sha256_file(folder / "weights.safetensors"),
        "metric": "accuracy",
        "value": accuracy,
        "metrics": values,
        "readout": "last",
        "split": "test",
        "readouts": {"last": {"metrics": values}, "averaged": {"metrics": {"accuracy": 0.5}}},
    }
    files.write_json(folder / "metrics.json", metrics)


def finish_all(suite):
    for job in suite.jobs():
        finish(suite, job)


def client_of(suite):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.tracking_uri(suite))


def tracked(suite, view=1):
    client = client_of(suite)
    experiment = client.get_experiment_by_name("cmkd/toy")
    return client.search_runs([experiment.experiment_id], run_view_type=view)


def keys(suite):
    return sorted(run.data.tags["cmkd.run_key"] for run in tracked(suite))


def expected_keys(suite):
    identity = (suite.results / "id").read_text().strip()
    return sorted(
        f"{identity}/{j.dataset}/{j.run}/fold-{j.fold}/seed-{j.seed}" for j in suite.jobs()
    )


def test_a_run_is_written_whole(suite):
    finish_all(suite)
    report = tracking.track(suite)
    assert (report.added, report.replaced, report.unchanged) == (RUNS, 0, 0)
    run = next(r for r in tracked(suite) if r.data.tags["run"] == "small_ast@small_cnn")
    assert run.info.run_name == "small_ast@small_cnn f1 s0"
    assert run.info.status == "FINISHED"
    begin = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC).timestamp()
    assert (run.info.start_time, run.info.end_time) == (begin * 1000, (begin + 4) * 1000)
    tags = run.data.tags
    assert (tags["model"], tags["student"]) == ("small_ast", "small_ast")
    assert (tags["teacher"], tags["device"]) == ("small_cnn", "cpu")
    assert tags["direction"] == "cnn_to_transformer"
    assert (tags["family"], tags["teacher_family"]) == ("ast", "cnn")
    assert (tags["fold"], tags["seed"], tags["commit"]) == ("1", "0", "c0ffee")
    assert tags["recipe"] == suite.recipe("toy", "small_ast@small_cnn").digest
    note = tags["mlflow.note.content"].splitlines()
    assert note[0] == (
        "`small_ast` taught by `small_cnn` (CNN → transformer) on toy, fold 1, seed 0."
    )
    assert note[2] == "**accuracy 0.7500** on the test clips, readout last."
    assert {"| last | map | 0.8000 |", "| averaged | accuracy | 0.5000 |"} <= set(note)
    params = run.data.params
    assert params["model.builder"] == "ast"
    assert params["objective.lambda"] == str(
        suite.recipe("toy", "small_ast@small_cnn").values["objective"]["lambda"]
    )
    assert params["teacher.run"] == "small_cnn"
    metrics = run.data.metrics
    assert (metrics["final/accuracy"], metrics["readout_averaged/accuracy"]) == (0.75, 0.5)
    assert "final/d_prime" not in metrics
    assert (metrics["usage/seconds_total"], metrics["usage/parameters"]) == (3.5, 1000)
    assert (metrics["usage/evaluate_seconds_total"], metrics["usage/gflops"]) == (0.5, 0.049)
    assert not [name for name in metrics if "threads" in name]
    assert run.inputs.dataset_inputs[0].dataset.name == "toy"


def test_curves_have_their_true_times(suite):
    finish_all(suite)
    tracking.track(suite)
    client, run = client_of(suite), tracked(suite)[0]

    def curve(name):
        found = client.get_metric_history(run.info.run_id, name)
        return sorted((m.step, m.timestamp, m.value) for m in found)

    assert curve("train/lr") == [(1, 1700000001500, 0.003), (2, 1700000003250, 0.0015)]
    assert curve("val/accuracy") == [(1, 1700000001500, 0.25), (2, 1700000003250, 0.5)]
    assert curve("train/loss_soft") == [(2, 1700000003250, 0.1)]  # empty cells are no points
    assert curve("train/loss") == [(1, 1700000001500, 1.5)]  # infinity cannot be stored


def test_recipe_and_history_are_artifacts_in_a_path_with_a_space(suite):
    finish_all(suite)
    tracking.track(suite)
    run = tracked(suite)[0]
    names = {item.path for item in client_of(suite).list_artifacts(run.info.run_id)}
    assert {"recipe.yaml", "history.csv", "metrics.json", "cost.json"} <= names
    stored = list((suite.results / "mlartifacts").rglob("history.csv"))
    assert len(stored) == RUNS
    assert stored[0].read_text() == HISTORY


def test_twice_changes_nothing(suite):
    finish_all(suite)
    tracking.track(suite)
    before = sorted(run.info.run_id for run in tracked(suite))
    report = tracking.track(suite)
    assert (report.added, report.replaced, report.unchanged) == (0, 0, RUNS)
    assert sorted(run.info.run_id for run in tracked(suite)) == before
    assert keys(suite) == expected_keys(suite)


def test_a_retrained_run_replaces_the_old_one(suite):
    finish_all(suite)
    tracking.track(suite)
    finish(suite, suite.jobs()[0], accuracy=0.5)
    report = tracking.track(suite)
    assert (report.added, report.replaced, report.unchanged) == (0, 1, RUNS - 1)
    assert keys(suite) == expected_keys(suite)
    values = sorted(run.data.metrics["final/accuracy"] for run in tracked(suite))
    assert values == [0.5, 0.75, 0.75, 0.75]


def test_late_runs_are_added(suite):
    jobs = suite.jobs()
    for job in jobs[:2]:
        finish(suite, job)
    report = tracking.track(suite)
    assert (report.added, report.waiting) == (2, 2)
    finish_all(suite)
    report = tracking.track(suite)
    assert (report.added, report.unchanged, report.waiting) == (2, 2, 0)
    assert keys(suite) == expected_keys(suite)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of ours catches it."""


@pytest.mark.parametrize(
    ("call", "at"),
    [
        ("create_run", 1),
        ("log_batch", 2),
        ("log_artifact", 3),
        ("set_terminated", 1),
        ("set_tag", 2),
        ("delete_run", 2),
    ],
)
def test_killed_in_the_middle_it_heals(suite, monkeypatch, call, at):
    from mlflow import MlflowClient

    finish_all(suite)
    if call == "delete_run":  # between the new run and the end of the old one
        tracking.track(suite)
        for job in suite.jobs():
            finish(suite, job, accuracy=0.5)
    real, calls = getattr(MlflowClient, call), []

    def dying(*arguments, **options):
        calls.append(call)
        if len(calls) == at:
            raise Killed
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, dying)
        with pytest.raises(Killed):
            tracking.track(suite)
    tracking.track(suite)
    assert keys(suite) == expected_keys(suite)
    assert all(run.info.status == "FINISHED" for run in tracked(suite))
    assert all("cmkd.content_hash" in run.data.tags for run in tracked(suite))
    assert tracking.track(suite).unchanged == RUNS


def test_the_hash_is_set_after_the_end(suite, monkeypatch):
    from mlflow import MlflowClient

    order = []
    for name in ("set_terminated", "set_tag"):
        real = getattr(MlflowClient, name)

        def noted(*arguments, real=real, name=name, **options):
            order.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(MlflowClient, name, noted)
    finish(suite, suite.jobs()[0])
    tracking.track(suite)
    assert order == ["set_terminated", "set_tag"]


def test_doubles_of_two_writers_are_merged(suite):
    finish_all(suite)
    tracking.track(suite)
    original = tracked(suite)[0]
    copied = {name: value for name, value in original.data.tags.items() if name.startswith("cmkd.")}
    client_of(suite).create_run(original.info.experiment_id, tags=copied)
    assert len(tracked(suite)) == RUNS + 1
    tracking.track(suite)
    assert keys(suite) == expected_keys(suite)


def test_a_stale_run_is_marked_and_a_reverted_edit_unmarks_it(suite):
    finish_all(suite)
    tracking.track(suite)
    path = suite.folder(suite.jobs()[0]) / "recipe.yaml"
    text = path.read_text()
    files.write_text(path, text + "# edited\n")
    report = tracking.track(suite)
    assert (report.waiting, report.unchanged) == (1, RUNS - 1)
    states = sorted(run.data.tags["cmkd.state"] for run in tracked(suite))
    assert states == ["done", "done", "done", "stale"]
    files.write_text(path, text)
    assert tracking.track(suite).unchanged == RUNS
    assert {run.data.tags["cmkd.state"] for run in tracked(suite)} == {"done"}


def test_a_failed_retrain_shows_no_old_numbers(suite):
    finish_all(suite)
    tracking.track(suite)
    job = suite.jobs()[0]
    (suite.folder(job) / "metrics.json").unlink()
    failure = {
        "kind": "non-finite",
        "message": "the loss is NaN at epoch 2",
        "recipe": suite.recipe(job.dataset, job.run).digest,
    }
    files.write_json(suite.folder(job) / "state" / "failure.json", failure)
    assert tracking.track(suite).replaced == 1
    assert keys(suite) == expected_keys(suite)
    run = next(r for r in tracked(suite) if r.info.status == "FAILED")
    assert "NaN at epoch 2" in run.data.tags["cause"]
    assert run.data.metrics == {}
    assert tracking.track(suite).unchanged == RUNS


def test_a_deleted_experiment_is_restored_without_doubles(suite):
    finish_all(suite)
    tracking.track(suite)
    client = client_of(suite)
    client.delete_experiment(client.get_experiment_by_name("cmkd/toy").experiment_id)
    tracking.track(suite)
    assert keys(suite) == expected_keys(suite)


def test_a_store_is_made_where_there_is_none(tmp_path):
    suite = make_suite(tmp_path)
    finish(suite, suite.jobs()[0])
    assert tracking.track(suite).added == 1
    assert (suite.results / "mlflow.db").is_file()


def test_two_trees_share_a_store_under_ids_of_their_own(tmp_path, empty_store, monkeypatch):
    shutil.copy(empty_store, tmp_path / "shared.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    one, other = make_suite(tmp_path / "one"), make_suite(tmp_path / "other")
    for tree in (one, other):
        finish_all(tree)
        assert tracking.track(tree).added == RUNS
    assert keys(one) == sorted(expected_keys(one) + expected_keys(other))
    assert not (one.results / "mlflow.db").exists()


def test_where_the_store_is(tmp_path, monkeypatch):
    plain = make_suite(tmp_path)
    assert tracking.tracking_uri(plain) == f"sqlite:///{plain.results.resolve()}/mlflow.db"
    stated = make_suite(tmp_path, execution={"tracking_uri": "http://lab:5000"})
    assert tracking.tracking_uri(stated) == "http://lab:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    assert tracking.tracking_uri(stated) == "sqlite:///x.db"


def test_the_marker_names_experiments_and_keeps_no_password(suite, tmp_path, monkeypatch):
    finish_all(suite)
    tracking.track(suite)
    written = files.read_json(suite.results / "logs" / "track-small.json")
    assert list(written["experiments"]) == ["toy"]
    assert written["added"] == RUNS
    assert store.public("postgresql://me:secret@host/db") == "postgresql://host/db"


def test_ui_command_opens_the_training_view_here_only(suite, monkeypatch):
    with pytest.raises(RunError, match="run `cmkd track` on suite 'small' first"):
        tracking.ui_command(suite, 5001)
    finish_all(suite)
    report = tracking.track(suite)
    command, environment, url = tracking.ui_command(suite, 5001)
    text = " ".join(command)
    assert Path(command[0]) == Path(sys.executable)
    assert "--host 127.0.0.1" in text and "--port 5001" in text and "--workers 1" in text
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    number = report.experiments["toy"]
    page = f"http://127.0.0.1:5001/#/experiments/{number}/runs?workflowType=machine_learning"
    assert url == f"{page}&viewStateShareKey=cmkd-scores"
    assert tracking.ui_pages(suite, 5001) == {
        "toy: Scores of every run": url,
        "toy: Scores, mean over folds and seeds": f"{page}&viewStateShareKey=cmkd-means",
        "toy: small_cnn with and without its teacher small_ast": (
            f"{page}&viewStateShareKey=cmkd-pair&compareRunsMode=CHART"
        ),
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    with pytest.raises(RunError, match="the runs are in sqlite"):
        tracking.ui_command(suite, 5001)


def test_a_server_has_a_ui_of_its_own(suite, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@lab:5000")
    content = {"store": "http://lab:5000", "experiments": {"toy": "7"}}
    files.write_json(tracking.marker(suite), content)
    with pytest.raises(RunError, match="open http://lab:5000/#/experiments/7/runs"):
        tracking.ui_command(suite)


def saved_views(suite):
    """The views that MLflow's UI would read, by key: name, and settings as its own code unpacks."""
    tags = client_of(suite).get_experiment_by_name("cmkd/toy").tags
    found = {}
    for name, text in tags.items():
        if name.startswith("mlflow.sharedViewState."):
            envelope = json.loads(text)
            packed = base64.b64decode(envelope["state"].removeprefix("deflate;"))
            key = name.removeprefix("mlflow.sharedViewState.")
            found[key] = (envelope["name"], json.loads(zlib.decompress(packed)))
    return found


def test_views_show_scores_and_compare_with_and_without_a_teacher(suite):
    for job in suite.jobs():
        finish(suite, job, accuracy=0.9 if job.run == "small_ast@small_cnn" else 0.75)
    tracking.track(suite)
    found = saved_views(suite)
    assert sorted(found) == [
        *("cmkd-means", "cmkd-model-small_ast", "cmkd-model-small_cnn", "cmkd-pair", "cmkd-scores")
    ]
    name, table = found["cmkd-scores"]
    assert name == "Scores of every run"
    assert table["selectedColumns"][0] == table["orderByKey"] == "metrics.`final/accuracy`"
    name, pair = found["cmkd-pair"]
    assert name == "small_ast with and without its teacher small_cnn"
    experiment = client_of(suite).get_experiment_by_name("cmkd/toy").experiment_id
    chosen = client_of(suite).search_runs([experiment], filter_string=pair["searchFilter"])
    assert sorted(run.data.tags["run"] for run in chosen) == ["small_ast", "small_ast@small_cnn"]
    logged = set().union(*(run.data.metrics for run in chosen))
    charts = {chart["metricKey"] for chart in pair["compareRunCharts"]}
    assert charts - logged == {"usage/device_hours"}  # these runs have no such cost
    chosen = client_of(suite).search_runs(
        [experiment], filter_string=found["cmkd-model-small_cnn"][1]["searchFilter"]
    )
    assert sorted(run.data.tags["run"] for run in chosen) == ["small_cnn", "small_cnn@small_ast"]


def test_the_pair_is_compared_on_what_both_have_and_follows_a_retrained_run(tmp_path):
    suite = make_suite(tmp_path, folds=[1, 2])
    jobs = [job for job in suite.jobs() if (job.run, job.fold) != ("small_cnn", 2)]
    for job in jobs:
        finish(suite, job, accuracy=0.9 if job.run == "small_cnn@small_ast" else 0.75)
    tracking.track(suite)
    before = saved_views(suite)["cmkd-pair"][1]["searchFilter"]
    assert before.count("'") == 4  # two runs: fold 1 with and without
    finish(suite, next(job for job in jobs if job.run == "small_cnn"), accuracy=0.6)
    tracking.track(suite)
    after = saved_views(suite)["cmkd-pair"][1]["searchFilter"]
    assert after != before
    found = client_of(suite).search_runs(["1"], filter_string=after)
    assert sorted(run.data.metrics["final/accuracy"] for run in found) == [0.6, 0.9]


def test_a_view_that_was_changed_in_the_ui_stays(suite):
    finish_all(suite)
    number = tracking.track(suite).experiments["toy"]
    mine = json.dumps({"name": "mine", "createdAt": 1, "updatedAt": 1700000000000, "state": "{}"})
    client_of(suite).set_experiment_tag(number, "mlflow.sharedViewState.cmkd-scores", mine)
    tracking.track(suite)
    tags = client_of(suite).get_experiment(number).tags
    assert tags["mlflow.sharedViewState.cmkd-scores"] == mine


def test_without_a_taught_run_there_is_no_comparison(suite):
    for job in suite.jobs():
        if "@" not in job.run:
            finish(suite, job)
    report = tracking.track(suite)
    assert list(report.pages["toy"]) == [
        "Scores of every run",
        "Scores, mean over folds and seeds",
    ]


def test_results_that_were_copied_keep_their_artifacts_apart(tmp_path, empty_store):
    old = make_suite(tmp_path / "old")
    old.results.mkdir(parents=True)
    shutil.copy(empty_store, old.results / "mlflow.db")
    finish_all(old)
    tracking.track(old)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    new = make_suite(tmp_path / "new")
    before = sorted(path for path in old.results.rglob("*") if path.name == "history.csv")
    report = tracking.track(new)
    assert (report.added, report.unchanged) == (RUNS, 0)
    assert keys(new) == expected_keys(new)
    locations = {run.info.artifact_uri for run in tracked(new)}
    assert all(place.startswith(new.results.as_uri()) for place in locations)
    assert sorted(p for p in old.results.rglob("*") if p.name == "history.csv") == before
    assert tracking.track(new).unchanged == RUNS


def test_the_note_of_an_older_version_is_renewed_and_a_users_note_stays(suite):
    finish_all(suite)
    number = tracking.track(suite).experiments["toy"]
    for written, expected in [
        (f"{store.OPENING} Older words.", store.EXPERIMENT_NOTE),
        ("Ask Ana before deleting.", "Ask Ana before deleting."),
    ]:
        client_of(suite).set_experiment_tag(number, store.NOTE, written)
        tracking.track(suite)
        assert client_of(suite).get_experiment(number).tags[store.NOTE] == expected


@pytest.mark.slow
def test_the_ui_answers_and_shows_artifacts_in_a_path_with_a_space(suite, tmp_path):
    finish_all(suite)
    tracking.track(suite)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, environment, url = tracking.ui_command(suite, port)
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, cwd=tmp_path
        )
        try:
            page = patiently(url.split("#")[0], server)
            run = tracked(suite)[0].info.run_id
            api = f"http://127.0.0.1:{port}/get-artifact?path=history.csv&run_uuid={run}"
            assert "<html" in page.lower()
            assert patiently(api, server) == HISTORY
        finally:
            server.terminate()
            server.wait(30)


def patiently(url, server, seconds=120):
    """Return what the address answers, trying while the server starts."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.5)


def test_long_histories_go_in_requests_that_a_server_takes(suite, monkeypatch):
    from mlflow import MlflowClient

    sizes = []
    real = MlflowClient.log_batch

    def noted(self, run_id, metrics=(), params=(), *more, **options):
        sizes.append((len(metrics), len(params)))
        return real(self, run_id, metrics, params, *more, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", noted)
    monkeypatch.setattr(upload, "METRICS_AT_ONCE", 7)
    monkeypatch.setattr(upload, "PARAMS_AT_ONCE", 10)
    job = suite.jobs()[0]
    finish(suite, job)
    tracking.track(suite)
    assert max(m for m, _ in sizes) == 7 and max(p for _, p in sizes) == 10
    run = tracked(suite)[0]
    assert len(run.data.params) == sum(p for _, p in sizes)
    assert run.data.metrics["final/accuracy"] == 0.75


def test_nested_values_are_flattened():
    values = {"a": {"b": [1, 2], "c": None}, "d": "x" * 7000}
    flat = entries.flatten(values)
    assert (flat["a.b"], flat["a.c"], len(flat["d"])) == ("[1, 2]", "null", 6000)


def test_importing_tracking_imports_no_mlflow():
    code = "import sys, cmkd.tracking; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
