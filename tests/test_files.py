"""Files are written whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from cmkd import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_missing_folders_are_made_and_the_umask_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    old = os.umask(0o027)
    try:
        files.write_json(path, {"ä": 1.5})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    assert files.read_json(path) == {"ä": 1.5}


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_hashes_are_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc" * 100_000)
    expected = hashlib.sha256(b"abc" * 100_000).hexdigest()
    assert files.sha256_file(path) == expected
    assert files.write_sidecar(path) == expected
    assert files.sidecar(path).read_text() == expected + "\n"
