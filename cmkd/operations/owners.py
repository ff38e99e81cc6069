"""Which Snakemakes work in a folder, so that the lock of a killed one does not outlive it.

Snakemake locks what it makes and says nothing about who holds the lock: after a kill a person must
type `snakemake --unlock`. Here every Snakemake notes itself below `.snakemake/owners` before it
asks for the lock. The next one removes it if all the others that are noted ran on this machine and
are dead. Where one lives, or ran elsewhere and so cannot be looked at, the lock stays.
"""

import atexit
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cmkd.files import write_text
from cmkd.scoring import lease

OWNERS, LOCKS = Path(".snakemake/owners"), Path(".snakemake/locks")
FORGOTTEN = 86400.0  # seconds after which a note from elsewhere says nothing, without a lock


@dataclass(frozen=True)
class Owner:
    """A process that no other can be taken for: where it runs, its number and when it began."""

    host: str
    machine: str  # its boot and its space of process numbers: a container has one of its own
    pid: int
    process: int  # when it began, in ticks since the boot

    @property
    def note(self) -> Path:
        """The name of the file that notes this process."""
        return Path(f"{self.host}-{self.pid}-{self.process}.json")

    def here(self, other: "Owner") -> bool:
        """Tell whether this process and another have the same space of process numbers."""
        return (self.host, self.machine) == (other.host, other.machine)

    def lives(self) -> bool:
        """Tell whether this process, of this machine, is still there."""
        return lease.process_start(self.pid) == self.process


def me() -> Owner | None:
    """Return this process, or None on a system that does not show its processes."""
    machine, process = lease.machine(), lease.process_start(os.getpid())
    if machine is None or process is None:
        return None
    return Owner(socket.gethostname(), machine, os.getpid(), process)


def noted(folder: Path) -> dict[Path, Owner]:
    """Return the processes that are noted in a folder; unreadable notes count as elsewhere."""
    found = {}
    for path in sorted((folder / OWNERS).glob("*.json")):
        try:
            found[path] = Owner(**json.loads(path.read_text()))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            found[path] = Owner("another machine", "", 0, 0)
    return found


def enter(folder: Path, warn: Callable[[str], None] = print) -> None:
    """Note this process in a folder until it ends, and remove the lock that a dead one left."""
    own = me()
    if own is None:
        return
    path = folder / OWNERS / own.note
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(own)) + "\n")
    atexit.register(leave, path, own.pid)
    others = {where: other for where, other in noted(folder).items() if other != own}
    dead = [at for at, other in others.items() if own.here(other) and not other.lives()]
    elsewhere = [at for at, other in others.items() if not own.here(other)]
    if not any((folder / LOCKS).glob("*.lock")):
        forget(dead + [at for at in elsewhere if age(at) > FORGOTTEN])
    elif dead and len(dead) == len(others):
        _unlock(folder, dead, [others[at].pid for at in dead], warn)
    elif others:
        _say_who(others, dead, warn)


def age(path: Path) -> float:
    """Return how many seconds ago a file was written; 0 for one that is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def leave(path: Path, pid: int) -> None:
    """Remove the note of a process, by itself and not by a copy of it."""
    if os.getpid() == pid:
        path.unlink(missing_ok=True)


def forget(paths: list[Path]) -> None:
    """Remove notes."""
    for path in paths:
        path.unlink(missing_ok=True)


def _unlock(folder: Path, notes: list[Path], pids: list[int], warn: Callable[[str], None]) -> None:
    """Remove the lock of dead processes, and their notes last."""
    shutil.rmtree(folder / LOCKS, ignore_errors=True)
    forget(notes)
    names = ", ".join(map(str, pids))
    warn(
        f"The Snakemake that had locked this folder (process {names}) was killed: its lock is "
        "removed. Its Slurm jobs may still run: `squeue --me`."
    )


def _say_who(others: dict[Path, Owner], dead: list[Path], warn: Callable[[str], None]) -> None:
    """Say who may hold the lock, and what to type if that one is dead."""
    for path, other in others.items():
        if path not in dead:
            warn(
                f"A Snakemake may be at work in this folder: process {other.pid} on {other.host}."
                " If it is surely dead, `snakemake --unlock` removes its lock."
            )
