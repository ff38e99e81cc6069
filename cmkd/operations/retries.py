"""Within one call of Snakemake, what cannot succeed is not tried again.

A profile's `retries` hold for every failure. Snakemake asks a failed job's property `restart_times`
in its main process, and only then; `begin` has it answer 0 where the job's own record says that the
same command must fail again, in this very call. Run again after the cause was mended, or for
another try, the same command begins anew.

Written for Snakemake 9.27 (`Job.restart_times`, `JobScheduler._handle_error`); without that
property nothing is changed, and that is said once.
"""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmkd.scoring import failures

Say = Callable[[str], None]


def begin(say: Say, environment: Any = os.environ) -> bool:
    """Name this call of Snakemake for all its jobs, and teach Snakemake; say whether it learned.

    `say` shows a user why a job is not tried again.
    """
    environment.setdefault(failures.INVOCATION, uuid.uuid4().hex)
    from snakemake.jobs import Job

    return teach(Job, environment[failures.INVOCATION], say)


def teach(kind: Any, invocation: str, say: Say) -> bool:
    """Put a question of ours before a class's property `restart_times`; once is enough."""
    known = vars(kind).get("restart_times")
    if not isinstance(known, property) or known.fget is None:
        say("This Snakemake has no Job.restart_times: what cannot succeed is tried again, too.")
        return False
    asked = getattr(known.fget, "before", known.fget)

    def restart_times(job: Any) -> int:
        times: int = asked(job)
        cause = hopeless(job, invocation) if times else None
        if cause is None:
            return times
        say(f"{job.name} is not tried again, it would fail again: {cause}")
        return 0

    restart_times.before = asked  # type: ignore[attr-defined]
    kind.restart_times = property(restart_times)
    return True


def hopeless(job: Any, invocation: str) -> str | None:
    """Return why a job cannot succeed in this call of Snakemake, None where it may."""
    with contextlib.suppress(Exception):  # whatever is odd here must not end the whole workflow
        for path in records(str(job.output[0])):
            record = failures.read(path)
            if record.get("retry") is False and record.get("invocation") == invocation:
                return f"{record.get('kind')}: {record.get('message')}"
    return None


def records(output: str) -> tuple[Path, Path]:
    """Return where a job's record lies, by its first output: in its run's folder, or beside it."""
    return Path(output).parent / "state" / failures.NAME, failures.beside(Path(output))
