"""A store that does not answer or refuses is one sentence, and no password is written anywhere."""

import contextlib
import http.server
import os
import threading

import pytest

from cmkd import files, tracking
from cmkd.cli import main
from cmkd.errors import ConfigError, StoreError
from cmkd.tracking import store, trouble


@contextlib.contextmanager
def answering(code, body):
    """A web server that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
    thread.join()


def refusal(monkeypatch, suite, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError) as caught:
        tracking.track(suite)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text and "secret" not in text
    return text


@pytest.fixture
def suite(tmp_path, trees):
    return trees.finish_all(trees.suite_file(tmp_path))


HOST = "Invalid Host header - possible DNS rebinding attack detected"


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (401, "You are not authenticated.", "wants to know who you are: set MLFLOW_TRACKING_USER"),
        (403, HOST, "does not answer to the name 127.0.0.1: its operator adds it to --allowed-h"),
        (403, "Permission denied", "does not let this user write here"),
        (404, "<html>nothing</html>", "is not MLflow, or not at this path"),
        (405, "not allowed", "is not MLflow, or not at this path"),
        (200, "<html>welcome</html>", "is not MLflow, or not at this path"),
        (503, "busy", "does not answer: is it up, the address right, the tunnel open?"),
    ],
)
def test_each_answer_has_its_sentence(suite, monkeypatch, code, body, said):
    with answering(code, body) as place:
        text = refusal(monkeypatch, suite, f"http://{place}")
    assert text.startswith(f"the MLflow store http://{place} {said}")


def test_a_refused_password_is_told_from_a_missing_one(suite, monkeypatch):
    with answering(401, "You are not authenticated.") as place:
        text = refusal(monkeypatch, suite, f"http://ana:secret@{place}")
        assert text.endswith(f"http://{place} does not know the user and password in its address")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        text = refusal(monkeypatch, suite, f"http://{place}")
        assert "does not know this user and password: mend MLFLOW_TRACKING_USERNAME" in text


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:1", "does not answer"),
        ("http://ana:secret@127.0.0.1:1", "does not answer"),
        ("postgresql://ana:secret@127.0.0.1:1/mlflow", "does not answer"),
        ("htp://127.0.0.1:1", "is no address of a store"),
        ("lab:5000", "is no address of a store"),
        ("sqlite:////dev/null/x.db", "cannot be made"),
    ],
)
def test_a_wrong_address_has_its_sentence(suite, monkeypatch, uri, said):
    if uri.startswith("postgresql"):
        pytest.importorskip("psycopg2")
    assert said in refusal(monkeypatch, suite, uri)


def test_the_next_pass_completes_what_a_refused_one_left(suite, monkeypatch):
    refusal(monkeypatch, suite, "http://127.0.0.1:1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.track(suite).added == 4


def test_no_password_in_addresses_and_texts():
    assert trouble.public("http://me:secret@host:5000/x") == "http://host:5000/x"
    assert trouble.public("http://me:sec@ret@host/x") == "http://host/x"
    assert trouble.public("see http://me:secret@a/b and //c@d/e") == "see http://a/b and //d/e"
    found = trouble.public("postgresql://h/db?user=me&password=secret&sslmode=require")
    assert found == "postgresql://h/db?user=me&password=...&sslmode=require"
    assert trouble.public("sqlite:////home/me@lab/x.db") == "sqlite:////home/me@lab/x.db"


def test_a_password_in_a_suite_is_refused_because_it_would_be_recorded(tmp_path, trees):
    path = trees.suite_file(tmp_path, execution={"tracking_uri": "http://me:secret@lab:5000"})
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        trees.load(path)
    assert "secret" not in str(caught.value)


def test_the_users_own_patience_wins(monkeypatch):
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    monkeypatch.setenv(name, "9")
    with trouble.patience(3):
        assert os.environ[name] == "9"
    assert os.environ[name] == "9"
    monkeypatch.delenv(name)
    with trouble.patience(3):
        assert os.environ[name] == "3"
    assert name not in os.environ


def test_a_mistake_of_ours_is_no_sentence():
    with pytest.raises(ZeroDivisionError), trouble.told("http://lab"):
        1 / 0  # noqa: B018


def test_ui_names_the_pages_of_a_server(tmp_path, trees, monkeypatch, capsys):
    path = trees.suite_file(tmp_path)
    suite = trees.load(path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@lab:5000")
    content = {"store": "http://lab:5000", "experiments": {"toy": "7"}}
    files.write_json(tracking.marker(suite), content)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("no server is started here"))
    assert main(["ui", str(path)]) == 0
    said = capsys.readouterr().out
    assert "http://lab:5000/#/experiments/7/runs" in said and "secret" not in said


def test_two_first_passes_agree_on_the_name_of_the_results(tmp_path, monkeypatch):
    real, ready = os.link, []

    def late(new, path):
        if not ready:  # another machine was faster, just now
            ready.append(1)
            path.write_text("theirs\n")
        real(new, path)

    monkeypatch.setattr(os, "link", late)
    assert store.results_id(tmp_path) == "theirs"
    assert [item.name for item in tmp_path.iterdir()] == ["id"]


def test_a_row_that_others_insert_at_the_same_moment_is_tried_again(monkeypatch):
    monkeypatch.setattr(trouble.time, "sleep", lambda seconds: None)
    first = RuntimeError("(psycopg2.errors.UniqueViolation) duplicate key")
    second = RuntimeError("(sqlite3.IntegrityError) UNIQUE constraint failed: tags")
    answers = [first, second, None]

    def call():
        if answer := answers.pop(0):
            raise answer

    trouble.insist(call)
    assert answers == []
    answers += [RuntimeError("disk full"), None]
    with pytest.raises(RuntimeError, match="disk full"):
        trouble.insist(call)
