"""A whole dataset: its archives fetched, checked and unpacked, and a marker that says from where.

`FOLDER/.download` holds what is not finished; it is gone at the end. Each archive becomes a folder
by one rename, so a call that was killed goes on with what is missing. `FOLDER/download.json` is
written last.
"""

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cmkd import files
from cmkd.data import archives, catalog
from cmkd.data.download import PAUSE, Item, fetch
from cmkd.errors import ConfigError, DataError
from cmkd.plan.catalog import Catalog, find
from cmkd.plan.downloads import MARKER, owner

WORK = ".download"


class Archive(NamedTuple):
    """An archive in one file or several parts, and the folder that it becomes."""

    folder: str
    items: tuple[Item, ...]


class Source(NamedTuple):
    """Where a dataset comes from."""

    name: str
    title: str
    licence: str
    archives: tuple[Archive, ...]


def source(dataset: str, folder: Path | None = None) -> Source:
    """Return where a dataset comes from.

    Args:
        dataset: its name in datasets.yaml.
        folder: the catalogue (default: found from the working directory).

    Raises:
        ConfigError: no such dataset, or none with `downloads`.
    """
    entries = Catalog(folder or find(Path.cwd()))
    name = owner(entries, dataset)
    if name is None:
        raise ConfigError(
            f"dataset {dataset}: {entries.file('datasets')} names no downloads for it; get its "
            "recordings by hand and name their folder by --data-root PATH"
        )
    entry = entries.entry("datasets", name)
    return Source(name, str(entry.get("title", name)), str(entry.get("licence", "not stated")),
                  _archives(entry["downloads"]))  # fmt: skip


def _archives(downloads: list[Mapping[str, Any]]) -> tuple[Archive, ...]:
    """Return the archives of a dataset: files that become one folder are parts of one."""
    found: dict[str, list[Item]] = {}
    for given in downloads:
        algorithm = next((kind for kind in ("sha256", "md5") if kind in given), "")
        item = Item(
            url=given["url"],
            file=given["file"],
            size=given.get("bytes"),
            algorithm=algorithm,
            digest=str(given.get(algorithm, "")),
            reason=str(given.get("no_hash", "")),
        )
        found.setdefault(given["folder"], []).append(item)
    return tuple(Archive(folder, tuple(items)) for folder, items in found.items())


def obtain(wanted: Source, entry: Mapping[str, Any], root: Path, pause: float = PAUSE) -> None:
    """Fetch what is missing of a dataset into a folder, and write the marker.

    Args:
        wanted: where it comes from.
        entry: the dataset's entry, whose reader tells whether all recordings are there already.
        root: the folder, made if it is not there.
        pause: seconds before a second attempt.

    Raises:
        DataError: it cannot be fetched or unpacked, or another process is at it.
    """
    work = root / WORK
    if not work.exists() and _all_there(entry, root):  # else a call that was killed goes on
        print(f"{entry['name']}: all recordings are in {root} already", flush=True)
        if not (root / MARKER).is_file():
            _mark(wanted, root, ())
        return
    missing = [a for a in wanted.archives if not (root / a.folder).is_dir()]
    with _alone(work):
        _say(wanted)
        _require_room(missing, root, work)
        for archive in missing:
            _one(archive, root, work, pause)
        _mark(wanted, root, wanted.archives)


def _all_there(entry: Mapping[str, Any], root: Path) -> bool:
    """Tell whether the dataset's own table is there and every recording that it names."""
    with suppress(DataError):
        rows = catalog.reader(entry["reader"]).rows(entry, root)
        return all((root / row.path).is_file() for row in rows)
    return False


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep a second process from fetching into the same folder."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"another process is fetching into {work.parent}; wait until it has finished."
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            if [path.name for path in work.iterdir()] == ["lock"]:
                shutil.rmtree(work)


def _say(wanted: Source) -> None:
    """Print what is fetched, its licence and from where, and which files cannot be checked."""
    items = [item for archive in wanted.archives for item in archive.items]
    print(f"{wanted.title}\n  licence: {wanted.licence}")
    for item in items:
        size = f"{item.size / 1e6:.1f} MB" if item.size is not None else "size not published"
        check = item.algorithm or f"no hash: {item.reason}"
        print(f"  {item.url} ({size}; {check})")
    print("", end="", flush=True)


def _require_room(missing: list[Archive], root: Path, work: Path) -> None:
    """Stop before the first byte where archives and what they unpack to cannot have room."""
    packed = [sum(item.size or 0 for item in archive.items) for archive in missing]
    there = sum(file.stat().st_size for file in work.iterdir())
    needed = sum(packed) + max(packed, default=0) - there
    archives.require_room(root, max(needed, 0), "fetching and unpacking the dataset")


def _one(archive: Archive, root: Path, work: Path, pause: float) -> None:
    """Fetch and unpack one archive; remove its files when it is unpacked or of no use."""
    paths = []
    for item in archive.items:
        paths.append(fetch(item, work, pause))
        checked = f"{item.algorithm} as published" if item.algorithm else "no hash to compare"
        print(f"{item.file}: {paths[-1].stat().st_size} bytes, {checked}", flush=True)
    try:
        archives.unpack(paths, root / archive.folder)
    except archives.BadArchive:
        _remove(paths)
        raise
    _remove(paths)


def _remove(paths: list[Path]) -> None:
    """Remove files."""
    for path in paths:
        path.unlink()


def _mark(wanted: Source, root: Path, fetched: tuple[Archive, ...]) -> None:
    """Write the marker: what was fetched, under which licence."""
    record = {
        "format": 1,
        "dataset": wanted.name,
        "title": wanted.title,
        "licence": wanted.licence,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": [_described(item) for archive in fetched for item in archive.items],
    }
    files.write_json(root / MARKER, record)


def _described(item: Item) -> dict[str, Any]:
    """Return what the marker says of one file."""
    check = {item.algorithm: item.digest} if item.algorithm else {"no_hash": item.reason}
    return {"url": item.url, "file": item.file, "bytes": item.size, **check}
