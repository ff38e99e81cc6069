"""One training in several processes: torchrun within this job, and what it has to say at the end.

The launcher is torch's own elastic agent, without restarts: it starts the very same verb once for
each GPU, and ends all processes when one has ended badly. What each of them wants to say is left in
a folder, so that the user reads one sentence, and the verb's exit code is that of its processes.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from cmkd import files
from cmkd.errors import CmkdError, InputError, ProcessLost, Stopped, TrainingError
from cmkd.learning import nodes
from cmkd.learning.parallel import STOP, Parted
from cmkd.scoring import failures

REPLIES = "CMKD_REPLIES"
# The agent would end all processes 30 s after SIGTERM, saved or not: we ask them to stop instead.
AGENTS_SIGNALS = "SIGINT,SIGHUP,SIGQUIT"
SAID = {error.__name__: error for error in (Stopped, TrainingError)}


def launch(arguments: Sequence[str], processes: int, run: Path) -> None:
    """Run `cmkd ARGUMENTS`, which trains `run`, in so many processes and end as they do.

    They run on this machine, or in even shares on all nodes of this Slurm job.

    Raises:
        Stopped: they stopped in time, with their state saved.
        InputError, TrainingError: what one of them found wrong, in its sentence.
        ProcessLost: one was killed, or ended without a word; the others were ended.
        SystemExit: a bug in one of them, whose traceback is printed.
    """
    many = nodes.count()
    with _folder(run, many) as folder:
        with _environment(folder, many), asking_to_stop(folder / "stop"):
            if many > 1:
                codes = nodes.start(arguments, processes, many, folder)
            else:
                codes = _start_here(arguments, processes)
        replies = _replies(folder)
    for cause in [reply for reply in replies if not reply["parted"]][:1]:
        _correct(run, cause["failure"])
    try:
        judge(codes, replies, processes)
    except ProcessLost as error:
        _correct(run, {"exception": type(error).__name__, "message": str(error)})
        raise


@contextlib.contextmanager
def _folder(run: Path, many: int) -> Iterator[Path]:
    """Give a folder for replies: of this machine, or one in the run that all its nodes see."""
    place = Path(run) / "state" if many > 1 else None
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="processes-", dir=place) as name:
        yield Path(name).absolute()


@contextlib.contextmanager
def _environment(folder: Path, many: int) -> Iterator[None]:
    """Tell the processes where to reply, and keep the talk of one machine on it."""
    given = {REPLIES: str(folder), STOP: str(folder / "stop")}
    if many == 1 and Path("/sys/class/net/lo").exists():
        given["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    before = {key: os.environ.get(key) for key in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key)
            os.environ.update({} if value is None else {key: value})


@contextlib.contextmanager
def asking_to_stop(path: Path) -> Iterator[None]:
    """Turn SIGTERM into a file that the first process looks for at each step."""

    def ask(number: int, frame: FrameType | None) -> None:
        path.touch()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start_here(arguments: Sequence[str], processes: int) -> dict[int, int]:
    """Run the processes on this machine and return the exit codes of those that failed."""
    return run_agent(
        arguments,
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
    )


def run_agent(arguments: Sequence[str], **given: Any) -> dict[int, int]:
    """Run this machine's processes to their end; return the exit codes of the failed, by rank.

    `given` are torch's options of a LaunchConfig that say where the processes meet.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        **given,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.environ[REPLIES]),
        signals_to_handle=AGENTS_SIGNALS,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "cmkd.cli", *arguments)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:
        raise KeyboardInterrupt from None
    return {}


@contextlib.contextmanager
def replying() -> Iterator[None]:
    """Within one of the processes: leave what went wrong as a reply, and end with its exit code.

    Only the first process prints what all of them do. Without a launcher of ours (torchrun called
    by hand) nothing is done.
    """
    rank = int(os.environ["RANK"])
    folder = os.environ.get(REPLIES)
    if rank:
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if folder is None:
        yield
        return
    try:
        yield
    except Exception as error:
        code = error.exit_code if isinstance(error, CmkdError) else 1
        path = Path(folder) / f"rank-{rank}.json"
        files.write_json(path, _reply(error, rank, code))
        raise SystemExit(code) from None


def _reply(error: Exception, rank: int, code: int) -> dict[str, Any]:
    """Return what a process leaves of its error; `parted` says that it only lost the others."""
    return {
        "rank": rank,
        "code": code,
        "kind": type(error).__name__,
        "failure": {
            "kind": failures.kind(error),
            "retry": failures.kind(error) in failures.HOPEFUL,
            "exception": type(error).__name__,
            "message": str(error),
        },
        "message": str(error),
        "trace": traceback.format_exc(),
        "parted": isinstance(error, Parted),
        "time": time.time(),
    }


def _replies(folder: Path) -> list[dict[str, Any]]:
    """Return all replies, first to last."""
    found = [files.read_json(path) for path in folder.glob("rank-*.json")]
    return sorted(found, key=lambda reply: float(reply["time"]))


def _correct(run: Path, told: dict[str, Any]) -> None:
    """Put the cause into RUN/state/failure.json, where the first process only lost the others."""
    path = Path(run) / "state" / failures.NAME
    if path.exists() and failures.read(path).get("exception") == Parted.__name__:
        files.write_json(path, failures.read(path) | told)


def judge(codes: Mapping[int, int], replies: Sequence[Mapping[str, Any]], processes: int) -> None:
    """Raise what the end of the processes amounts to; nothing where all of them ended well.

    A process that merely found the others gone is never the cause. See `launch` for what is raised.
    """
    if not codes:
        return
    for reply in replies:
        if not reply["parted"]:
            _raise(reply)
    answered = {reply["rank"] for reply in replies}
    silent = {rank: code for rank, code in codes.items() if rank not in answered} or codes
    ends = ", ".join(f"{rank} ({_end(code)})" for rank, code in sorted(silent.items()))
    error = ProcessLost(
        f"of the {processes} processes of this training, counted from 0, process {ends} ended "
        "without a word and the others were ended; run the same command again to go on from the "
        "last checkpoint (killed for memory? then ask for more, or for fewer processes)"
    )
    first = next(iter(silent.values()))
    error.exit_code = 128 - first if first < 0 else first
    raise error


def _raise(reply: Mapping[str, Any]) -> None:
    """Raise a process's error again, or print its traceback and end as it did."""
    if reply["kind"] in SAID:
        raise SAID[reply["kind"]](reply["message"])
    if reply["code"] != 1:
        error = InputError(reply["message"])
        error.exit_code = reply["code"]
        raise error
    print(f"process {reply['rank']}:\n{reply['trace']}", end="", file=sys.stderr)
    raise SystemExit(1)


def _end(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"signal {-code}"
