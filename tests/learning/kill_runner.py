"""Train and evaluate in forked processes, some of which are cut after some CPU seconds.

Called with one JSON argument: {"train": arguments of train, "runs": {folder: [[how, fraction]]}}.
The first folder is trained whole and its CPU time is the unit of the fractions of the others, so
that a busy machine cuts at the same place. How: `kill` (SIGKILL), `term` (SIGTERM) or `wall` (the
walltime, in seconds); with `evaluate-` before it, counted from the beginning of the evaluation.
Prints {folder: [how each attempt that was cut ended]}: a signal's number below 0, or an exit code.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from cmkd.errors import CmkdError
from cmkd.learning import walltime
from cmkd.learning.train import train
from cmkd.scoring.evaluate import evaluate

TICKS = os.sysconf("SC_CLK_TCK")
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}


def work(arguments: dict, run: Path) -> None:
    """Do one job from its beginning, or go on with it."""
    paths = ("wanted", "prepared", "statistics", "teacher")
    given = {key: Path(value) if value and key in paths else value
             for key, value in arguments.items()}  # fmt: skip
    train(**given, run=run, initial=None)
    evaluate(run, given["prepared"], given["execution"])


def cpu_seconds(child: int) -> float:
    """Return the CPU seconds of a process (proc(5): fields 14 and 15 of its stat)."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def attempt(arguments: dict, run: Path, how: str = "", seconds: float = 0.0) -> tuple[int, float]:
    """Fork, work, perhaps cut; return how it ended and its CPU seconds."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if how == "wall":
            walltime.seconds_left = lambda *_: seconds
        try:
            work(arguments, run)
        except CmkdError as error:
            os._exit(error.exit_code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    stage, _, name = how.rpartition("-")
    if name in SIGNALS:
        if stage:
            wait_for_evaluation(child, run)
            seconds += cpu_seconds(child)
        signal_after(child, SIGNALS[name], seconds)
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 75, -signal.SIGKILL, -signal.SIGTERM):
        raise SystemExit(f"the training itself failed with {code}")
    return code, usage.ru_utime + usage.ru_stime


def ended(child: int) -> bool:
    """Say whether a child has ended, and leave it to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait_for_evaluation(child: int, run: Path) -> None:
    """Wait until the lease says that a child evaluates."""
    while not ended(child):
        with contextlib.suppress(OSError):
            lease = (run / "state" / "lease.json").read_text()
            if f'"pid": {child},' in lease and '"evaluate"' in lease:
                return
        time.sleep(0.001)


def signal_after(child: int, number: int, seconds: float) -> None:
    """Send a child a signal when it has used so many CPU seconds, if it lives so long."""
    while cpu_seconds(child) < seconds:
        if ended(child):
            return
        time.sleep(0.002)
    os.kill(child, number)


def main() -> None:
    """Train the first folder whole, the others with cuts."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    (whole, _), *others = order["runs"].items()
    code, unit = attempt(order["train"], Path(whole))
    ends: dict[str, list[int]] = {whole: [code]}
    for folder, cuts in others:
        ends[folder] = [
            attempt(order["train"], Path(folder), how, unit * part)[0] for how, part in cuts
        ]
        ends[folder].append(attempt(order["train"], Path(folder))[0])
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
