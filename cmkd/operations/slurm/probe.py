"""One small job in each partition of the profile: does a node see what the login node sees?"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmkd import __version__
from cmkd.operations import disks
from cmkd.operations.findings import Finding, ok, warning, wrong
from cmkd.operations.slurm import node, reader
from cmkd.operations.slurm.form import Form, Request

MINUTES = 5
MEGABYTES = 500
SLOW = 0.1  # seconds of a write, fsync and rename beyond which checkpoints cost time
SKEW = 2.0  # seconds between clocks beyond which files look newer or older than they are
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")


def check(form: Form, results: Path, wait: float, gpus: int = 1) -> Iterator[Finding]:
    """Submit a job to each partition, wait for it and yield what it found.

    Args:
        form: the profile.
        results: the results folder, which nodes must see.
        wait: seconds to wait for one job to start and end; it is cancelled after that.
        gpus: GPUs of one training.
    """
    results.mkdir(parents=True, exist_ok=True)
    for request in requests(form, gpus):
        folder = Path(tempfile.mkdtemp(dir=results, prefix=".doctor-"))
        try:
            yield from _probe(form, request, folder.absolute(), wait)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def requests(form: Form, gpus: int) -> list[Request]:
    """Return one small request for each partition, with a GPU where the profile asks for one."""
    found: dict[tuple[str, str, bool], Request] = {}
    for asked in form.requests(gpus):
        key = (asked.account, asked.partition, bool(asked.wanted_gpus))
        one = {"nodes": 1, "gpus": min(1, asked.gpus)}
        found.setdefault(
            key,
            replace(asked, cpus=1, memory=(MEGABYTES,), minutes=(MINUTES,), extra="", **one),
        )
    return list(found.values())


def _probe(form: Form, request: Request, folder: Path, wait: float) -> Iterator[Finding]:
    """Submit one job and say what it found, or why it did not."""
    where = f"a job in '{request.partition or 'the default partition'}'"
    where += " with a GPU" if request.wanted_gpus else ""
    answer = submit(request, folder)
    job = answer.out.strip().split(";")[0]
    if answer.code or not job.isdecimal():
        text = f"{where} was refused: {' '.join(answer.error.split())}"
        yield wrong("probe", text, f"{form.path}: the resources of {request.rule}")
        return
    print(f"waiting for job {job}, {where}, for up to {wait:.0f} s", file=sys.stderr, flush=True)
    sent, found, seen = _converse(folder, job, wait)
    if found is None:
        yield _silent(job, where, folder)
        reader.ask("scancel", job)
        return
    yield from _report(form, request, where, found, (sent, seen))
    yield from latency(found["latency"], "there")


def submit(request: Request, folder: Path) -> reader.Answer:
    """Submit a probe as the plugin submits jobs: from this folder, with this Python."""
    script = (
        f"#!/bin/sh\necho here > '{folder}/alive' || exit 9\n"
        f"exec '{sys.executable}' -m cmkd.operations.slurm.node '{folder}'\n"
    )
    command = ["sbatch", "--parsable", "--export=ALL", "--job-name", "cmkd-doctor"]
    command += ["--output", f"{folder}/slurm.out", "--no-requeue", *request.options()]
    return reader.ask(*command, "-D", str(Path.cwd()), text=script)


def _converse(folder: Path, job: str, wait: float) -> tuple[float, dict[str, Any] | None, float]:
    """Wait for the node, send it our clock, and return its answer between our two times."""
    sent = 0.0
    end = time.monotonic() + wait
    asked = time.monotonic()
    while time.monotonic() < end:
        if not sent and node.get(folder / "ready.json") is not None:
            sent = time.time()
            node.put(folder / "ping.json", {"time": sent})
        found = node.get(folder / "found.json")
        if found is not None:
            return sent, found, time.time()
        if time.monotonic() - asked > 5:
            asked = time.monotonic()
            if state(job) in OVER and node.get(folder / "found.json") is None:
                break
        time.sleep(0.02)
    return sent, None, 0.0


def state(job: str) -> str:
    """Return a job's state, or "" where the controller has forgotten it."""
    record = reader.parse_records(reader.ask("scontrol", "-o", "show", "job", job).out)
    return record[0].get("JobState", "") if record else ""


def _silent(job: str, where: str, folder: Path) -> Finding:
    """Say why a job did not answer."""
    now = state(job)
    if now == "PENDING":
        reason = reader.ask("squeue", "-h", "-j", job, "-o", "%r").out.strip()
        text = f"{where} waits in the queue ({reason}); what needs a node was not looked at"
        return warning("probe", text, "try again later, or with a longer --wait")
    said = folder / "slurm.out"
    if said.is_file() and said.read_text(errors="replace").strip():
        tail = " ".join(said.read_text(errors="replace").split()[-40:])
        cure = "the same Python and checkout must be there on compute nodes, at the same paths"
        return wrong("probe", f"{where} ended {now}: {tail}", cure)
    text = f"{where} ended {now or 'unseen'} and wrote nothing to {folder.parent}"
    cure = "`results:` must be on a file system that compute nodes share, at the same path"
    return wrong("shared file system", text, cure)


def _report(
    form: Form, request: Request, where: str, found: dict[str, Any], ours: tuple[float, float]
) -> Iterator[Finding]:
    """Say what a node found."""
    host = found["node"] or found["host"]
    yield ok("shared file system", f"{where} on {host} wrote to the results folder and read there")
    yield from _program(found)
    yield from _clock(form, found, ours)
    if found["srun"]:
        cure = "a site that relies on SLURM_CONF: put a file named srun first on the PATH, with"
        cure += ' `SLURM_CONF=FILE exec /usr/bin/srun "$@"`; or ask for /etc/slurm/slurm.conf'
        text = f"srun fails inside a job, as Snakemake calls it: {' '.join(found['srun'].split())}"
        yield wrong("srun", text, cure)
    else:
        yield ok("srun", "works inside a job, as Snakemake calls it")
    if found["squeue"]:
        text = f"squeue fails inside a job: {' '.join(found['squeue'].split())}"
        cure = "trainings stop in time by --signal alone; mend it as srun above"
        yield warning("walltime", text, cure)
    if request.wanted_gpus and not found["gpus"]:
        text = f"{where} got no CUDA_VISIBLE_DEVICES"
        yield wrong("GPUs", text, "ask your site: the GPUs must be in gres.conf")
    elif request.wanted_gpus:
        yield ok("GPUs", f"CUDA_VISIBLE_DEVICES={found['gpus']} on {host}")


def _program(found: dict[str, Any]) -> Iterator[Finding]:
    """Say whether the node runs the very program of the login node."""
    if found["cmkd"] != __version__ or found["python"] != sys.executable:
        text = f"the node runs cmkd {found['cmkd']} by {found['python']}, this is {__version__}"
        yield wrong("program", f"{text} by {sys.executable}", "install it where both see it")
    elif not found["snakemake"]:
        yield wrong("program", "Snakemake is not there on the node", "pip install -e . again")
    else:
        command = "" if found["command"] else " (cmkd is not on its PATH: Snakemake adds it)"
        yield ok("program", f"the same Python and cmkd are there on the node{command}")


def _clock(form: Form, found: dict[str, Any], ours: tuple[float, float]) -> Iterator[Finding]:
    """Say how far the clocks are apart, and how long a file takes to be seen.

    As NTP does: half the difference of the two ways, known to half the time of both.
    """
    sent, seen = ours
    there = ((found["seen"] - sent) + (found["written"] - seen)) / 2
    both = (seen - sent) - (found["written"] - found["seen"])
    text = f"the node's clock is {there:+.3f} s from this one's (known to {both / 2:.3f} s)"
    if abs(there) - both / 2 > SKEW:
        yield wrong("clocks", text, "ask your site for NTP: times decide what is made anew")
    else:
        yield ok("clocks", text)
    yield from _visibility(form, both)


def _visibility(form: Form, seconds: float) -> Iterator[Finding]:
    """Say how long a file took to be seen, there and back."""
    patience = form.values.get("latency-wait") or 5
    text = f"a file written there and one written here were seen after {seconds:.2f} s in all"
    if seconds > patience:
        cure = f"{form.path}: latency-wait: {round(2 * seconds) + 1}"
        yield wrong("shared file system", text, cure)
    else:
        yield ok("shared file system", f"{text}; latency-wait is {patience}")


def latency(seconds: float, where: str) -> Iterator[Finding]:
    """Say how long a safe write takes."""
    text = f"write, fsync and rename take {seconds * 1000:.1f} ms {where}"
    if seconds > SLOW:
        yield warning("file system", text, "a longer `execution: checkpoint_seconds`")
    else:
        yield ok("file system", text)


def here(results: Path) -> Iterator[Finding]:
    """Say how the results folder behaves on this machine."""
    results.mkdir(parents=True, exist_ok=True)
    yield from latency(disks.latency(results), "here")
    ahead = disks.clock_ahead(results)
    text = f"the file system's clock is {ahead:+.3f} s from this machine's"
    yield (
        warning("clocks", text, "ask your site for NTP")
        if abs(ahead) > SKEW
        else ok("clocks", text)
    )
