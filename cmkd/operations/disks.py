"""How a folder's file system behaves: room, and how long a safe write takes."""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

ROUNDS = 9
SIZE = 64 * 1024


def there(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    path = Path(folder).absolute()
    while not path.is_dir():
        path = path.parent
    return path


def room(folder: Path) -> int:
    """Return the free bytes where a folder is, or will be."""
    return shutil.disk_usage(there(folder)).free


def latency(folder: Path) -> float:
    """Return the median seconds to write 64 KB, fsync and rename it; raises OSError if it fails."""
    seconds = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as name:
        for number in range(ROUNDS):
            began = time.perf_counter()
            _safe_write(Path(name), number)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _safe_write(folder: Path, number: int) -> None:
    """Write a file as results are written: beside its place, to the disk, then renamed."""
    new = folder / "new"
    with open(new, "wb") as file:
        file.write(bytes(SIZE))
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / f"{number}")


def clock_ahead(folder: Path) -> float:
    """Return by how many seconds the file system's clock is ahead of this machine's."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        before = time.time()
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        after = time.time()
        return os.stat(file.name).st_mtime - (before + after) / 2
