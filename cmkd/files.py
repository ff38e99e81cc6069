"""Files written whole or not at all (temp + fsync + rename), and their hashes."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

# What is asked before a file is put in place; it may raise.
_GUARD: ContextVar[Callable[[], None]] = ContextVar("guard", default=lambda: None)


@contextlib.contextmanager
def guarded(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` within this block just before each file is put in place; it raises to forbid."""
    before = _GUARD.set(check)
    try:
        yield
    finally:
        _GUARD.reset(before)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there if the block ends well, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        _GUARD.get()()
        temporary.replace(path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """Return the process's umask (reading it means setting it twice)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _to_disk(path: Path) -> None:
    """Ask the system to write a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON, indented, keys in the order given; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_text(text: str) -> str:
    """Return the sha256 of UTF-8 text, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sidecar(path: Path) -> Path:
    """Return the path of the `.sha256` file beside a prepared file."""
    return Path(f"{path}.sha256")


def write_sidecar(path: Path) -> str:
    """Hash `path`, write the hash beside it and return it."""
    digest = sha256_file(path)
    write_text(sidecar(path), digest + "\n")
    return digest


def checkout() -> Path:
    """Return the folder that holds the package (a checkout's root, with config/ beside cmkd/)."""
    return Path(__file__).resolve().parents[1]
