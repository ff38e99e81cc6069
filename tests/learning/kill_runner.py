"""Train and evaluate in forked processes, some of them killed by SIGKILL after some CPU seconds.

Called with one JSON argument: {"train": arguments of train, "runs": {folder: [fractions]}}. The
first folder is trained whole and its CPU time is the unit of the fractions of the others. Moments
count CPU time, so that a busy machine kills at the same place. Prints {folder: kills}.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from cmkd.learning.train import train
from cmkd.scoring.evaluate import evaluate

TICKS = os.sysconf("SC_CLK_TCK")


def work(arguments: dict, run: Path) -> None:
    """Do one job from its beginning, or go on with it."""
    paths = ("wanted", "prepared", "statistics", "teacher")
    given = {key: Path(value) if key in paths else value for key, value in arguments.items()}
    train(**given, run=run, initial=None)
    evaluate(run, given["prepared"], given["execution"])


def cpu_seconds(child: int) -> float:
    """Return the CPU seconds of a process (proc(5): fields 14 and 15 of its stat)."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def attempt(arguments: dict, run: Path, seconds: float | None) -> tuple[bool, float]:
    """Fork, work, perhaps kill; return whether it was killed and its CPU seconds."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work(arguments, run)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    killed = seconds is not None and kill_after(child, seconds)
    _, status, usage = os.wait4(child, 0)
    if not killed and status:
        raise SystemExit(f"the training itself failed with status {status}")
    return killed and os.WIFSIGNALED(status), usage.ru_utime + usage.ru_stime


def kill_after(child: int, seconds: float) -> bool:
    """Kill a child when it has used so many CPU seconds; say whether it lived so long."""
    while cpu_seconds(child) < seconds:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return True


def main() -> None:
    """Train the first folder whole, the others with kills."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    (whole, _), *others = order["runs"].items()
    _, unit = attempt(order["train"], Path(whole), None)
    kills = {}
    for folder, fractions in others:
        killed = [attempt(order["train"], Path(folder), unit * part)[0] for part in fractions]
        attempt(order["train"], Path(folder), None)
        kills[folder] = sum(killed)
    print(json.dumps(kills))


if __name__ == "__main__":
    main()
