"""Split zips read in place, against Info-ZIP's own `zip -s` and `zip -s 0`."""

import random
import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest

from cmkd.data import split_zip

needs_zip = pytest.mark.skipif(
    shutil.which("zip") is None, reason="needs Info-ZIP's zip (Debian package zip)"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve files of noise, one of nothing, one folder below."""
    made = tmp_path / "audio"
    (made / "deep").mkdir(parents=True)
    noise = random.Random(0)
    for number in range(12):
        (made / f"{number}.wav").write_bytes(noise.randbytes(noise.randrange(1, 40_000)))
    (made / "deep" / "0.wav").write_bytes(b"")
    return made


def call(folder: Path, *arguments: str) -> None:
    subprocess.run(["zip", "-q", *arguments], cwd=folder.parent, check=True)


def parts(folder: Path) -> list[Path]:
    """Return the parts that `zip -s` made, in order."""
    return [*sorted(folder.parent.glob("a.z[0-9]*")), folder.parent / "a.zip"]


def contents(path: Path | list[Path]) -> dict[str, tuple[bytes, int, int]]:
    """Return each member's content, attributes and checksum."""
    if isinstance(path, Path):
        with zipfile.ZipFile(path) as archive:
            return _contents(archive)
    with split_zip.opened(path) as whole, zipfile.ZipFile(whole) as archive:
        return _contents(archive)


def _contents(archive: zipfile.ZipFile) -> dict[str, tuple[bytes, int, int]]:
    return {i.filename: (archive.read(i), i.external_attr, i.CRC) for i in archive.infolist()}


@needs_zip
@pytest.mark.parametrize("forced", [(), ("-fz",)], ids=["plain", "zip64"])
def test_parts_hold_what_info_zip_joins(folder: Path, forced: tuple[str, ...]) -> None:
    call(folder, "-r", "-s", "64k", *forced, "a.zip", "audio")
    assert len(parts(folder)) >= 3
    call(folder, "-s", "0", "a.zip", "--out", "joined.zip")
    joined = contents(folder.parent / "joined.zip")
    assert len(joined) == 15
    assert contents(parts(folder)) == joined


@needs_zip
def test_one_file_is_read_as_it_is(folder: Path) -> None:
    call(folder, "-r", "-z", "a.zip", "audio")  # asks for a comment, which is empty here
    assert contents([folder.parent / "a.zip"]) == contents(folder.parent / "a.zip")


@needs_zip
def test_a_missing_part_is_said(folder: Path) -> None:
    call(folder, "-r", "-s", "64k", "a.zip", "audio")
    there = parts(folder)
    with pytest.raises(split_zip.Broken, match=rf"has {len(there)} part\(s\), but 1 are there"):
        split_zip.opened(there[-1:])


@needs_zip
def test_parts_in_another_order_give_no_wrong_file(folder: Path) -> None:
    call(folder, "-r", "-s", "64k", "a.zip", "audio")
    first, second, *rest = parts(folder)
    with pytest.raises((split_zip.Broken, zipfile.BadZipFile)):
        contents([second, first, *rest])


def test_a_zip_of_pythons_own_with_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", "text" * 1000)
        archive.comment = b"the commit"
    assert contents([path]) == contents(path)


def large(path: Path, at: int) -> None:
    """Write a sparse zip whose second member begins `at` bytes into it."""
    with open(path, "w+b") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("first.txt", "first")
        file.seek(at)
        archive.start_dir = at
        archive.writestr("second.txt", "second")


def test_places_beyond_4_gigabytes(tmp_path: Path) -> None:
    large(tmp_path / "a.zip", at=(1 << 32) + 5)
    assert contents([tmp_path / "a.zip"]) == contents(tmp_path / "a.zip")
    assert contents([tmp_path / "a.zip"])["second.txt"][0] == b"second"


@pytest.mark.parametrize("keep", [0, 10, 21, 60])
def test_a_file_that_is_no_zip_is_said(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"<html>not what you asked for</html>" + b" " * keep)
    with pytest.raises(split_zip.Broken, match="no end of a zip archive"):
        split_zip.opened([path])


def test_any_damage_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.txt", f"content {number}")
    whole = path.read_bytes()
    want = contents(path)
    chance = random.Random(3)
    known = (split_zip.Broken, zipfile.BadZipFile, ValueError, OSError, EOFError, zlib.error)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            got = contents([path])
        except (*known, RuntimeError):  # wanting a password or another method is one of these
            continue
        # What is read is what was packed, but for names and times, which no checksum covers.
        assert {text for text, *_ in got.values()} <= {text for text, *_ in want.values()}
