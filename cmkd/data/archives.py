"""Archives unpacked by a strict rule: files and folders, inside the target, whole or not at all.

What is refused, with one sentence that names the member: absolute names and `..`, links, devices
and other special files, encrypted members, names that are used twice or differ only in case, and
more members or bytes than allowed. All members are looked at before the first is written.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from cmkd.data import split_zip
from cmkd.errors import DataError
from cmkd.progress import progress

TEMPORARY = ".unpacking-"
RUBBISH = "__MACOSX"  # beside the folder in many archives made on a Mac
DRIVE = re.compile(r"[A-Za-z]:")
LONGEST_NAME, DEEPEST, LONGEST_READ = 255, 32, 1 << 26
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
TAR_ENDINGS: dict[str, Callable[..., IO[bytes]]] = {
    ".tar": open,
    **{".tar.gz": gzip.open, ".tgz": gzip.open},
    **{".tar.bz2": bz2.open, ".tar.xz": lzma.open},
}
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, split_zip.Broken),
    *(EOFError, OSError, ValueError, NotImplementedError),
)


class BadArchive(DataError):
    """An archive that is damaged or breaks the rule: it is of no use as it is."""


class Limits(NamedTuple):
    """How much an archive may hold: members, bytes, and bytes for each of its own bytes."""

    members: int = 1_000_000
    size: int = 200_000_000_000
    ratio: int = 100


class Member(NamedTuple):
    """One file or folder of an archive; `source` opens what is in a file."""

    name: str
    parts: tuple[str, ...]
    folder: bool
    size: int
    source: Callable[[], IO[bytes]]


def unpack(parts: Sequence[Path], target: Path, limits: Limits = Limits()) -> None:  # noqa: B008
    """Unpack an archive (a zip, its parts in their order, or a tar) as the folder `target`.

    An archive whose content lies in one folder becomes that folder. What an unpacking that was
    killed left behind is removed.

    Raises:
        BadArchive: the archive is damaged or breaks the rule.
        DataError: the target is there already, or the disk is too small.
    """
    target = Path(target)
    if target.exists():
        raise DataError(f"{target} is there already; move it away or leave the archive packed.")
    temporary = target.parent / f"{TEMPORARY}{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    with ExitStack() as stack:
        members = _checked(_members(parts, limits, stack), parts, limits)
        require_room(target.parent, sum(member.size for member in members), "unpacking it")
        try:
            _write(members, temporary, parts[-1])
            os.sync()  # the rename must not reach the disk before what is renamed
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise DataError where a folder's disk has less room than is needed."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, but only {free / 1e9:.2f} GB are "
            "free there; make room or choose another folder."
        )


# ---------------------------------------------------------------------------------- what is inside


def _members(parts: Sequence[Path], limits: Limits, stack: ExitStack) -> Iterator[Member]:
    """Yield the members of an archive, which stays open as long as the stack."""
    ending = next((end for end in TAR_ENDINGS if parts[-1].name.endswith(end)), None)
    with _reading(parts[-1]):
        if ending is None:
            yield from _zip_members(parts, stack)
        else:
            stream = stack.enter_context(TAR_ENDINGS[ending](parts[-1], "rb"))
            yield from _tar_members(parts[-1], _Capped(stream, limits), stack)


def _zip_members(parts: Sequence[Path], stack: ExitStack) -> Iterator[Member]:
    """Yield the members of a zip."""
    whole = stack.enter_context(split_zip.opened(parts))
    archive = stack.enter_context(zipfile.ZipFile(whole))
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse(parts[-1], info.filename, "is a link or a special file")
        if info.flag_bits & 1:
            _refuse(parts[-1], info.filename, "is encrypted")
        if info.compress_type not in METHODS:
            _refuse(parts[-1], info.filename, "is packed in another way than store or deflate")
        if kind == stat.S_IFDIR and not info.is_dir():
            _refuse(parts[-1], info.filename, "is a folder by its kind and a file by its name")
        names = _parts(info.orig_filename, parts[-1])

        def source(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return archive.open(info)

        yield Member(info.filename, names, info.is_dir(), info.file_size, source)


def _tar_members(path: Path, stream: "_Capped", stack: ExitStack) -> Iterator[Member]:
    """Yield the members of a tar."""
    archive = stack.enter_context(tarfile.TarFile(fileobj=stream))
    for info in archive:
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or info.issparse():
            _refuse(path, info.name, "is a link or a special file")

        def source(info: tarfile.TarInfo = info) -> IO[bytes]:
            return archive.extractfile(info) or io.BytesIO()

        size = 0 if info.isdir() else info.size
        yield Member(info.name, _parts(info.name, path), info.isdir(), size, source)
    while stream.read(1 << 20):
        pass  # to the end, where the checksum of a packed tar is compared


class _Capped(io.RawIOBase):
    """What a packed tar unpacks to, refused where it grows too large: its headers may be bombs."""

    def __init__(self, stream: IO[bytes], limits: Limits) -> None:
        self._stream, self._most = stream, limits.size + limits.members * 1024

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > LONGEST_READ:
            raise ValueError("one of its headers is larger than any name")
        if self._stream.tell() > self._most:
            raise ValueError("it unpacks to more than is allowed")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


# --------------------------------------------------------------------------------------- the rule


def _checked(members: Iterator[Member], parts: Sequence[Path], limits: Limits) -> list[Member]:
    """Return the members without rubbish and without the one folder around all; refuse others."""
    path, packed = parts[-1], sum(part.stat().st_size for part in parts)
    most = min(limits.size, limits.ratio * packed + (1 << 20))
    found: list[Member] = []
    seen: dict[str, tuple[str, bool]] = {}
    total = 0
    for number, member in enumerate(members, start=1):
        total += member.size
        if number > limits.members:
            _refuse(path, member.name, f"is more than the {limits.members} members allowed")
        if total > most:
            _refuse(path, member.name, f"brings it to {total} bytes; {most} are allowed")
        _once(member, seen, path)
        if member.parts and member.parts[0] != RUBBISH:
            found.append(member)
    if not any(not member.folder for member in found):
        raise BadArchive(f"{path} holds no file; it is not the archive that was meant.")
    return _without_top(found)


def _without_top(members: list[Member]) -> list[Member]:
    """Return the members without the folder that holds them all, if there is one."""
    tops = {member.parts[0] for member in members}
    if len(tops) > 1 or any(len(member.parts) == 1 and not member.folder for member in members):
        return members
    return [m._replace(parts=m.parts[1:]) for m in members if len(m.parts) > 1]


def _parts(name: str, path: Path) -> tuple[str, ...]:
    """Return the steps of a member's name; refuse one that may lead out or not be written."""
    if name.startswith("/") or DRIVE.match(name):
        _refuse(path, name, "has an absolute name")
    steps = tuple(step for step in name.split("/") if step not in ("", "."))
    if ".." in steps:
        _refuse(path, name, "leads out of the folder by '..'")
    try:
        long = any(len(step.encode()) > LONGEST_NAME for step in steps) or len(steps) > DEEPEST
    except UnicodeEncodeError:
        _refuse(path, name, "has a name that is no text")
    if "\\" in name or not name.isprintable():
        _refuse(path, name, "has a backslash or a control character in its name")
    if long:
        _refuse(path, name, "has too long a name")
    return steps


def _once(member: Member, seen: dict[str, tuple[str, bool]], path: Path) -> None:
    """Note a member and the folders above it; refuse what is there already under this name."""
    for depth in range(1, len(member.parts) + 1):
        name = "/".join(member.parts[:depth])
        folder = member.folder or depth < len(member.parts)
        key = unicodedata.normalize("NFC", name).casefold()
        if key not in seen:
            seen[key] = (name, folder)
            continue
        before, was_folder = seen[key]
        if before != name:
            _refuse(path, member.name, f"differs from {_show(before)} only in case or accents")
        if not (folder and was_folder):
            _refuse(path, member.name, "is there twice")


def _refuse(path: Path, name: str, why: str) -> NoReturn:
    """Refuse an archive for one of its members."""
    raise BadArchive(f"{path}: the member {_show(name)} {why}; nothing was unpacked.")


def _show(name: str) -> str:
    """Return a member's name as safe text, cut short."""
    return ascii(name if len(name) <= 100 else f"{name[:97]}...")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say damage of an archive in one sentence."""
    try:
        yield
    except DAMAGE as error:
        why = str(error) or type(error).__name__
        raise BadArchive(f"{path} is damaged or no archive: {why}; get it again.") from error


# ----------------------------------------------------------------------------------------- writing


def _write(members: Sequence[Member], folder: Path, path: Path) -> None:
    """Write all members below a new folder."""
    folder.mkdir()
    for member in progress(members, len(members), f"unpacking {path.name}"):
        here = folder.joinpath(*member.parts)
        if member.folder:
            here.mkdir(parents=True, exist_ok=True)
            continue
        here.parent.mkdir(parents=True, exist_ok=True)
        with open(here, "xb") as file:
            _copy(member, file, path)


def _copy(member: Member, file: IO[bytes], path: Path) -> None:
    """Write a member's content; it must have the size that the archive states."""
    written = 0
    with _reading(path):
        source = member.source()
    with source:
        while True:
            with _reading(path):
                piece = source.read(1 << 20)
            if not piece:
                break
            written += len(piece)
            if written > member.size:
                break
            file.write(piece)
    if written != member.size:
        _refuse(path, member.name, f"has not the {member.size} bytes that the archive states")
