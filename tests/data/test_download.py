"""Fetching one file from a server that cuts, lies, changes, refuses and redirects."""

import hashlib
import importlib.util
import random
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmkd.data import download
from cmkd.data.download import Item, fetch
from cmkd.errors import DataError

CONTENT = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def load_web() -> Any:
    spec = importlib.util.spec_from_file_location("web", Path(__file__).parent / "web.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def web() -> Iterator[Any]:
    """A server with one file, f.zip."""
    server = load_web().Web()
    server.contents["f.zip"] = CONTENT
    yield server
    server.close()


def item(web: Any, **facts: Any) -> Item:
    """Return the file with its true size and hash, or other facts."""
    known = {"url": web.url("f.zip"), "file": "f.zip", "size": len(CONTENT)}
    return Item(**(known | {"algorithm": "md5", "digest": MD5} | facts))


def unchecked(web: Any) -> Item:
    return item(web, size=None, algorithm="", digest="", reason="none is published")


def only_the_file(folder: Path) -> None:
    """The file is whole and nothing else is left."""
    assert (folder / "f.zip").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["f.zip"]


def test_a_file_is_fetched_whole_and_once(web: Any, tmp_path: Path) -> None:
    assert fetch(item(web), tmp_path, 0) == tmp_path / "f.zip"
    only_the_file(tmp_path)
    fetch(item(web), tmp_path, 0)
    assert len(web.requests) == 1
    assert web.requests[0]["Accept-Encoding"] == "identity"


def test_sha256_is_checked_too(web: Any, tmp_path: Path) -> None:
    fetch(item(web, algorithm="sha256", digest=hashlib.sha256(CONTENT).hexdigest()), tmp_path, 0)
    only_the_file(tmp_path)


def test_a_cut_connection_goes_on_by_range(
    web: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.plan = [{"cut": 100_000}, {"cut": 50_000}]
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    etag = f'"{MD5}"'
    assert [request.get("If-Range") for request in web.requests] == [None, etag, etag]
    assert "ended after 100000 of 300000 bytes" in capsys.readouterr().out


def test_a_server_that_ignores_ranges_starts_over(web: Any, tmp_path: Path) -> None:
    web.plan = [{"cut": 100_000}, {"whole": True}]
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None, "bytes=100000-"]


def test_a_file_that_changes_meanwhile_is_fetched_anew(web: Any, tmp_path: Path) -> None:
    web.contents["f.zip"] = bytes(300_000)
    web.plan = [{"cut": 100_000}, {"status": 503}]

    def change(seconds: float) -> None:
        web.contents["f.zip"] = CONTENT

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.time, "sleep", change)
        fetch(unchecked(web), tmp_path, 0)
    only_the_file(tmp_path)


def test_a_server_that_goes_on_with_another_version_is_seen(web: Any, tmp_path: Path) -> None:
    # It ignores If-Range and answers 206 with another ETag.
    web.plan = [{"cut": 100_000}, {"etag": '"other"', "blind": True}]
    fetch(unchecked(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None, "bytes=100000-", None]


def test_a_partial_answer_from_another_place_is_not_used(web: Any, tmp_path: Path) -> None:
    web.plan = [{"cut": 100_000}, {"shift": -7}]
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None, "bytes=100000-", None]


def test_without_a_version_or_a_hash_nothing_is_continued(web: Any, tmp_path: Path) -> None:
    web.plan = [{"cut": 100_000, "etag": ""}]
    fetch(unchecked(web), tmp_path, 0)
    assert web.ranges() == [None, None]
    only_the_file(tmp_path)


def test_a_weak_version_does_not_vouch_for_bytes(web: Any, tmp_path: Path) -> None:
    web.plan = [{"cut": 100_000, "etag": 'W/"1"'}]
    fetch(unchecked(web), tmp_path, 0)
    assert web.ranges() == [None, None]
    only_the_file(tmp_path)


def test_without_a_version_the_hash_tells_and_it_starts_over(
    web: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.contents["f.zip"] = bytes(300_000)
    web.plan = [{"cut": 100_000, "etag": ""}, {"etag": ""}, {}]

    def change(seconds: float) -> None:
        web.contents["f.zip"] = CONTENT

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.time, "sleep", change)
        fetch(item(web), tmp_path, 0)
    assert web.ranges() == [None, "bytes=100000-", None]
    assert "fetched anew from the start" in capsys.readouterr().out
    only_the_file(tmp_path)


def test_a_chunked_answer_without_a_length(web: Any, tmp_path: Path) -> None:
    web.plan = [{"chunked": True, "cut": 1000}, {"chunked": True, "whole": True}]
    fetch(unchecked(web), tmp_path, 0)
    only_the_file(tmp_path)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(
    web: Any, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    web.plan = [{"status": status}, {"status": status, "headers": {"Retry-After": "30"}}]
    fetch(item(web), tmp_path)
    only_the_file(tmp_path)
    assert slept == [1.0, 30.0]


def test_waiting_doubles_and_ends(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    web.plan = [{"status": 503}] * 20
    with pytest.raises(DataError, match="503 .* 8 times in a row"):
        fetch(item(web), tmp_path)
    assert slept == [1, 2, 4, 8, 16, 32, 64]


def test_cuts_that_bring_something_new_are_not_counted(web: Any, tmp_path: Path) -> None:
    web.plan = [{"cut": 10_000}] * 25
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_said_at_once(web: Any, tmp_path: Path, status: int) -> None:
    web.plan = [{"status": status}] * 3
    with pytest.raises(DataError, match=f"f.zip: the server says {status} .*datasets.yaml"):
        fetch(item(web), tmp_path, 0)
    assert len(web.requests) == 1
    assert not any(tmp_path.iterdir())


def test_a_wrong_hash_is_refused_and_leaves_nothing(web: Any, tmp_path: Path) -> None:
    web.contents["f.zip"] = bytes(300_000)
    with pytest.raises(DataError, match=f"its md5 is [0-9a-f]{{32}}, not {MD5}"):
        fetch(item(web), tmp_path, 0)
    assert len(web.requests) == 1
    assert not any(tmp_path.iterdir())


def test_another_length_than_stated_is_refused_before_the_first_byte(
    web: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="offers 300000 bytes, but datasets.yaml states 300001"):
        fetch(item(web, size=300_001), tmp_path, 0)
    assert not any(tmp_path.iterdir())


def test_a_server_that_promises_more_than_it_sends_is_not_believed(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.plan = [{"length": 300_010}, *[{"length": 300_010, "whole": True}] * 30]
    with pytest.raises(DataError, match="ended after 300000 of 300010 bytes, 8 times"):
        fetch(unchecked(web), tmp_path, 0)
    assert not (tmp_path / "f.zip").exists()


def test_a_server_that_sends_less_without_a_length_is_seen_by_the_size(
    web: Any, tmp_path: Path
) -> None:
    web.plan = [{"length": "none", "cut": 1000, "etag": ""}]
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)


def test_redirects_are_followed_with_their_range(web: Any, tmp_path: Path) -> None:
    go = {"status": 302, "headers": {"Location": web.url("f.zip")}}
    web.plan = [go, {"cut": 100_000}, go]
    fetch(item(web, url=web.url("moved")), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None, None, "bytes=100000-", "bytes=100000-"]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_out_of_the_web_are_not_followed(web: Any, tmp_path: Path, to: str) -> None:
    web.plan = [{"status": 302, "headers": {"Location": to}}]
    with pytest.raises(DataError):
        fetch(item(web), tmp_path, 0)
    assert len(web.requests) == 1
    assert not any(tmp_path.iterdir())


def test_other_addresses_than_the_webs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no address of a web server"):
        fetch(Item("file:///etc/passwd", "passwd"), tmp_path, 0)


def test_https_is_never_left_for_http() -> None:
    request = download.urllib.request.Request("https://example.org/a")
    with pytest.raises(DataError, match="does not begin with https:"):
        download._Redirects().redirect_request(
            request, None, 302, "Found", {}, "http://example.org/a"
        )


def test_no_server_at_all_is_one_sentence(tmp_path: Path) -> None:
    server = load_web().Web()
    server.close()
    with pytest.raises(DataError, match="no answer .*Connection refused.*8 times"):
        fetch(Item(server.url("f.zip"), "f.zip"), tmp_path, 0)


def test_a_full_disk_is_said_before_the_first_byte(
    web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 299_999))
    with pytest.raises(DataError, match="fetching f.zip needs .* GB"):
        fetch(item(web), tmp_path, 0)
    assert not any(tmp_path.iterdir())


def test_a_file_that_was_damaged_on_the_disk_is_fetched_again(web: Any, tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_bytes(CONTENT[:-1] + b"x")
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)


@pytest.mark.parametrize("record", [None, "", "{}", "[]", '{"url": "http://other"}'])
def test_a_part_of_unknown_origin_is_not_continued(
    web: Any, tmp_path: Path, record: str | None
) -> None:
    (tmp_path / "f.zip.part").write_bytes(b"of something else")
    if record is not None:
        (tmp_path / "f.zip.part.json").write_text(record)
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.ranges() == [None]


KILLED = """
import sys
from pathlib import Path
from cmkd.data.download import Item, fetch
fetch(Item(sys.argv[1], "f.zip", 300_000, "md5", sys.argv[2]), Path(sys.argv[3]))
"""


def test_killed_in_the_middle_it_goes_on(web: Any, tmp_path: Path) -> None:
    web.plan = [{"pace": 0.01}]
    command = [sys.executable, "-c", KILLED, web.url("f.zip"), MD5, tmp_path]
    with subprocess.Popen(command) as process:
        part, end = tmp_path / "f.zip.part", time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    got = part.stat().st_size
    assert 0 < got < len(CONTENT)
    assert not (tmp_path / "f.zip").exists()
    fetch(item(web), tmp_path, 0)
    assert web.ranges() == [None, f"bytes={got}-"]
    only_the_file(tmp_path)


def test_killed_before_the_last_rename_nothing_is_fetched_again(web: Any, tmp_path: Path) -> None:
    (tmp_path / "f.zip.part").write_bytes(CONTENT)
    record = f'{{"url": "{web.url("f.zip")}", "etag": "", "modified": "", "total": 300000}}'
    (tmp_path / "f.zip.part.json").write_text(record)
    fetch(item(web), tmp_path, 0)
    only_the_file(tmp_path)
    assert web.requests == []
