"""The walltime of a Slurm job: training stops itself while there is still time to save.

How much time is left is asked once, at the start; how long a step and a save take is measured.
"""

import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping

ASKING = 20.0  # seconds in which squeue must answer
LEAST = 60.0  # seconds before the end at which training stops at the latest ...
SHARE = 0.1  # ... or this share of what was left at the start, for very short jobs
STEPS, SAVES = 3, 2  # longest steps and last saves that must still have room
RECENT = 100  # steps among which the longest counts: a hiccup is forgotten after so many
UNLIMITED = ("UNLIMITED", "NOT_SET")
OVER = "INVALID"  # squeue: the limit has passed, and the site grants more
LEFT = re.compile(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)")

Environment = Mapping[str, str]


class Walltime:
    """When to stop. `left`: seconds until the end of the job, None where there is none."""

    def __init__(self, left: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self.now = now
        self.least = 0.0 if left is None else min(LEAST, SHARE * left)
        self.end = None if left is None else now() + left
        self.steps: deque[float] = deque(maxlen=RECENT)
        self.save = 0.0
        self.last: float | None = None
        self.told = False

    def up(self) -> bool:
        """Say, at a step boundary, whether to stop here; the time since the last one is a step."""
        now = self.now()
        if self.last is not None:
            self.steps.append(now - self.last)
        self.last = now
        return self.over()

    def over(self) -> bool:
        """Say whether to stop now, without counting a step."""
        if self.end is None or self.now() < self.end - self.margin():
            return False
        if not self.told:
            self.told = True
            left, margin = max(0.0, self.end - self.now()), self.margin()
            print(f"walltime: {left:.0f} s are left, {margin:.0f} s are kept", flush=True)
        return True

    def margin(self) -> float:
        """Return how many seconds before the end to stop."""
        return max(self.least, STEPS * max(self.steps, default=0.0) + SAVES * self.save)

    def saved(self, seconds: float) -> None:
        """Note how long a save took; it is no part of a step."""
        self.save = seconds
        if self.last is not None:
            self.last += seconds


def of_this_job(environment: Environment = os.environ) -> Walltime:
    """Return the walltime of the Slurm job that this process runs in, and print what it is."""
    left = seconds_left(environment)
    if left is not None:
        print(f"walltime: {left / 60:.0f} min are left; training stops itself before", flush=True)
    return Walltime(left)


def seconds_left(environment: Environment = os.environ) -> float | None:
    """Return the seconds left of this process's Slurm job; None without a job or a limit.

    Where Slurm does not answer, that is printed and nothing is known: SIGTERM is then all there is.
    Source: newer Slurm gives SLURM_JOB_END_TIME (Unix time); others are asked for squeue's %L.
    """
    job, end = environment.get("SLURM_JOB_ID"), environment.get("SLURM_JOB_END_TIME", "")
    if not job:
        return None
    if end.isdecimal():
        return int(end) - time.time()
    command = ["squeue", "-h", "-j", job, "-o", "%L"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ASKING, env=dict(environment)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _unknown(job, str(error))
    if done.returncode:
        return _unknown(job, done.stderr)
    return parse(done.stdout.strip(), job)


def parse(text: str, job: str = "") -> float | None:
    """Return the seconds in squeue's "days-hours:minutes:seconds", None without a limit."""
    if text in UNLIMITED:
        return None
    if text == OVER:
        return 0.0
    found = LEFT.fullmatch(text)
    if not found:
        return _unknown(job, f"squeue answers {text!r}")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _unknown(job: str, why: str) -> None:
    """Say that the walltime is not known."""
    line = " ".join(why.split()) or "no answer"
    print(
        f"walltime: Slurm does not say how long job {job} may run ({line}); training stops in time "
        "only at SIGTERM",
        flush=True,
    )
