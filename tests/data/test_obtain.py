"""A whole dataset: fetched, unpacked, marked; killed and gone on with; nothing fetched twice."""

import fcntl
import hashlib
import importlib.util
import io
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd import cli
from cmkd.data import obtain
from cmkd.data.obtain import Source, source
from cmkd.errors import ConfigError, DataError

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
TABLE = HEADER + "1-10-A-0.wav,1,0,dog,True,10,A\n2-11-A-0.wav,2,0,hen,True,11,A\n"
ENTRY = {"reader": "esc50", "labels": "single", "metric": "accuracy", "classes": ["dog", "hen"],
         "folds": [1, 2], "name": "pets", "obtain": "ask"}  # fmt: skip
REASON = "its publisher makes it on demand"


@pytest.fixture
def web() -> Iterator[Any]:
    """A server."""
    spec = importlib.util.spec_from_file_location("web", Path(__file__).parent / "web.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.Web()
    yield server
    server.close()


def packed(members: dict[str, str]) -> bytes:
    """Return a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def described(web: Any, file: str, folder: str, **facts: Any) -> dict[str, Any]:
    """Return an item of `downloads`, with the true size and md5 unless told otherwise."""
    content = web.contents[file]
    known = {"bytes": len(content), "md5": hashlib.md5(content).hexdigest()}
    return {"url": web.url(file), "file": file, "folder": folder, **(facts or known)}


@pytest.fixture
def pets(web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue whose dataset `pets` comes in two archives; `few` is a part of it."""
    monkeypatch.setattr(obtain.archives.os, "sync", lambda: None)
    sounds = {f"pets-main/audio/{n}-1{m}-A-0.wav": "x" * 50_000 for n, m in ((1, 0), (2, 1))}
    web.contents["a.zip"] = packed(sounds | {"pets-main/meta/esc50.csv": TABLE})
    web.contents["doc.zip"] = packed({"doc/README": "read me"})
    downloads = [
        described(web, "a.zip", "pets", no_hash=REASON),
        described(web, "doc.zip", "doc"),
    ]
    entries = {
        "pets": {"title": "Pets", "licence": "CC BY 9.0", "downloads": downloads, **ENTRY},
        "few": {"downloads_of": "pets", **ENTRY, "name": "few"},
        "wild": {**ENTRY, "name": "wild"},
    }
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "datasets.yaml").write_text(yaml.safe_dump(entries))
    (folder / "models.yaml").write_text("{}")
    return folder


def get(catalog: Path, root: Path, dataset: str = "pets") -> None:
    """Obtain a dataset."""
    obtain.obtain(source(dataset, catalog), ENTRY | {"name": dataset}, root, 0)


def test_it_is_fetched_unpacked_and_marked_and_nothing_else_is_left(
    pets: Path, web: Any, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    get(pets, root)
    assert sorted(path.name for path in root.iterdir()) == ["doc", "download.json", "pets"]
    assert (root / "pets" / "meta" / "esc50.csv").read_text() == TABLE
    assert (root / "doc" / "README").read_text() == "read me"
    marker = json.loads((root / "download.json").read_text())
    assert (marker["title"], marker["licence"]) == ("Pets", "CC BY 9.0")
    assert [item["url"] for item in marker["files"]] == [web.url("a.zip"), web.url("doc.zip")]
    assert marker["files"][0]["no_hash"] == REASON
    assert marker["files"][1]["md5"] == hashlib.md5(web.contents["doc.zip"]).hexdigest()


def test_the_licence_is_shown_once_before_the_first_byte(
    pets: Path, web: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.plan = [{"status": 404}]
    with pytest.raises(DataError):
        get(pets, tmp_path / "root")
    said = capsys.readouterr().out
    assert said.count("Pets\n  licence: CC BY 9.0\n") == 1
    assert f"{web.url('a.zip')} (size not published; no hash: {REASON})" in said
    get(pets, tmp_path / "root")
    assert capsys.readouterr().out.count("CC BY 9.0") == 1
    get(pets, tmp_path / "root")
    assert "CC BY 9.0" not in capsys.readouterr().out


def test_what_is_there_is_not_fetched_again(pets: Path, web: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    get(pets, root)
    get(pets, root)
    get(pets, root, "few")
    assert len(web.requests) == 2
    shutil.rmtree(root / "pets")
    get(pets, root)
    assert [request["path"] for request in web.requests] == ["/a.zip", "/doc.zip", "/a.zip"]


def test_the_users_own_copy_under_another_name_is_found(
    pets: Path, web: Any, tmp_path: Path
) -> None:
    get(pets, tmp_path / "first")
    own = (tmp_path / "first" / "pets").rename(tmp_path / "My copy of pets")
    get(pets, own)
    assert len(web.requests) == 2
    assert json.loads((own / "download.json").read_text())["files"] == []


def test_an_archive_that_breaks_the_rule_is_removed_and_nothing_unpacked(
    pets: Path, web: Any, tmp_path: Path
) -> None:
    good = web.contents["a.zip"]
    web.contents["a.zip"] = packed({"pets-main/../../evil": "x"})
    root = tmp_path / "root"
    with pytest.raises(DataError, match="leads out of the folder"):
        get(pets, root)
    assert not any(root.iterdir())
    assert not (tmp_path / "evil").exists()
    web.contents["a.zip"] = good
    get(pets, root)
    assert (root / "download.json").is_file()


def test_a_cut_archive_without_a_hash_is_found_by_what_is_inside(
    pets: Path, web: Any, tmp_path: Path
) -> None:
    web.plan = [{"length": "none", "cut": 60_000}]
    with pytest.raises(DataError, match=r"a\.zip is damaged or no archive"):
        get(pets, tmp_path / "root")
    get(pets, tmp_path / "root")
    assert (tmp_path / "root" / "download.json").is_file()


def test_split_parts_become_one_folder(pets: Path, web: Any, tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("needs Info-ZIP's zip (Debian package zip)")
    (tmp_path / "s" / "big").mkdir(parents=True)
    (tmp_path / "s" / "big" / "one.bin").write_bytes(bytes(range(256)) * 1000)
    command = ["zip", "-q", "-0", "-r", "-s", "64k", "b.zip", "big"]
    subprocess.run(command, cwd=tmp_path / "s", check=True)
    files = [*sorted((tmp_path / "s").glob("b.z[0-9]*")), tmp_path / "s" / "b.zip"]
    assert len(files) == 4
    web.contents |= {file.name: file.read_bytes() for file in files}
    items = [described(web, file.name, "big") for file in files]
    whole = Source("pets", "Pets", "free", obtain._archives(items))
    obtain.obtain(whole, ENTRY, tmp_path / "root", 0)
    assert (tmp_path / "root" / "big" / "one.bin").read_bytes() == bytes(range(256)) * 1000
    assert sorted(p.name for p in (tmp_path / "root").iterdir()) == ["big", "download.json"]


def test_a_disk_without_room_for_all_is_said_before_the_first_byte(
    pets: Path, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 100))
    with pytest.raises(DataError, match="fetching and unpacking the dataset needs"):
        get(pets, tmp_path / "root")
    assert web.requests == []


def test_two_processes_do_not_fetch_into_one_folder(pets: Path, web: Any, tmp_path: Path) -> None:
    work = tmp_path / "root" / obtain.WORK
    work.mkdir(parents=True)
    with open(work / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is fetching"):
            get(pets, tmp_path / "root")
    get(pets, tmp_path / "root")


def test_a_dataset_without_downloads_is_said(pets: Path) -> None:
    with pytest.raises(ConfigError, match="wild: .*names no downloads for it"):
        source("wild", pets)
    with pytest.raises(ConfigError, match="no dataset 'pet'.*did you mean 'pets'"):
        source("pet", pets)


def test_killed_in_the_middle_it_goes_on(pets: Path, web: Any, tmp_path: Path) -> None:
    web.plan = [{}, {"pace": 0.5}]
    web.contents["doc.zip"] = packed({"doc/README": "r" * 5000})
    wanted, root = tmp_path / "wanted.yaml", tmp_path / "root"
    entries = yaml.safe_load((pets / "datasets.yaml").read_text())
    entries["pets"]["downloads"][1] = described(web, "doc.zip", "doc")
    (pets / "datasets.yaml").write_text(yaml.safe_dump(entries))
    wanted.write_text(yaml.safe_dump(ENTRY))
    verb = ["prepare", str(wanted), "--data-root", str(root), "--catalog", str(pets)]
    with subprocess.Popen([sys.executable, "-m", "cmkd.cli", *verb, "--download-only"]) as process:
        part, end = root / obtain.WORK / "doc.zip.part", time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert (root / "pets" / "audio").is_dir() and not (root / "doc").exists()
    assert cli.main([*verb, "--download-only"]) == 0
    assert [request["path"] for request in web.requests] == ["/a.zip", "/doc.zip", "/doc.zip"]
    assert web.ranges()[-1] is not None
    assert sorted(path.name for path in root.iterdir()) == ["doc", "download.json", "pets"]


MODULES = """
import sys
from cmkd import cli
assert cli.main(sys.argv[1:]) == 0
print(sorted({"torch", "soundfile", "numpy", "torchaudio", "pandas"} & set(sys.modules)))
"""


def test_fetching_needs_the_standard_library_and_yaml(pets: Path, web: Any, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text(yaml.safe_dump(ENTRY))
    verb = ["prepare", wanted, "--data-root", tmp_path / "root", "--catalog", pets]
    command = [sys.executable, "-c", MODULES, *verb, "--download-only"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    # Its other stream is no terminal: plain lines, no bar that is drawn over.
    assert "\r" not in done.stderr


@pytest.mark.parametrize("left_out", ["--data-root", "--prepared"])
def test_what_is_missing_for_a_verb_is_said(
    pets: Path, tmp_path: Path, left_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tmp_path / "wanted.yaml"
    wanted.write_text(yaml.safe_dump(ENTRY))
    given = {"--data-root": tmp_path / "root", "--prepared": tmp_path / "prepared"}
    options = [str(text) for name in given if name != left_out for text in (name, given[name])]
    verb = ["prepare", str(wanted), *options, "--catalog", str(pets), "--download"]
    assert cli.main(verb) == 2
    assert f"{left_out} is missing" in capsys.readouterr().err


def test_absent_recordings_of_a_known_dataset_name_the_download(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    reader = obtain.catalog.reader("esc50")
    hint = r"ask, or add --config download=true \(a verb of cmkd: --download\) to fetch it\.$"
    with pytest.raises(DataError, match=hint):
        reader.rows(ENTRY, None)
    with pytest.raises(DataError, match=r"ask\.$"):
        reader.rows(ENTRY | {"name": "wild"}, None)
