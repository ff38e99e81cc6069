"""One writer for a run's folder: a lease with a heartbeat, safe on a shared file system.

Two copies of one job (one that Snakemake has lost sight of, and the same submitted anew) may run at
the same time, on two machines. The one that holds RUN/state/lease.json writes; the other waits.

- Taken by a hard link of a whole file to a name that must not exist, which NFS does atomically.
- Kept alive by a thread that rewrites the holder's own file in place, through the handle it has
  kept: a heartbeat that comes too late goes into a file that has been moved away, never into that
  of another holder.
- Dead when a waiter has looked at it for `seconds` and nothing has changed. The waiter counts its
  own looks, so no clocks are compared and time in which the waiter itself hung does not count. A
  holder on the same machine whose process is gone is dead at once.
- A dead lease is moved to a name of the mover's own; of several waiters one succeeds, and one that
  has moved something else than what it watched puts it back.
- Whoever holds a lease checks before each write (`files.guarded`) that it is still there.

Not prevented: a process that is frozen for longer than `seconds` just between the check and the
rename writes one file when it wakes. That does no harm: files are written whole, both copies have
one recipe and the same inputs and so write the same bytes, and checkpoints carry their hash.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.errors import ConfigError, LeaseLost, RunError

NAME = "lease.json"
SECONDS = 60.0  # a lease without a heartbeat that long is dead
BEATS = 6  # heartbeats in that time
LOOKS = 30  # looks of a waiter in that time ...
LONGEST_PAUSE = 5.0  # ... but never fewer than one in so many seconds
TELL = 60.0  # seconds between two lines of one that waits
SIZE = 1024  # bytes of the file, so that a heartbeat never changes its length
PUT_BACK = 1.0  # seconds in which a lease that was moved by mistake is put back

Record = dict[str, Any]


@contextlib.contextmanager
def held(
    run: Path, stage: str, seconds: float = SECONDS, tick: Callable[[], None] = lambda: None
) -> Iterator["Lease"]:
    """Hold a run's lease during a block, in which every file is checked before it is put in place.

    Waits for another copy that holds it; `tick` is called at each look and may raise to end that.

    Raises:
        LeaseLost: within the block, at a write: another copy has taken the run over.
        RunError: the lease cannot be read.
    """
    lease = Lease(Path(run) / "state" / NAME, stage, seconds)
    lease.take(tick)
    try:
        with files.guarded(lease.check):
            yield lease
    finally:
        lease.release()


def seconds(execution: Mapping[str, Any]) -> float:
    """Return how long a lease lives without a heartbeat, as the block `execution` says."""
    found = execution.get("lease_seconds", SECONDS)
    if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
        raise ConfigError(f"execution.lease_seconds is {found!r}, but must be a number above 0")
    return float(found)


class Lease:
    """A lease of this process on one run; `waited` tells whether another copy held it before."""

    def __init__(self, path: Path, stage: str, seconds: float = SECONDS) -> None:
        """Name its file, what is done under it, and the seconds after which silence is death."""
        self.path, self.seconds = Path(path), float(seconds)
        self.token = uuid.uuid4().hex
        self.every = self.seconds / BEATS
        self.waited = False
        self.lost = False
        self._handle: int | None = None
        self._ended = threading.Event()
        self._busy = threading.RLock()  # two threads look after the lease
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)
        self._record: Record = {
            "format": 1,
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": machine(),
            "process": process_start(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID"),
            "stage": stage,
            "every": self.every,
            "began": time.time(),
            "heartbeat": time.time(),
            "beat": 0,
        }

    # -------------------------------------------------------------------------- taking and giving

    def take(self, tick: Callable[[], None] = lambda: None) -> None:
        """Take the lease, after waiting for whoever holds it."""
        watch = Watch(self.path, self.seconds)
        while not (watch.look() is None and self._claim()):
            if watch.content is None:
                watch.rest()
            elif watch.dead():
                self._bury(watch)
            else:
                self.waited = True
                tick()
                watch.tell()
                watch.rest()
        self._thread.start()

    def _claim(self) -> bool:
        """Put our file in place if there is none, and say whether that was done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".new-lease-{self.token}")
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write(handle, self._record)
            done, handle = _put(temporary, self.path, handle)
        except FileNotFoundError:  # the folder was swept while we wrote
            done = False
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if not done:
            os.close(handle)
            return False
        self._keep(handle)
        return True

    def _keep(self, handle: int) -> None:
        """Write to this handle from now on."""
        before, self._handle = self._handle, handle
        if before is not None:
            os.close(before)

    def _bury(self, watch: "Watch") -> None:
        """Move a dead lease away; what is not the one that was watched is put back."""
        aside = self.path.with_name(f".new-lease-{watch.word('token')}-{self.token}")
        if read(self.path) != watch.content:
            return
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        if read(aside) == watch.content:
            print(f"takes over from {watch.who()}, which gives no sign of life", flush=True)
        else:
            self._put_back(aside)
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()

    def _put_back(self, aside: Path) -> None:
        """Give back the name of a lease that lives, unless another one has it already."""
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(aside, os.O_RDONLY)
            os.close(_put(aside, self.path, handle)[1])

    def release(self) -> None:
        """Give the lease up, and remove its folder if nothing else is in there."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            if self._is_ours(read(self.path)):
                self.path.unlink()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # ---------------------------------------------------------------------------- while it is held

    def check(self) -> None:
        """Raise LeaseLost unless the lease is still ours."""
        with self._busy:
            self.lost = self.lost or not self._still_ours()
        if self.lost:
            watch = Watch(self.path, self.seconds)
            with contextlib.suppress(RunError):
                watch.look()
            raise LeaseLost(
                f"another copy of this job has taken {self.path.parent.parent} over while this one "
                f"gave no sign of life ({watch.who()}); this one stops and writes nothing more. "
                "The same command goes on from what the other one leaves"
            )

    def _still_ours(self) -> bool:
        """Say whether the file is ours; wait for it where one who moved it will put it back."""
        until = time.monotonic() + PUT_BACK
        while True:
            try:
                content = read(self.path)
            except RunError:  # cut off from the file system
                return False
            if content is not None or not self._has_a_name():
                return self._is_ours(content)
            if time.monotonic() >= until:
                return self._claim()
            time.sleep(PUT_BACK / 50)

    def _is_ours(self, content: bytes | None) -> bool:
        """Say whether a file's content is of this lease; its token stands before all that beats."""
        return content is not None and self.token.encode() in content

    def _has_a_name(self) -> bool:
        """Say whether our file still lies anywhere: removed or taken over, it does not."""
        try:
            return self._handle is not None and os.fstat(self._handle).st_nlink > 0
        except OSError:  # NFS: stale
            return False

    def _keep_beating(self) -> None:
        """Beat until the lease is given up or lost; a file system that hangs is waited for."""
        while not self._ended.wait(self.every) and not self.lost:
            with contextlib.suppress(OSError), self._busy:
                self.lost = self.lost or not self._still_ours()
                if not self.lost:
                    self._beat()

    def _beat(self) -> None:
        """Write one heartbeat."""
        self._follow()
        self._record["beat"] += 1
        self._record["heartbeat"] = time.time()
        if self._handle is not None:
            _write(self._handle, self._record)

    def _follow(self) -> None:
        """Take up our file where it is a copy, put back on a file system without hard links."""
        if self._handle is None or os.path.samestat(os.fstat(self._handle), os.stat(self.path)):
            return
        handle = os.open(self.path, os.O_RDWR)
        if self._is_ours(os.pread(handle, SIZE, 0)):
            self._keep(handle)
        else:
            os.close(handle)


class Watch:
    """What one that waits has seen of a lease: its last content, and looks without a change."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Name the file and the seconds after which silence is death."""
        self.path, self.seconds = path, seconds
        self.pause = min(seconds / LOOKS, LONGEST_PAUSE)
        self.content: bytes | None = None
        self.unchanged = 0
        self.told: float | None = None

    def look(self) -> bytes | None:
        """Read the lease, None where there is none."""
        content = read(self.path)
        self.unchanged = self.unchanged + 1 if content == self.content else 0
        self.content = content
        return content

    def rest(self) -> None:
        """Wait until the next look."""
        time.sleep(self.pause)

    def dead(self) -> bool:
        """Say whether the holder is gone from this machine, or has been silent for too long."""
        record = self.record()
        every = record.get("every")
        known = isinstance(every, int | float) and not isinstance(every, bool)
        limit = max(self.seconds, 3 * float(every)) if known and every else self.seconds
        return gone(record) or self.unchanged * self.pause >= limit

    def record(self) -> Record:
        """Return what the lease says, nothing where it is damaged."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.content or b"")
            if isinstance(found, dict):
                return found
        return {}

    def word(self, key: str) -> str:
        """Return one of its values as a word that may stand in a file's name."""
        found = str(self.record().get(key, "unknown"))
        return found if found.isalnum() and len(found) <= 64 else "unknown"

    def who(self) -> str:
        """Return whose lease it is, in words."""
        if self.content is None:
            return "it has ended since"
        record = self.record()
        job = f", Slurm job {record['job']}" if record.get("job") else ""
        known = f"process {record.get('pid')} on {record.get('host')}{job}"
        return known if record else "a copy whose lease cannot be read"

    def tell(self) -> None:
        """Say now and then who holds the lease, since when, and when it last beat."""
        now = time.monotonic()
        if self.told is not None and now - self.told < TELL:
            return
        self.told, record = now, self.record()
        since, last = (_clock(record.get(key)) for key in ("began", "heartbeat"))
        print(
            f"waits: {self.who()} is at work on this run ({record.get('stage')}) since {since} by "
            f"its clock, last heartbeat {last}, unchanged for {self.unchanged * self.pause:.0f} s",
            flush=True,
        )


def read(path: Path) -> bytes | None:
    """Return a lease's content, None where there is none.

    Raises:
        RunError: it is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # NFS: removed while we read it
            return None
        raise RunError(
            f"the lease {path} cannot be read ({error.strerror}); only one process may write a "
            "run's folder, so mend its rights, or remove it when nothing is running"
        ) from None


def _write(handle: int, record: Record) -> None:
    """Write a lease in place, always of the same length, and to the disk."""
    os.pwrite(handle, json.dumps(record).encode().ljust(SIZE - 1) + b"\n", 0)
    os.fsync(handle)


def _put(source: Path, path: Path, handle: int) -> tuple[bool, int]:
    """Give an open file a second name that must be free; return whether it was, and the handle.

    On a file system without hard links a new file takes the name, and its handle is returned.
    """
    try:
        os.link(source, path)
    except FileExistsError:  # NFS: or the answer to the first try was lost
        return os.fstat(handle).st_nlink == 2, handle
    except FileNotFoundError:
        raise
    except OSError:
        return _copy(path, handle)
    return True, handle


def _copy(path: Path, handle: int) -> tuple[bool, int]:
    """Write an open file's content to a new file; return whether there was none, and a handle."""
    try:
        new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False, handle
    os.pwrite(new, os.pread(handle, SIZE, 0), 0)
    os.fsync(new)
    os.close(handle)
    return True, new


def gone(record: Record) -> bool:
    """Say whether the holder was a process of this machine that is there no longer."""
    here = machine()
    if here is None or record.get("machine") != here or not isinstance(record.get("pid"), int):
        return False
    return process_start(record["pid"]) != record.get("process")


def machine() -> str | None:
    """Return what tells this boot of this machine, and what processes we see, from all others."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return None


def process_start(number: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None if it is gone or dead.

    Source: proc(5), stat: field 3 is the state (Z, X: dead, not yet taken leave of), 22 the start.
    """
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    return None


def _clock(seconds: object) -> str:
    """Return a Unix time as local time."""
    with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(seconds))))
    return "unknown"
