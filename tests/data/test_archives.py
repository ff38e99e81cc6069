"""Archives: what is unpacked, what is refused with a sentence, and that nothing is left behind."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd.data import archives
from cmkd.data.archives import BadArchive, Limits, unpack
from cmkd.errors import DataError

GOOD = {"data/a.txt": b"a", "data/deep/b.bin": bytes(range(256)) * 50}
Member = tuple[str, bytes, dict[str, Any]]


def zipped(path: Path, *members: Member) -> Path:
    """Write a zip; a member's third part sets attributes of its ZipInfo."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, facts in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in facts.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def tarred(path: Path, *members: Member) -> Path:
    """Write a tar; a member's third part sets attributes of its TarInfo."""
    mode: Any = {".tar": "w", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content, facts in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def good() -> list[Member]:
    return [(name, content, {}) for name, content in GOOD.items()]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def nothing_left(folder: Path, *names: str) -> None:
    """Only these files are in the folder."""
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.tar.bz2", "x.tar.xz"])
def test_what_was_packed_is_unpacked_without_the_folder_around_it(
    tmp_path: Path, name: str
) -> None:
    make = zipped if name.endswith("zip") else tarred
    unpack([make(tmp_path / name, *good())], tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.txt": b"a", "deep/b.bin": GOOD["data/deep/b.bin"]}
    nothing_left(tmp_path, name, "out")


def test_two_folders_at_the_top_stay(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", *good(), ("other/c", b"c", {}))
    unpack([path], tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"data/a.txt", "data/deep/b.bin", "other/c"}


def test_folders_of_macs_are_left_out(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", ("__MACOSX/data/._a.txt", b"x", {}), *good())
    unpack([path], tmp_path / "out")
    assert set(tree(tmp_path / "out")) == {"a.txt", "deep/b.bin"}


def test_empty_folders_and_dots_are_kept_and_dropped(tmp_path: Path) -> None:
    facts = {"type": tarfile.DIRTYPE}
    path = tarred(tmp_path / "x.tar", ("./", b"", facts), ("./data/empty", b"", facts), *good())
    unpack([path], tmp_path / "out")
    assert (tmp_path / "out" / "empty").is_dir()
    assert set(tree(tmp_path / "out")) == {"a.txt", "deep/b.bin"}


def test_rights_of_members_are_not_taken_over(tmp_path: Path) -> None:
    facts = {"external_attr": (stat.S_IFREG | 0o6777) << 16}
    unpack([zipped(tmp_path / "x.zip", ("data/run.sh", b"x", facts))], tmp_path / "out")
    assert not (tmp_path / "out" / "run.sh").stat().st_mode & 0o7111


NAMES = {
    "/etc/passwd": "absolute name",
    "C:/x": "absolute name",
    "data/../../x": "leads out",
    "..": "leads out",
    "data\\..\\x": "backslash",
    "data/a\nb": "control character",
    "data/" + "x" * 256: "too long a name",
    "/".join("x" * 40): "too long a name",
}


@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused(
    tmp_path: Path, make: Callable[..., Path], name: str
) -> None:
    path = make(tmp_path / ("x.zip" if make is zipped else "x.tar"), *good(), (name, b"evil", {}))
    with pytest.raises(BadArchive, match=rf"the member .* {NAMES[name]}.*nothing was unpacked"):
        unpack([path], tmp_path / "deep" / "out")
    nothing_left(tmp_path, path.name)


def test_a_name_that_hides_behind_a_zero_byte_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", *good(), ("data/cXtxt", b"x", {}))
    path.write_bytes(path.read_bytes().replace(b"data/cXtxt", b"data/c\0txt"))
    with pytest.raises(BadArchive, match="control character"):
        unpack([path], tmp_path / "out")


CLASHES = {
    "data/a.txt": "is there twice",
    "data/A.TXT": "differs from 'data/a.txt' only in case",
    "DATA/z.txt": "differs from 'data' only in case",
    "data/a.txt/x": "is there twice",
    "data/deep": "is there twice",
    "data/cafe\u0301": "differs from .* only in case or accents",
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("name", CLASHES)
def test_names_that_meet_on_the_disk_are_refused(
    tmp_path: Path, make: Callable[..., Path], name: str
) -> None:
    more = [("data/caf\u00e9", b"", {}), (name, b"second", {})]
    path = make(tmp_path / ("x.zip" if make is zipped else "x.tar"), *good(), *more)
    with pytest.raises(BadArchive, match=CLASHES[name]):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, path.name)


@pytest.mark.parametrize(
    "kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "GNUTYPE_SPARSE"]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: str) -> None:
    facts = {"type": getattr(tarfile, kind), "linkname": "data/a.txt", "size": 0}
    path = tarred(tmp_path / "x.tar", *good(), ("data/evil", b"", facts))
    with pytest.raises(BadArchive, match="'data/evil' is a link or a special file"):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, "x.tar")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    facts = {"external_attr": (kind | 0o777) << 16}
    path = zipped(tmp_path / "x.zip", *good(), ("data/evil", b"/etc/passwd", facts))
    with pytest.raises(BadArchive, match="'data/evil' is a link or a special file"):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, "x.zip")


def test_a_link_and_then_a_file_through_it_write_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    facts = {"type": tarfile.SYMTYPE, "linkname": str(outside), "size": 0}
    path = tarred(tmp_path / "x.tar", ("data/l", b"", facts), ("data/l/evil", b"x", {}))
    with pytest.raises(BadArchive):
        unpack([path], tmp_path / "out")
    assert not any(outside.iterdir())


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", *good())
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BadArchive, match="'data/a.txt' is encrypted"):
        unpack([path], tmp_path / "out")


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_bombs_are_refused_by_what_they_state(tmp_path: Path, name: str) -> None:
    make = zipped if name.endswith("zip") else tarred
    path = make(tmp_path / name, *good(), ("data/zeros", bytes(3_000_000), {}))
    with pytest.raises(BadArchive, match="'data/zeros' brings it to 30.* are allowed"):
        unpack([path], tmp_path / "out", Limits(ratio=10))
    with pytest.raises(BadArchive, match="'data/zeros' brings it to .*2000000 are allowed"):
        unpack([path], tmp_path / "out", Limits(size=2_000_000, ratio=10_000))
    nothing_left(tmp_path, name)


def test_a_zip_that_states_too_little_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", ("data/zeros", bytes(3_000_000), {}))
    content = path.read_bytes().replace(struct.pack("<L", 3_000_000), struct.pack("<L", 1000))
    path.write_bytes(content)
    with pytest.raises(BadArchive):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, "x.zip")


def test_a_zip_that_states_too_much_is_refused(tmp_path: Path) -> None:
    # Its checksum is right, so only the size tells.
    path = zipped(tmp_path / "x.zip", ("data/x", b"x" * 3000, {}))
    content = path.read_bytes().replace(struct.pack("<L", 3000), struct.pack("<L", 4000))
    path.write_bytes(content)
    with pytest.raises(BadArchive, match="has not the 4000 bytes that the archive states"):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, "x.zip")


@pytest.mark.parametrize("make", [zipped, tarred], ids=["zip", "tar"])
def test_too_many_members_are_refused(tmp_path: Path, make: Callable[..., Path]) -> None:
    path = make(tmp_path / ("x.zip" if make is zipped else "x.tar"), *good(), ("data/c", b"", {}))
    with pytest.raises(BadArchive, match="'data/c' is more than the 2 members allowed"):
        unpack([path], tmp_path / "out", Limits(members=2))


def test_a_bomb_in_a_tars_header_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("data/x")
    info.type = tarfile.XHDTYPE
    info.size = 200_000_000
    path = tmp_path / "x.tgz"
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf() + bytes(1 << 16))
    with pytest.raises(BadArchive, match="headers is larger than any name"):
        unpack([path], tmp_path / "out")


def test_a_disk_that_is_too_small_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 12_000))
    path = zipped(tmp_path / "x.zip", *good())
    with pytest.raises(DataError, match="unpacking it needs 0.00 GB") as refused:
        unpack([path], tmp_path / "out")
    assert not isinstance(refused.value, BadArchive)
    nothing_left(tmp_path, "x.zip")


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.tar.bz2", "x.tar.xz"])
@pytest.mark.parametrize("content", [b"", b"<html>no archive</html>" * 100])
def test_what_is_no_archive_is_said(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadArchive, match=rf"{name} "):
        unpack([tmp_path / name], tmp_path / "out")
    nothing_left(tmp_path, name)


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_damage_leaves_nothing_half_unpacked(tmp_path: Path, name: str) -> None:
    noise = os.urandom(100_000)
    make = zipped if name.endswith("zip") else tarred
    path = make(tmp_path / name, *good(), ("data/noise", noise, {}))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(BadArchive, match="is damaged"):
        unpack([path], tmp_path / "out")
    nothing_left(tmp_path, name)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz"])
def test_any_damage_ends_in_one_sentence_or_in_whole_files(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives.os, "sync", lambda: None)
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, *good())
    whole, chance, refused = path.read_bytes(), random.Random(5), 0
    for number in range(120):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            unpack([path], tmp_path / str(number))
        except BadArchive:
            refused += 1
            assert not (tmp_path / str(number)).exists()
        else:
            assert len(tree(tmp_path / str(number))) in (1, 2)
    assert refused  # few in a plain tar, whose contents have no checksum
    assert not [*tmp_path.glob(f"{archives.TEMPORARY}*")]


def test_what_an_unpacking_that_was_killed_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{archives.TEMPORARY}out" / "a.txt").mkdir(parents=True)
    unpack([zipped(tmp_path / "x.zip", *good())], tmp_path / "out")
    nothing_left(tmp_path, "x.zip", "out")


def test_a_folder_that_is_there_is_never_written_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out is there already"):
        unpack([zipped(tmp_path / "x.zip", *good())], tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
