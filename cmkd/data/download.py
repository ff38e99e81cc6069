"""One file by HTTP: resumed, checked and moved into place only when it is whole.

While it is fetched it is `FILE.part`; `FILE.part.json` beside it says which version of which file
it is (RFC 9110: ETag or Last-Modified, sent back as If-Range). A part is continued only where a
server vouches for that version or a hash will tell; otherwise it is fetched from the start.
"""

import hashlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd import __version__, files
from cmkd.data.archives import require_room
from cmkd.errors import DataError
from cmkd.progress import transfer

ATTEMPTS = 8  # in a row that bring nothing new
PAUSE, LONGEST_PAUSE = 1.0, 120.0  # seconds, doubled from attempt to attempt
TIMEOUT = 60.0  # seconds without a byte
PIECE = 1 << 18
TRANSIENT = (408, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524)
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Item:
    """A file to fetch: where from, its name here, its bytes and hash, or why no hash is known."""

    url: str
    file: str
    size: int | None = None
    algorithm: str = ""
    digest: str = ""
    reason: str = ""


class _Cut(Exception):
    """An attempt that failed in a way that the next one may not; `wait`: what the server asks."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to http, nor out of the web."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, *more: Any) -> Any:
        safe = ("https:",) if req.full_url.startswith("https:") else ("https:", "http:")
        if not more[-1].startswith(safe):
            raise DataError(
                f"{req.full_url} leads to {more[-1]}, which does not begin with {safe[-1]} so it "
                "is not followed; look on the dataset's page where the file is now."
            )
        return super().redirect_request(req, fp, code, msg, *more)


def fetch(item: Item, folder: Path, pause: float = PAUSE) -> Path:
    """Fetch a file into a folder, going on where an earlier call ended; return its path.

    Args:
        item: the file.
        folder: made if it is not there.
        pause: seconds before the second attempt.

    Raises:
        DataError: the server refuses it, its size or hash are not those stated, the disk is too
            small, or nothing new came in `ATTEMPTS` attempts.
    """
    if not item.url.startswith(("https://", "http://")):
        raise DataError(f"{item.url} is no address of a web server; mend it in datasets.yaml.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / item.file
    if path.is_file() and _wrong(item, path) is None:
        return path
    path.unlink(missing_ok=True)
    part = _Part(item, path)
    resumed = _until_whole(item, part, pause)
    problem = _wrong(item, part.path)
    if problem and resumed:
        print(f"{item.file}: {problem}; fetched anew from the start", flush=True)
        part.drop()
        _until_whole(item, part, pause)
        problem = _wrong(item, part.path)
    if problem:
        part.drop()
        raise DataError(
            f"{item.url}: {problem}; either it is damaged on the way (run the same again) or its "
            "publisher has changed it (then compare and mend datasets.yaml)."
        )
    part.finish()
    return path


def _wrong(item: Item, path: Path) -> str | None:
    """Return what is wrong with a whole file, or None."""
    size = path.stat().st_size
    if item.size is not None and size != item.size:
        return f"it has {size} bytes, not {item.size}"
    if not item.algorithm:
        return None
    with open(path, "rb") as file:
        made = hashlib.file_digest(file, _hasher(item.algorithm)).hexdigest()
    return None if made == item.digest else f"its {item.algorithm} is {made}, not {item.digest}"


def _hasher(algorithm: str) -> Any:
    """Return a maker of hashes; md5 here guards against damage, not against an attacker."""
    return lambda: hashlib.new(algorithm, usedforsecurity=False)


class _Part:
    """The unfinished file and the record of what it is a part of."""

    def __init__(self, item: Item, path: Path) -> None:
        self.item, self.target = item, path
        self.path = path.with_name(f"{path.name}.part")
        self.record = path.with_name(f"{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def known(self) -> dict[str, Any]:
        """Return the record, if it is of this item and the part may be continued."""
        try:
            record: dict[str, Any] = files.read_json(self.record)
            usable = record["url"] == self.item.url and self.size > 0
            vouched = bool(record["etag"] or record["modified"] or self.item.algorithm)
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return record if usable and vouched else {}

    def note(self, response: Any, total: int | None) -> None:
        """Write the record, before the first byte."""
        etag = response.headers.get("ETag") or ""
        modified = response.headers.get("Last-Modified") or ""
        strong = "" if etag.startswith("W/") else etag
        record = {"url": self.item.url, "etag": strong, "modified": modified, "total": total}
        files.write_json(self.record, record)

    def drop(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the whole file into place."""
        with files.replacing(self.target) as temporary:
            self.path.replace(temporary)
        self.drop()


def _until_whole(item: Item, part: _Part, pause: float) -> bool:
    """Try until the file is there; return whether it was put together from several attempts."""
    failures, furthest, attempts = 0, part.size, 1 if part.known() else 0
    while True:
        attempts += 1
        try:
            _attempt(item, part)
            return attempts > 1
        except _Cut as cut:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= ATTEMPTS:
                raise DataError(
                    f"{item.url} could not be fetched: {cut}, {failures} times in a row; run the "
                    "same again later, it goes on where it was."
                ) from cut
            wait = min(max(pause * 2 ** (failures - 1), cut.wait), LONGEST_PAUSE)
            print(f"{item.file}: {cut}; again in {wait:.0f} s", flush=True)
            time.sleep(wait)


def _attempt(item: Item, part: _Part) -> None:
    """Ask for what is missing and write it; _Cut if it is not whole then."""
    record = part.known()
    if record and record.get("total") == part.size:
        return
    with _open(item, part, record) as response:
        start, total = _place(item, part, record, response)
        require_room(part.path.parent, (total or 0) - start, f"fetching {item.file}")
        if not start:
            part.drop()
            part.note(response, total)
        with open(part.path, "ab" if start else "wb") as file:
            for piece in transfer(_pieces(response, item), total, item.file, start):
                file.write(piece)
                file.flush()
    if total is not None and part.size != total:
        raise _Cut(f"the connection ended after {part.size} of {total} bytes")


def _open(item: Item, part: _Part, record: dict[str, Any]) -> Any:
    """Open the connection, from where the part ends if there is one."""
    # A packed transfer would have another length and other places to resume at.
    headers = {"User-Agent": f"cmkd/{__version__}", "Accept-Encoding": "identity"}
    if record:
        headers["Range"] = f"bytes={part.size}-"
        version = record["etag"] or record["modified"]
        headers |= {"If-Range": version} if version else {}
    request = urllib.request.Request(item.url, headers=headers)
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(item, part, error) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DataError(
                f"{item.url}: the server's certificate is not valid: {reason}"
            ) from None
        raise _Cut(f"no answer ({reason or type(error).__name__})") from None


def _refused(item: Item, part: _Part, error: urllib.error.HTTPError) -> Exception:
    """Return what a server's refusal means: to try again, or to stop."""
    if error.code == 416:
        part.drop()
        return _Cut("the server has no such rest of it")
    if error.code not in TRANSIENT:
        return DataError(
            f"{item.url}: the server says {error.code} {error.reason}; look on the dataset's page "
            "whether the file has moved, and mend its url in datasets.yaml."
        )
    asked = error.headers.get("Retry-After") or ""
    wait = float(asked) if asked.isdecimal() else 0.0
    return _Cut(f"the server says {error.code} {error.reason}", wait)


def _place(
    item: Item, part: _Part, record: dict[str, Any], response: Any
) -> tuple[int, int | None]:
    """Return where the answer begins and how long the whole file is; refuse another file."""
    start, length = 0, response.headers.get("Content-Length") or ""
    total = int(length) if length.isdecimal() else None
    if response.status == 206:
        start, total = _range(part, record, response)
    elif response.status != 200:
        raise DataError(f"{item.url}: the server says {response.status}, which is no file.")
    if item.size is not None and total not in (None, item.size):
        part.drop()
        raise DataError(
            f"{item.url}: the server offers {total} bytes, but datasets.yaml states {item.size}; "
            "it is another file: look on the dataset's page and mend datasets.yaml."
        )
    return start, item.size if total is None else total


def _range(part: _Part, record: dict[str, Any], response: Any) -> tuple[int, int | None]:
    """Return start and length of the whole from a partial answer that continues the part."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
    start = int(found[1]) if found else -1
    total = int(found[2]) if found and found[2] != "*" else None
    etag = response.headers.get("ETag") or ""
    same = not record.get("etag") or not etag or etag == record["etag"]
    if start != part.size or not same or record.get("total") not in (None, total):
        part.drop()
        raise _Cut("the file has changed meanwhile, or the server continues it elsewhere")
    return start, total


def _pieces(response: Any, item: Item) -> Iterator[bytes]:
    """Yield what arrives; _Cut where the connection breaks."""
    while True:
        try:
            piece = response.read1(PIECE)  # what is there: a cut loses nothing that came
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(f"the connection broke ({error or type(error).__name__})") from None
        if not piece:
            return
        yield piece
