"""Replay into an MLflow server with PostgreSQL: nothing lost, nothing double, whatever is killed.

The end is read from PostgreSQL's own tables and compared with the history files, without MLflow.
"""

import random
import shutil
import signal
import time

import pytest

from cmkd import tracking
from cmkd.errors import StoreError

pytestmark = pytest.mark.slow
ACTIVE = """
select k.value, r.status, h.value is not null from runs r
join tags k on k.run_uuid = r.run_uuid and k.key = 'cmkd.run_key'
left join tags h on h.run_uuid = r.run_uuid and h.key = 'cmkd.content_hash'
where r.lifecycle_stage = 'active' and k.value like %s
"""
POINTS = """
select m.key, m.step, m.timestamp, m.value from metrics m
join runs r on r.run_uuid = m.run_uuid
join tags k on k.run_uuid = r.run_uuid and k.key = 'cmkd.run_key'
where r.lifecycle_stage = 'active' and k.value = %s
"""
OTHERS = 2 + 2  # final/accuracy, final/map; usage/seconds_total, usage/parameters


def check(postgres, trees, suite):
    """One finished run for each key, with every point of its history and no other."""
    expected = trees.keys(suite)
    found = postgres.rows(ACTIVE, f"{expected[0].split('/')[0]}/%")
    assert sorted(found) == [(key, "FINISHED", True) for key in expected]
    for job in suite.jobs():
        key = next(k for k in expected if k.endswith(trees.keys_end(job)))
        points = postgres.rows(POINTS, key)
        drawn = sorted(p for p in points if p[0].split("/")[0] in ("train", "val"))
        assert drawn == trees.curves(suite, job)
        assert len(points) - len(drawn) == OTHERS


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def active(postgres, suite):
    identity = suite.results / "id"
    if not identity.is_file():
        return 0
    return len(postgres.rows(ACTIVE, identity.read_text().strip() + "/%"))


def test_eight_suites_at_once_make_one_experiment_and_no_double(
    tmp_path, postgres, server, trees, cmkd
):
    assert postgres.rows("select count(*) from experiments where name = 'cmkd/toy'") == [(0,)]
    paths = [trees.suite_file(tmp_path / f"tree{n}", folds=[1, 2, 3]) for n in range(6)]
    found = [trees.finish_all(path) for path in paths]
    # Two more on the same results, as from other machines whose locks do not reach this one.
    passes = [cmkd("track", p, MLFLOW_TRACKING_URI=server.uri, locks=False) for p in paths]
    passes += [
        cmkd("track", paths[0], MLFLOW_TRACKING_URI=server.uri, locks=False) for _ in range(2)
    ]
    for one in passes:
        assert one.wait(300) == 0, one.out.read_text()
    assert postgres.rows("select count(*) from experiments where name = 'cmkd/toy'") == [(1,)]
    for suite in found:
        check(postgres, trees, suite)


def test_a_server_killed_in_the_middle_and_back_after_ten_seconds(
    tmp_path, postgres, server, trees, cmkd
):
    path = trees.suite_file(tmp_path / "tree", folds=[1, 2, 3], seeds=[0, 1])
    suite = trees.finish_all(path)
    one = cmkd("track", path, MLFLOW_TRACKING_URI=server.uri)
    wait_for(lambda: active(postgres, suite) >= 3)
    server.kill()
    time.sleep(10)
    server.start()
    assert one.wait(300) == 0, one.out.read_text()
    assert active(postgres, suite) >= 3
    check(postgres, trees, suite)


def test_a_postgres_killed_in_the_middle_and_back(tmp_path, postgres, server, trees, cmkd):
    path = trees.suite_file(tmp_path / "tree", folds=[1, 2, 3], seeds=[0, 1])
    suite = trees.finish_all(path)
    one = cmkd("track", path, MLFLOW_TRACKING_URI=server.uri)
    wait_for(lambda: active(postgres, suite) >= 3)
    postgres.kill()
    time.sleep(5)
    postgres.start()
    assert one.wait(300) == 0, one.out.read_text()
    check(postgres, trees, suite)


def test_a_server_killed_for_good_is_one_sentence_and_the_next_pass_completes(
    tmp_path, postgres, server, trees, cmkd
):
    path = trees.suite_file(tmp_path / "tree", folds=[1, 2, 3], seeds=[0, 1])
    suite = trees.finish_all(path)
    away = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    one = cmkd("track", path, **away)
    wait_for(lambda: active(postgres, suite) >= 3)
    server.kill()
    assert one.wait(120) == 2
    last = one.out.read_text().strip().splitlines()[-1]
    assert last.startswith(f"cmkd: the MLflow store {server.uri} does not answer")
    assert "Traceback" not in one.out.read_text()
    one = cmkd("track", path, **away)  # still away: told at once, nothing is done
    assert one.wait(60) == 2
    server.start()
    assert cmkd("track", path, MLFLOW_TRACKING_URI=server.uri).wait(120) == 0
    check(postgres, trees, suite)


def test_a_client_killed_at_random_moments_leaves_no_double(
    tmp_path, postgres, server, trees, cmkd
):
    path = trees.suite_file(tmp_path / "tree", folds=[1, 2, 3], seeds=[0, 1])
    suite = trees.finish_all(path)
    chance = random.Random(9)
    for _ in range(5):
        before = active(postgres, suite)
        one = cmkd("track", path, MLFLOW_TRACKING_URI=server.uri)
        wait_for(lambda one=one, before=before: one.poll() is not None
                 or active(postgres, suite) > before)  # fmt: skip
        time.sleep(chance.random() / 2)
        one.send_signal(signal.SIGKILL)
        one.wait()
    assert cmkd("track", path, MLFLOW_TRACKING_URI=server.uri).wait(120) == 0
    check(postgres, trees, suite)


def test_an_answer_that_was_lost_makes_no_double(tmp_path, postgres, server, trees, monkeypatch):
    from mlflow.store.tracking.rest_store import RestStore

    real, lost = RestStore.create_run, []

    def twice(self, *arguments, **options):
        if len(lost) < 2:  # the server made a run and died before it could say so
            lost.append(real(self, *arguments, **options))
        return real(self, *arguments, **options)

    monkeypatch.setattr(RestStore, "create_run", twice)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    suite = trees.finish_all(trees.suite_file(tmp_path / "tree"))
    tracking.track(suite)
    assert len(lost) == 2
    check(postgres, trees, suite)


def test_long_histories_go_through_the_server(tmp_path, postgres, server, trees, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    suite = trees.load(trees.suite_file(tmp_path / "tree", pairs=["alone"]))
    for job in suite.jobs():
        trees.finish(suite, job, epochs=300)
    tracking.track(suite)
    check(postgres, trees, suite)


def test_a_machine_without_network_syncs_later_and_copies_keep_their_keys(
    tmp_path, postgres, server, trees, monkeypatch
):
    path = trees.suite_file(tmp_path / "tree", results="results")
    monkeypatch.chdir(path.parent)
    suite = trees.finish_all(path)
    assert tracking.track(suite).added == 4  # its own store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert tracking.track(suite).added == 4
    check(postgres, trees, suite)
    shutil.copytree(path.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    again = tracking.track(suite)
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 4)
    trees.finish(suite, suite.jobs()[0], accuracy=0.5)
    assert tracking.track(suite).replaced == 1
    check(postgres, trees, suite)


def test_a_deleted_experiment_of_a_server_is_a_sentence(
    tmp_path, postgres, server, trees, monkeypatch
):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    suite = trees.finish_all(trees.suite_file(tmp_path / "tree"))
    number = tracking.track(suite).experiments["toy"]
    MlflowClient(server.uri).delete_experiment(number)
    with pytest.raises(StoreError, match=f"'cmkd/toy' .number {number}. was deleted on http"):
        tracking.track(suite)
    MlflowClient(server.uri).restore_experiment(number)
    tracking.track(suite)
    check(postgres, trees, suite)


def test_watch_shows_curves_survives_the_servers_death_and_ends_with_the_records(
    tmp_path, postgres, server, trees, cmkd
):
    path = trees.suite_file(tmp_path / "tree")
    suite = trees.load(path)
    job, others = suite.jobs()[0], suite.jobs()[1:]
    rows = trees.rows_of(job, 5)
    short = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    one = cmkd("track", path, "--watch", "0.3", **short)

    def losses():
        if not (suite.results / "id").is_file():
            return None
        end = (suite.results / "id").read_text().strip() + trees.keys_end(job)
        return len([p for p in postgres.rows(POINTS, end) if p[0] == "train/loss"])

    for done in (1, 3):
        trees.begin(suite, job, rows[:done], time.time(), number=done)
        wait_for(lambda done=done: losses() == done)
    server.kill()
    trees.begin(suite, job, rows[:4], time.time(), number=4)
    for other in others:
        trees.finish(suite, other)
    wait_for(lambda: "does not answer" in one.out.read_text())
    server.start()
    wait_for(lambda: losses() == 4)
    trees.finish(suite, job)
    assert one.wait(120) == 0, one.out.read_text()
    said = one.out.read_text()
    assert said.count("does not answer") == said.count("the store answers again") == 1
    check(postgres, trees, suite)


def test_a_run_deleted_under_its_writer_is_written_again(
    tmp_path, postgres, server, trees, monkeypatch
):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    suite = trees.finish_all(trees.suite_file(tmp_path / "tree"))
    real, deleted = MlflowClient.log_artifact, []

    def robbed(self, key, path):
        if len(deleted) < 2:  # another writer thinks that it was cut off
            deleted.append(key)
            self.delete_run(key)
        return real(self, key, path)

    monkeypatch.setattr(MlflowClient, "log_artifact", robbed)
    tracking.track(suite)
    assert len(deleted) == 2
    check(postgres, trees, suite)


def test_a_server_with_passwords(tmp_path, servers, trees, cmkd):
    """Basic-auth as docs/mlflow-server.md sets it up, a foreign name, and nothing written down."""
    password = "only-for-this-test"
    settings = tmp_path / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    server = servers.Server(
        tmp_path / "server",
        f"sqlite:///{tmp_path}/mlflow.db",
        *("--app-name", "basic-auth", "--allowed-hosts", "127.0.0.1:*"),
        workers=1,
        MLFLOW_AUTH_CONFIG_PATH=str(settings),
        MLFLOW_AUTH_ADMIN_PASSWORD=password,
        MLFLOW_FLASK_SERVER_SECRET_KEY="only-for-this-test-too",
    )
    try:
        path = trees.suite_file(tmp_path / "tree")
        suite = trees.finish_all(path)
        named = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
        within = server.uri.replace("//", f"//admin:{password}@")
        foreign = server.uri.replace("127.0.0.1", "localhost")
        for uri, environment, code, said in (
            (server.uri, {}, 2, "wants to know who you are"),
            (server.uri, named | {"MLFLOW_TRACKING_PASSWORD": "x"}, 2, "does not know this user"),
            (foreign, named, 2, "does not answer to the name localhost"),
            (within, {}, 0, "4 runs added"),
            (server.uri, named, 0, "4 unchanged"),
        ):
            one = cmkd("track", path, MLFLOW_TRACKING_URI=uri, **environment)
            assert one.wait(120) == code, one.out.read_text()
            assert said in one.out.read_text()
        for found in [*suite.results.rglob("*"), *tmp_path.glob("out-*.txt")]:
            assert not found.is_file() or password.encode() not in found.read_bytes(), found
    finally:
        server.kill()
