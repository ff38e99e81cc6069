"""Where the plugin and the cluster do not get along: what would hang or fail in the night.

All were seen with snakemake-executor-plugin-slurm 2.8.0 on a real Slurm; numbers in parentheses are
its issues on GitHub.
"""

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import yaml

from cmkd.files import checkout
from cmkd.operations.findings import Finding, ok, warning, wrong
from cmkd.operations.slurm import reader
from cmkd.operations.slurm.form import Form, unknown_names
from cmkd.operations.slurm.reader import Partition, Site
from cmkd.operations.slurm.site import grouped
from cmkd.operations.slurm_states import MENDED
from cmkd.operations.slurm_states import PACKAGE as PLUGIN

# Longest pause of the plugin between two looks at its jobs, and what its look may take, seconds.
PAUSE, MARGIN = 180, 15
FIRST_LOOK = 40  # its default of slurm-init-seconds-before-status-checks
ATTEMPTS = 100  # of asking after jobs; fewer do not outlast a database that is restarted
SNAKEMAKE_MB = 800  # two Snakemakes around a job, and some room


def check(form: Form, site: Site) -> Iterator[Finding]:
    """Yield the traps that this profile meets on this cluster."""
    yield from accounting(form, site)
    yield from preemption(form, site)
    yield from nodes_lost(form, site)


def check_form(form: Form) -> Iterator[Finding]:
    """Yield the traps of the profile alone."""
    yield from _version()
    yield from _shape(form)
    yield from _resources(form)
    yield from _signals(form)
    yield from _options(form)
    yield from _rules_retry()


def mended() -> bool:
    """Tell whether the workflow mends what this version of the plugin makes of ended jobs."""
    return _installed() in MENDED


def accounting(form: Form, site: Site) -> Iterator[Finding]:
    """Say how finished jobs are noticed, and whether they would be."""
    command = form.values.get("slurm-status-command") or "sacct"
    if site.accounting == "silent":
        text = "Slurm keeps accounts, but sacct does not answer now: Snakemake waits until it does"
        yield warning("accounting", text, "try `sacct` by hand, ask your site")
    elif site.accounting == "none" and command == "sacct" and not mended():
        text = "Slurm keeps no accounts: Snakemake would wait for ever for its first job"
        yield wrong("accounting", text, f"{form.path}: slurm-status-command: squeue")
    elif command == "squeue" or site.accounting == "none":
        yield from _by_squeue(form, site)
    else:
        yield ok("accounting", "sacct answers: finished jobs are noticed by it")


def _by_squeue(form: Form, site: Site) -> Iterator[Finding]:
    """Say whether squeue remembers finished jobs for long enough."""
    age = site.seconds("MinJobAge") or 0
    first = form.values.get("slurm-init-seconds-before-status-checks") or FIRST_LOOK
    text = f"squeue remembers finished jobs for {age} s, Snakemake looks at least every {PAUSE} s"
    if age >= max(PAUSE + MARGIN, 3 * first):
        yield ok("accounting", text)
    elif mended():
        yield ok("accounting", f"{text}; jobs it does not see any more are judged by their files")
    elif site.accounting == "answers":
        text += ": those it misses it waits for, for ever"
        yield wrong("accounting", text, f"{form.path}: slurm-status-command: sacct")
    elif age >= PAUSE + MARGIN:
        key = "slurm-init-seconds-before-status-checks"
        text = (
            f"{text}, but turns to sacct, which has no accounts, as three times {first} s is more"
        )
        yield wrong("accounting", text, f"{form.path}: {key}: {age // 3}")
    else:
        text += ": those it misses it waits for, for ever"
        yield wrong("accounting", text, "ask your site for MinJobAge=300, Slurm's default")


def preemption(form: Form, site: Site) -> Iterator[Finding]:
    """Say what becomes of jobs that must make room for others."""
    names = dict.fromkeys(request.partition for request in form.requests())
    found = dict.fromkeys(site.partition(name) for name in names)
    for partition in found:
        if partition is not None:
            yield from _preempted(form, site, partition)


def _preempted(form: Form, site: Site, partition: Partition) -> Iterator[Finding]:
    """Say what becomes of preempted jobs in a partition."""
    if not can_be_preempted(site, partition):
        yield ok("preemption", f"jobs in '{partition.name}' are not preempted")
        return
    mode = partition.preempt.split(",")[0]
    text = f"jobs in '{partition.name}' can be preempted ({mode}"
    text += f", {partition.grace} s to end)" if partition.grace else ")"
    if mode in ("SUSPEND", "GANG", "WITHIN"):
        yield ok("preemption", f"{text} and go on later")
    elif partition.grace:
        yield ok("preemption", f"{text}: they save and are submitted anew")
    elif mode == "REQUEUE" and not form.values.get("slurm-no-requeue"):
        yield ok("preemption", f"{text} and Slurm puts them back into the queue")
    elif mended():
        retries = form.values.get("retries") or 0
        yield ok("preemption", f"{text}; they are submitted anew, {retries} time(s) by `retries`")
    else:
        text += " and stay so: the plugin waits for them for ever"
        cure = f"{form.path}: slurm_partition: one without preemption; or {PLUGIN} {MENDED[0]}"
        yield wrong("preemption", text, cure)


def can_be_preempted(site: Site, partition: Partition) -> bool:
    """Tell whether jobs of a partition may have to make room for others."""
    kind = site.config.get("PreemptType", "none")
    if "none" in kind or partition.preempt in ("OFF", "(null)", ""):
        return False
    if "qos" in kind:
        return bool(site.preempting) or site.accounting != "answers"
    mine = {node.name for node in site.nodes if partition.name in node.partitions}
    above = [other for other in site.partitions if other.tier > partition.tier]
    return any(
        node.name in mine for other in above for node in site.nodes if other.name in node.partitions
    )


def nodes_lost(form: Form, site: Site) -> Iterator[Finding]:
    """Say what becomes of jobs whose node is lost."""
    after = site.seconds("SlurmdTimeout")
    if form.values.get("slurm-requeue"):
        text = "slurm-requeue: after a lost node every later submission fails (#485)"
        yield wrong("lost nodes", text, f"{form.path}: slurm-no-requeue: true in its place")
    elif site.config.get("JobRequeue") == "1" and not form.values.get("slurm-no-requeue"):
        text = "Slurm would run the job again beside Snakemake's own retry, and every later"
        text += " submission fails (#485)"
        yield wrong("lost nodes", text, f"{form.path}: slurm-no-requeue: true")
    else:
        text = f"noticed after {after} s; the job is submitted anew to another node"
        yield ok("lost nodes", text)


def environment() -> Iterator[Finding]:
    """Say whether Snakemake would be started inside a job."""
    if "SLURM_JOB_ID" in os.environ:
        text = "you are inside a Slurm job: Snakemake belongs on the login node"
        yield warning("environment", text, "leave the job")


def by_variable() -> Iterator[Finding]:
    """Say whether Slurm is found by SLURM_CONF alone, which is taken from every job's srun."""
    if "SLURM_CONF" not in os.environ:
        return
    if reader.ask("env", "-u", "SLURM_CONF", "sinfo", "-h").code:
        text = (
            "Slurm is found by SLURM_CONF alone, which is taken from every job: its srun may fail"
        )
        cure = "leave --no-job out: a job tries srun as Snakemake calls it"
        yield warning("srun", text, cure)


def _installed() -> str:
    """Return the plugin's version, or "" where it is missing."""
    try:
        return metadata.version(PLUGIN)
    except metadata.PackageNotFoundError:
        return ""


def _version() -> Iterator[Finding]:
    """Say which plugin is installed."""
    version = _installed()
    pin = f"pip install {PLUGIN}=={MENDED[0]}"
    if not version:
        yield wrong("plugin", f"{PLUGIN} is not installed", pin)
    elif mended():
        text = "what it makes of preempted and forgotten jobs is mended by the workflow"
        yield ok("plugin", f"{PLUGIN} {version}; {text}")
    else:
        text = f"{PLUGIN} {version}: what it makes of ended jobs is known and mended for"
        yield warning("plugin", f"{text} {', '.join(MENDED)} only", pin)


def _shape(form: Form) -> Iterator[Finding]:
    """Say whether Snakemake takes the file as a profile for Slurm."""
    if form.values.get("executor") != "slurm":
        text = f"executor is {form.values.get('executor')!r}"
        yield wrong("profile", text, f"{form.path}: executor: slurm")
    for sentence in unknown_names(form):
        yield wrong("profile", sentence, f"{form.path}: the right name, or nothing")
    always = checkout() / "profiles" / "default" / "config.yaml"
    if always.is_file():
        both = set(yaml.safe_load(always.read_text(encoding="utf-8"))) & set(form.values)
        for key in sorted(both):
            text = f"`{key}` stands in profiles/default too, which wins"
            yield wrong("profile", text, f"{form.path}: take `{key}` out")


def _resources(form: Form) -> Iterator[Finding]:
    """Say what resources would hurt."""
    for rules, request in grouped(form.requests()):
        asked = form.asked(request.rule)
        if "mem_mb_per_cpu" in asked:
            text = f"{rules}: mem_mb_per_cpu wins over every mem_mb (#335)"
            place = form.place("mem_mb_per_cpu", request.rule)
            yield wrong("memory", text, f"{place}: take it out, use mem_mb")
        memory = request.memory[0]
        if memory is not None and memory < SNAKEMAKE_MB:
            text = f"{rules}: {memory} MB, of which Snakemake takes about 400 around the job"
            yield wrong("memory", text, f"{form.place('mem_mb', request.rule)}: 1000 or more")
        if request.gpus and request.gres:
            text = f"{rules}: GPUs are asked for twice, by --gpus and by --gres={request.gres}"
            yield warning("GPUs", text, f"{form.place('gpu', request.rule)}: 0, or no gres")


def _signals(form: Form) -> Iterator[Finding]:
    """Say whether training is told in time that its walltime ends."""
    for rules, request in grouped(form.requests()):
        if not set(rules.split(", ")) & {"train", "distill"}:
            continue
        place = form.place("slurm_extra", request.rule)
        if request.nodes > 1:  # srun, which holds the nodes, would end them: docs/parallel.md
            continue
        found = re.search(r"--signal=(B:)?(\w+)@(\d+)", request.extra)
        if not found or found[1] or found[2] not in ("TERM", "SIGTERM", "15"):
            text = f"{rules}: no --signal=TERM@SECONDS: a training whose node cannot ask squeue"
            text += " for the time left is killed at its walltime"
            yield warning("walltime", text, f"{place}: \"'--signal=TERM@120'\"")
            continue
        lead = int(found[3])
        shortest = min((minutes for minutes in request.minutes if minutes), default=None)
        if shortest is not None and shortest * 60 < 2 * lead + 60:
            text = f"{rules}: {shortest} minutes, of which the last {lead} s (and up to a minute"
            text += " more) are for saving"
            yield warning("walltime", text, f"{form.place('runtime', request.rule)}: longer")


def _options(form: Form) -> Iterator[Finding]:
    """Say which options of the plugin are missing or harmful."""
    values = form.values
    if values.get("slurm-array-jobs"):
        text = "slurm-array-jobs: every task of an array runs the first job (#473)"
        yield wrong("arrays", text, f"{form.path}: take slurm-array-jobs out")
    if not values.get("retries"):
        text = "retries is missing: a training cut by its walltime is not continued"
        yield warning("retries", text, f"{form.path}: retries: 3")
    if (values.get("slurm-status-attempts") or 5) < ATTEMPTS:
        text = "after 5 failed questions Snakemake forgets its jobs and waits for ever (#207)"
        cure = f"{form.path}: slurm-status-attempts: 5000, max-status-checks-per-second: 0.2"
        yield wrong("status", text, cure)
    if (values.get("latency-wait") or 5) < 30:
        text = f"latency-wait is {values.get('latency-wait')}: shared file systems can take longer"
        yield warning("file system", text, f"{form.path}: latency-wait: 60")
    if values.get("cores"):
        text = f"cores: {values['cores']} caps the processors that jobs ask for"
        yield warning("processors", text, f"{form.path}: take cores out")


def _rules_retry() -> Iterator[Finding]:
    """Say whether a rule retries by itself, within one job and one walltime (#284, #348)."""
    for path in sorted(Path(checkout() / "workflow" / "rules").glob("*.smk")):
        if re.search(r"^\s+retries:", path.read_text(encoding="utf-8"), re.MULTILINE):
            text = f"{path.name} has `retries:`, which is spent inside one job"
            yield wrong("retries", text, f"workflow/rules/{path.name}: take it out")
