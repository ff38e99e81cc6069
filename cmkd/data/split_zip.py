"""A zip archive that lies in one file or in several parts, read as one file without copying it.

Info-ZIP's `zip -s` cuts an archive into NAME.z01, NAME.z02, ... and NAME.zip. The parts stand end
to end, but the directory at the end counts from the start of each part (PKWARE's APPNOTE 6.3.10,
sections 4.3 to 4.5). `opened` gives the parts as one file with a directory that counts from the
start of the first, which is what `zip -s 0` would write.
"""

import io
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
ENTRY = struct.Struct("<4s6H3L5H2L")
LONGEST_COMMENT = 0xFFFF
MOST_DIRECTORY = 1 << 28  # bytes; a million names of 200 letters
WIDE, SHORT = 0xFFFFFFFF, 0xFFFF


class Broken(Exception):
    """The parts are no zip archive, or not all of one; the text says why."""


class _End(NamedTuple):
    """What the end of an archive says of its directory."""

    disks: int
    disk: int
    entries: int
    size: int
    offset: int


class Joined(io.RawIOBase):
    """Files end to end, then some bytes, as one file to read."""

    def __init__(self, paths: Sequence[Path], length: int, tail: bytes) -> None:
        """Take the files, how many of their bytes count, and the bytes that follow these."""
        self._files = [open(path, "rb") for path in paths]  # noqa: SIM115 - closed by `close`
        sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        self._starts = [0, *accumulate(sizes)][:-1]
        self._length, self._tail, self._at = length, tail, 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that any place of it can be reached."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size()}[whence]
        if base + offset < 0:
            raise OSError("seek before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as one file reaches."""
        content = self._read(len(buffer))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _read(self, count: int) -> bytes:
        """Return up to `count` bytes from here, from one file or from the tail."""
        if self._at >= self._length:
            start = self._at - self._length
            return self._tail[start : start + count]
        file = bisect_right(self._starts, self._at) - 1
        self._files[file].seek(self._at - self._starts[file])
        return self._files[file].read(min(count, self._length - self._at))

    def _size(self) -> int:
        return self._length + len(self._tail)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        super().close()


def opened(paths: Sequence[Path]) -> io.BufferedReader:
    """Open the parts of an archive, in their order (the `.zip` last), as one file for `zipfile`.

    Raises:
        Broken: no end or directory is found, or parts are missing.
    """
    sizes = [path.stat().st_size for path in paths]
    starts = [0, *accumulate(sizes)]
    with Joined(paths, starts[-1], b"") as whole:
        end = _find_end(whole, sizes[-1])
        if end.disks != len(paths):
            raise Broken(f"it says that it has {end.disks} part(s), but {len(paths)} are there")
        at = _place(starts, end.disk, end.offset)
        if end.size > min(MOST_DIRECTORY, starts[-1] - at):
            raise Broken(f"its directory would have {end.size} bytes")
        whole.seek(at)
        content = io.BufferedReader(whole).read(end.size)
    tail = _directory(content, end.entries, starts, at)
    return io.BufferedReader(Joined(paths, at, tail), 1 << 16)


def _find_end(whole: Joined, last: int) -> _End:
    """Read the record at the end of the last part, or the wider one before it."""
    length = min(last, END.size + LONGEST_COMMENT + LOCATOR.size + END64.size)
    whole.seek(-length, os.SEEK_END)
    text = whole.read(length)
    at = text.rfind(b"PK\x05\x06")
    if at < 0 or len(text) - at < END.size:
        raise Broken("no end of a zip archive is in it")
    _, disk, start, _, entries, size, offset, _ = END.unpack_from(text, at)
    found = _End(disk + 1, start, entries, size, offset)
    if at >= LOCATOR.size and text[at - LOCATOR.size :].startswith(b"PK\x06\x07"):
        place = at - LOCATOR.size - END64.size
        if place < 0 or not text[place:].startswith(b"PK\x06\x06"):
            raise Broken("the wide record of its end is not where it should be")
        _, _, _, _, disk, start, _, entries, size, offset = END64.unpack_from(text, place)
        found = _End(disk + 1, start, entries, size, offset)
    return found


def _place(starts: Sequence[int], disk: int, offset: int) -> int:
    """Return the place in the whole of an offset in a part."""
    if disk >= len(starts) - 1 or starts[disk] + offset > starts[-1]:
        raise Broken(f"it speaks of byte {offset} of part {disk + 1}, which is not there")
    return starts[disk] + offset


def _directory(content: bytes, entries: int, starts: Sequence[int], at: int) -> bytes:
    """Return the directory with all places counted from the first part, and a new end."""
    made, place = [], 0
    for _ in range(entries):
        entry, place = _entry(content, place, starts)
        made.append(entry)
    body = b"".join(made)
    wide = END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, len(body), at)
    locator = LOCATOR.pack(b"PK\x06\x07", 0, at + len(body), 1)
    end = END.pack(b"PK\x05\x06", 0, 0, SHORT, SHORT, WIDE, WIDE, 0)
    return body + wide + locator + end


def _entry(content: bytes, place: int, starts: Sequence[int]) -> tuple[bytes, int]:
    """Return one entry of the directory, rewritten, and where the next one begins."""
    if content[place : place + 4] != b"PK\x01\x02" or len(content) - place < ENTRY.size:
        raise Broken("its directory is damaged")
    fields = list(ENTRY.unpack_from(content, place))
    name, extra, comment = fields[10:13]
    body = place + ENTRY.size
    after = body + name + extra + comment
    if after > len(content):
        raise Broken("its directory is damaged")
    wide, rest = _extra(content[body + name : body + name + extra])
    wanted = [number for number in (9, 8, 16) if fields[number] == WIDE]
    if len(wide) < 8 * len(wanted):
        raise Broken("its directory is damaged")
    for number, value in zip(wanted, struct.unpack_from(f"<{len(wanted)}Q", wide), strict=True):
        fields[number] = value
    disk = fields[13]
    if disk == SHORT:
        disk = int.from_bytes(wide[8 * len(wanted) : 8 * len(wanted) + 4], "little")
    values = (fields[9], fields[8], _place(starts, disk, fields[16]))
    text = struct.pack("<2H3Q", 1, 24, *values) + rest
    fields[8:10], fields[16] = [WIDE, WIDE], WIDE
    fields[11:14] = [len(text), 0, 0]
    return ENTRY.pack(*fields) + content[body : body + name] + text, after


def _extra(text: bytes) -> tuple[bytes, bytes]:
    """Return the wide numbers among an entry's extra fields, and the other fields."""
    wide, rest, place = b"", b"", 0
    while place + 4 <= len(text):
        kind, size = struct.unpack_from("<2H", text, place)
        field = text[place : place + 4 + size]
        if kind == 1:
            wide = field[4:]
        else:
            rest += field
        place += 4 + size
    return wide, rest
