"""What Slurm's queue holds of a suite, where there is a Slurm; its trouble is a line, no error.

Snakemake's plugin (2.8) submits each job with the comment `rule_RULE_wildcards_A_B_C`, the
wildcards in the order of the rule's outputs, and with the folder it was started in as working
directory. The values hold underscores themselves, so comments are not taken apart: those of the
suite's jobs are put together and looked up. Two suites of one folder that have a run in common
(with different `results:`) cannot be told apart in the queue.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cmkd.operations.slurm import reader
from cmkd.plan.suites import Job, Suite

SECONDS = 5.0  # a controller that is away lets squeue wait for minutes
NO_SLURM = "no Slurm here (squeue is not on the PATH)"
MOST = 200  # jobs that sacct is asked about
FORMAT = "%i|%T|%r|%N|%k|%Z"
PENDING = frozenset(("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"))
Key = tuple[str, ...]  # ("run", dataset, run, fold, seed), ("prepare", dataset), ...


class Entry(NamedTuple):
    """A job in the queue: its number, Slurm's state, why it waits, its nodes, the rule."""

    number: str
    state: str
    reason: str
    nodes: str
    rule: str

    @property
    def pending(self) -> bool:
        """Tell whether it has not begun."""
        return self.state in PENDING


class Queue(NamedTuple):
    """The suite's jobs in the queue, and one line about the queue itself.

    `asked` says whether Slurm answered; only then does a job's absence mean anything.
    """

    asked: bool
    note: str
    jobs: Mapping[Key, Entry]

    def holds(self, number: str) -> Entry | None:
        """Return the job of a number."""
        return next((entry for entry in self.jobs.values() if entry.number == number), None)


def listing(suite: Suite) -> tuple[str | None, str]:
    """Return squeue's lines and "", or None and why there are none; nothing of ours is computed."""
    if shutil.which("squeue") is None:
        return None, NO_SLURM
    users = ",".join(map(str, sorted(_users(suite))))
    return ask(["squeue", "--noheader", f"--user={users}", f"--format={FORMAT}"])


def look(suite: Suite, said: tuple[str | None, str], folder: Path | None = None) -> Queue:
    """Return the suite's jobs in a listing that were submitted from a folder (default: here)."""
    text, trouble = said
    if text is None and trouble == NO_SLURM:
        return Queue(False, trouble, {})
    if text is None:
        return Queue(False, f"Slurm's queue is not known: {trouble}", {})
    here = os.path.realpath(folder or Path.cwd())
    jobs = parse(text, here, comments(suite)) if text.strip() else {}
    count = len({entry.number for entry in jobs.values()})
    return Queue(True, f"Slurm's queue holds {count} job(s) of this suite", jobs)


def parse(text: str, here: str, known: Mapping[str, Sequence[Key]]) -> dict[Key, Entry]:
    """Return the jobs in squeue's answer that were submitted from a folder, by what they make."""
    found: dict[Key, Entry] = {}
    for line in text.splitlines():
        parts = line.split("|", 5)
        if len(parts) != 6 or os.path.realpath(parts[5]) != here:
            continue
        number, state, reason, nodes, comment, _ = parts
        rule = comment.removeprefix("rule_").partition("_wildcards_")[0]
        entry = Entry(number, state, reason, nodes, rule)
        for key in known.get(comment, ()):
            if key not in found or not entry.pending:  # one at work says more than one that waits
                found[key] = entry
    return found


def comments(suite: Suite) -> dict[str, list[Key]]:
    """Return the comments of all jobs that the suite may have in the queue, and what they make.

    One comment may stand for several: `a@b_c` and `a_b@c` are joined alike.
    """
    found: dict[str, list[Key]] = {}

    def add(rule: str, words: Iterable[object], key: Key) -> None:
        found.setdefault(f"rule_{rule}_wildcards_{'_'.join(map(str, words))}", []).append(key)

    for job in suite.jobs():
        key = run_key(job)
        link, _, teacher = job.run.partition("@")
        names = (link, teacher) if teacher else (link,)
        add("distill" if teacher else "train", (job.dataset, *names, job.fold, job.seed), key)
        add("evaluate", job, key)
    for dataset in {job.dataset for job in suite.jobs()}:
        add("prepare", (dataset,), ("prepare", dataset))
        folds = {job.fold for job in suite.jobs() if job.dataset == dataset}
        for frontend in suite.frontends(dataset):
            for fold in folds:
                add("stats", (dataset, frontend, fold), ("stats", dataset, frontend, str(fold)))
    return found


def run_key(job: Job) -> Key:
    """Return what names a run in a queue."""
    return ("run", *map(str, job))


def endings(numbers: Iterable[str]) -> dict[str, str]:
    """Return how jobs ended by Slurm's accounting, such as OUT_OF_MEMORY, as far as it knows."""
    asked = sorted({number for number in numbers if number.replace("_", "").isdigit()})[:MOST]
    if not asked or shutil.which("sacct") is None:
        return {}
    options = ["--noheader", "--parsable2", "--allocations", "--format=JobID,State"]
    text, _ = ask(["sacct", *options, f"--jobs={','.join(asked)}"])
    rows = (line.split("|", 1) for line in (text or "").splitlines() if "|" in line)
    return {number: state for number, state in rows}


def ask(command: Sequence[str]) -> tuple[str | None, str]:
    """Return a program's answer and "", or None and one line that says why there is none."""
    answer = reader.ask(*command, seconds=SECONDS)
    if answer.code == 0:
        return answer.out, ""
    said = [line.strip() for line in answer.error.splitlines() if line.strip()]
    return None, (said[-1] if said else f"{command[0]} ended with {answer.code}")


def _users(suite: Suite) -> set[int]:
    """Return whose jobs may be the suite's: ours, and those of who owns the results."""
    users = {os.getuid()}
    with contextlib.suppress(OSError):
        users.add(suite.results.stat().st_uid)
    return users
