"""The verb `probe`: every done run of a suite is asked what it has learned, then it is drawn."""

from collections.abc import Sequence
from pathlib import Path

from cmkd import files
from cmkd.errors import ConfigError, RunError, nearest
from cmkd.operations import devices
from cmkd.plan.suites import Job, Suite
from cmkd.probing import FORMAT
from cmkd.progress import progress
from cmkd.reports import probes, runs
from cmkd.reports.probes import place


def run(suite: Suite, only: Sequence[str], count: int) -> list[Path]:
    """Probe the suite's done runs, write tables and figures and return their paths.

    Args:
        suite: the suite.
        only: names of runs, or none for all.
        count: test clips used for each run.

    A probe that is there and is of these weights and this many clips stays as it is. Raises
    ConfigError for a run that the suite lacks, RunError where no run is done.
    """
    known = list(dict.fromkeys(job.run for job in suite.jobs()))
    for name in only:
        if name not in known:
            raise ConfigError(
                f"--run {name}: the suite '{suite.name}' has none{nearest(name, known)}"
            )
    done = [
        job
        for job, state in runs.collect(suite).items()
        if state.done and (not only or job.run in only)
    ]
    if not done:
        raise RunError(f"no run of the suite '{suite.name}' is done: run it before probing it")
    due = [job for job in done if not _current(suite, job, count)]
    with devices.claimed(suite.execution, 1 if due else 0):
        for job in progress(due, len(due), "probes"):
            _probe(suite, job, count)
    return probes.write(suite)


def _current(suite: Suite, job: Job, count: int) -> bool:
    """Tell whether a run's probe is there and is of its weights and as many clips."""
    found = runs.read(place(suite, job))
    weights = runs.sha256(suite.folder(job) / "weights.safetensors")
    if found is None or found.get("format") != FORMAT:
        return False
    return found.get("weights") == weights and found.get("asked") == count


def _probe(suite: Suite, job: Job, count: int) -> None:
    """Probe one run and write its file."""
    from cmkd.probing import probe
    from cmkd.scoring.predict import choose_device

    teacher = suite.teacher_of(job)
    subject = probe.subject(
        suite.folder(job),
        suite.prepared_folder(job.dataset),
        suite.statistics(job),
        suite.folder(teacher) if teacher else None,
        count,
        choose_device(suite.execution),
    )
    found = probe.probe(subject) | {"asked": count, "fold": job.fold, "seed": job.seed}
    files.write_json(place(suite, job), found)
