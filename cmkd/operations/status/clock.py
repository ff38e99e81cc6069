"""How long ago a file was written, though the clocks of three machines may disagree.

A heartbeat is written on a node, stamped by the file system's server and read here. A time that
stands in a file is the node's clock, so it is never compared with ours: what counts is the file's
time of change. Where that looks old, or lies in the future, a file written now on the same file
system tells what the time is there; its clock is then the only one used. (On Lustre, where files
are stamped by the machine that writes, the two machines' clocks must agree to within the limit.)
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path


class Clock:
    """The time on a file system, measured at most once and only if something looks odd."""

    def __init__(self, folder: Path, limit: float) -> None:
        """Take a folder on the file system, and the age in seconds that looks odd."""
        self.folder = folder
        self.limit = limit
        self._ahead: float | None = None

    def age(self, changed: float) -> float:
        """Return the seconds since a file's time of change (Unix seconds), never below 0."""
        age = time.time() - changed
        if not 0 <= age <= self.limit:
            age += self.ahead()
        return max(0.0, age)

    def ahead(self) -> float:
        """Return by how many seconds the file system's clock is ahead of ours (0 if unknown)."""
        if self._ahead is None:
            self._ahead = 0.0
            with contextlib.suppress(OSError):  # nothing may be written there
                self._ahead = self._measure()
        return self._ahead

    def _measure(self) -> float:
        """Write a byte to a file without a name and compare its time with ours."""
        folder = self.folder
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())
            ahead = os.fstat(file.fileno()).st_mtime - time.time()
        # Files are stamped with the time of the last tick, so a little behind is no difference.
        return ahead if abs(ahead) > 1 else 0.0
