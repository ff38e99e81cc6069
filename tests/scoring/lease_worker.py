"""Take a run's lease over and over; a witness tells whether there was ever another holder.

Arguments: the run's folder, the witness's folder, seconds of silence that are death, seconds of
work under each lease, the number of takes, a seed. Work is done in small pieces, each after a check
of the lease, as training writes. The witness knows nothing of leases: each piece appends its token
to one file under fcntl.flock, first and last; a token that comes between is a second writer.
"""

import fcntl
import os
import random
import sys
import time
from pathlib import Path

from cmkd.errors import LeaseLost
from cmkd.scoring import lease


def note(log: Path, word: str) -> None:
    """Append a line to the witness's file."""
    with open(log, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{word}\n".encode())
        file.flush()


def main() -> None:
    """Take, work, give; being told that the lease is lost is a good end of a take."""
    run, log = Path(sys.argv[1]), Path(sys.argv[2])
    silence, work, takes, seed = map(float, sys.argv[3:])
    chance = random.Random(seed)
    for _ in range(int(takes)):
        try:
            with lease.held(run, "train", silence) as own:
                note(log, f"take {own.token}")
                until = time.monotonic() + chance.uniform(0, work)
                while time.monotonic() < until:
                    time.sleep(0.002)
                    own.check()
                    note(log, f"write {own.token}")
                own.check()
                note(log, f"give {own.token}")
        except LeaseLost:
            note(log, f"lost {os.getpid()}")
        time.sleep(chance.uniform(0, work / 4))


if __name__ == "__main__":
    main()
