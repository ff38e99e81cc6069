"""Does the cluster give what the profile asks for? Partitions, nodes, rights, limits."""

import getpass
import grp
import os
from collections.abc import Iterable, Iterator

from cmkd.errors import nearest
from cmkd.operations.findings import Finding, ok, warning, wrong
from cmkd.operations.slurm import reader
from cmkd.operations.slurm.form import Form, Request
from cmkd.operations.slurm.reader import Limits, Partition, Site


def check(form: Form, site: Site, gpus: int = 1) -> Iterator[Finding]:
    """Yield what fits and what does not; jobs that ask for the same are one finding."""
    for rules, request in grouped(form.requests(gpus)):
        partition = site.partition(request.partition)
        yield from _partition(form, site, request, rules)
        if partition is None:
            continue
        findings = [
            *_state(form, partition, request),
            *rights(form, site, partition, request),
            *_time(form, site, partition, request, rules),
            *room(form, site, partition, request, rules),
        ]
        yield from findings
        if not any(found.level == "wrong" for found in findings):
            yield from accepted(form, request, rules)
    yield from limits(form, site)


def grouped(requests: Iterable[Request]) -> list[tuple[str, Request]]:
    """Return each different request once, with the names of its rules."""
    found: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        found.setdefault((*request.options(), request.memory, request.minutes), []).append(request)
    return [(", ".join(one.rule for one in same), same[0]) for same in found.values()]


def _partition(form: Form, site: Site, request: Request, rules: str) -> Iterator[Finding]:
    """Say whether the partition of a request exists."""
    if site.partition(request.partition):
        return
    names = [partition.name for partition in site.partitions]
    place = form.place("slurm_partition", request.rule)
    if request.partition:
        text = f"{rules}: there is no partition '{request.partition}'"
        yield wrong("partition", text + nearest(request.partition, names), f"{place}: one of these")
    else:
        text = f"{rules}: the site has no default partition, and the form names none"
        yield wrong("partition", text, f"{place}: one of {', '.join(names)}")


def _state(form: Form, partition: Partition, request: Request) -> Iterator[Finding]:
    """Say whether a partition takes jobs."""
    if not partition.up:
        cure = f"{form.place('slurm_partition', request.rule)}: another one, or ask your site"
        yield wrong("partition", f"'{partition.name}' is not up: jobs in it do not start", cure)


def rights(form: Form, site: Site, partition: Partition, request: Request) -> Iterator[Finding]:
    """Say whether the user may use a partition, under the account and quality of the request."""
    place = form.place("slurm_account", request.rule)
    accounts = [right.account for right in site.associations]
    account = request.account or site.default_account
    if request.account and site.accounting == "none":
        text = f"account '{account}' on a cluster without accounts: every submission would fail"
        yield wrong("account", text, f"{place}: take the line out")
    elif request.account and accounts and account not in accounts:
        text = f"you have no account '{account}'{nearest(account, accounts)}"
        yield wrong("account", text, f"{place}: one of {', '.join(dict.fromkeys(accounts))}")
    elif not accounts and "associations" in site.config.get("AccountingStorageEnforce", ""):
        yield wrong("account", "you have no account on this cluster", "ask your site for one")
    refusal = refused(site, partition, account, request.quality)
    if refusal:
        usable = ", ".join(p.name for p in site.partitions if not refused(site, p, account, ""))
        cure = (
            f"{form.place('slurm_partition', request.rule)}: one you may use ({usable or 'none'})"
        )
        yield wrong("partition", f"'{partition.name}' {refusal}", cure)


def refused(site: Site, partition: Partition, account: str, quality: str) -> str:
    """Return why a partition refuses the user, or ""."""
    if partition.groups and os.getuid() != 0 and not set(partition.groups) & _groups():
        return f"is for members of {', '.join(partition.groups)}, which you are not"
    if partition.accounts and account not in partition.accounts:
        return f"is for accounts {', '.join(partition.accounts)}, not for '{account}'"
    if account and account in partition.denied:
        return f"is closed to account '{account}'"
    if partition.qualities and quality and quality not in partition.qualities:
        return f"takes the qualities {', '.join(partition.qualities)}, not '{quality}'"
    return ""


def _groups() -> set[str]:
    """Return the names of the user's Unix groups."""
    mine = os.getgrouplist(getpass.getuser(), os.getgid())
    return {group.gr_name for group in grp.getgrall() if group.gr_gid in mine}


def _time(
    form: Form, site: Site, partition: Partition, request: Request, rules: str
) -> Iterator[Finding]:
    """Say whether the walltime is within what the partition and the account allow."""
    own = limits_of(site, request)
    most = least((partition.minutes, own.minutes))
    asked = [minutes for minutes in request.minutes if minutes]
    place = form.place("runtime", request.rule)
    if not asked:
        yield warning("walltime", f"{rules}: none, or one that is only known later", place)
    elif most is not None and asked[0] > most:
        text = f"{rules}: {asked[0]} minutes, '{partition.name}' allows {most}: jobs never start"
        yield wrong("walltime", text, f"{place}: {most}")
    elif most is not None and max(asked) > most:
        text = f"{rules}: a later attempt asks for {max(asked)} minutes, {most} are allowed"
        yield wrong("walltime", text, f"{place}: at most {most} for every attempt")


def room(
    form: Form, site: Site, partition: Partition, request: Request, rules: str
) -> Iterator[Finding]:
    """Say whether one node has processors, memory and GPUs together, and whether it is shared."""
    nodes = site.nodes_of(partition.name)
    place = f"{form.path}: set-resources: {request.rule}"
    if not nodes:
        yield wrong("nodes", f"no node of '{partition.name}' takes jobs now", "ask your site")
        return
    fits = [node for node in nodes if _fits(request, partition, node, request.memory[0])]
    if not fits:
        cure = f"{place}: cpus_per_task and mem_mb as one of them has, or another partition"
        yield wrong("nodes", _too_much(request, nodes, partition.name, rules), cure)
        return
    most = max((memory for memory in request.memory if memory), default=0)
    if not any(_fits(request, partition, node, most) for node in fits):
        text = f"{rules}: a later attempt asks for {most} MB, no node that fits has as much"
        cure = f"{form.place('mem_mb', request.rule)}: at most {max(n.memory for n in fits)}"
        yield warning("memory", text, cure)
    most_gpus = limits_of(site, request).gpus
    if most_gpus is not None and request.wanted_gpus * request.nodes > most_gpus:
        text = f"{rules}: {request.wanted_gpus * request.nodes} GPU(s) a job,"
        text += f" you may have {most_gpus}"
        yield wrong("GPUs", text, "fewer `execution: gpus`, or another account or qos")
    yield from _share(form, request, fits, rules)


def _fits(request: Request, partition: Partition, node: reader.Node, memory: int | None) -> bool:
    """Tell whether a node has what a job asks for."""
    cpus = min(node.cpus, partition.cpus or node.cpus)
    there = min(node.memory, partition.memory or node.memory)
    gpus = node.count(request.wanted_model)
    return max(1, request.cpus) <= cpus and (memory or 0) <= there and request.wanted_gpus <= gpus


def _too_much(request: Request, nodes: list[reader.Node], name: str, rules: str) -> str:
    """Return why no node fits."""
    kinds = sorted({model or "GPU" for node in nodes for model in node.gpus})
    gpus = f", {request.wanted_gpus} GPU(s) {request.wanted_model}" if request.wanted_gpus else ""
    asked = f"{request.cpus} processors, {request.memory[0]} MB{gpus}".rstrip()
    there = "; ".join(dict.fromkeys(_size(node) for node in nodes))
    known = f" (kinds: {', '.join(kinds)})" if kinds and request.wanted_model else ""
    return f"{rules}: no node of '{name}' has {asked} together; it has {there}{known}"


def _size(node: reader.Node) -> str:
    """Return a node's size as words."""
    gpus = "".join(f", {n} GPU(s) {model}".rstrip() for model, n in node.gpus.items())
    return f"{node.cpus} processors, {node.memory} MB{gpus}"


def fair(nodes: Iterable[reader.Node], model: str = "") -> tuple[int, int] | None:
    """Return processors and MB for one GPU where the nodes with GPUs are shared out evenly."""
    shares = [
        (node.cpus // node.count(model), node.memory // node.count(model))
        for node in nodes
        if node.count(model)
    ]
    return min(share[0] for share in shares), min(share[1] for share in shares)


def _share(form: Form, request: Request, nodes: list[reader.Node], rules: str) -> Iterator[Finding]:
    """Warn where a job takes more of a node than its GPUs' part, so that others lie idle."""
    if not request.wanted_gpus:
        return
    cpus, memory = (part * request.wanted_gpus for part in fair(nodes, request.wanted_model))
    asked = {"cpus_per_task": (request.cpus, cpus), "mem_mb": (request.memory[0] or 0, memory)}
    for key, (wanted, part) in asked.items():
        if wanted > part:
            text = f"{rules}: {key} {wanted} is more than a GPU's part of a node, {part}:"
            text += " GPUs lie idle beside it"
            yield warning("share of a node", text, f"{form.place(key, request.rule)}: {part}")


def accepted(form: Form, request: Request, rules: str) -> Iterator[Finding]:
    """Ask Slurm itself whether it would take the job (`sbatch --test-only`; nothing is queued)."""
    answer = test_only(request.options())
    if answer.code == 0:
        where = answer.error.removeprefix("sbatch: ").splitlines()
        yield ok("sbatch", f"{rules}: {' '.join(where)}")
        return
    said = " ".join(answer.error.split())
    cure = f"{form.path}: the resources of {rules}"
    by_gres = test_only(_as_gres(request)) if request.gpus else answer
    if by_gres.code == 0:
        gres = f"'gpu:{request.model + ':' if request.model else ''}{request.gpus}'"
        cure = f'{form.place("gpu", request.rule)}: 0 and gres: "{gres}", which Slurm takes'
    yield wrong("sbatch", f"{rules}: refused: {said}", cure)


def test_only(options: list[str]) -> reader.Answer:
    """Ask sbatch whether it would take a job with these options."""
    return reader.ask("sbatch", "--test-only", "--export=NONE", *options, "--wrap", "true")


def _as_gres(request: Request) -> list[str]:
    """Return the options with the GPUs asked for by --gres instead of --gpus."""
    kept = [word for word in request.options() if not word.startswith("--gpus")]
    return [*kept, f"--gres=gpu:{request.model + ':' if request.model else ''}{request.gpus}"]


def limits(form: Form, site: Site) -> Iterator[Finding]:
    """Say whether `jobs:` is within what the user may have in the queue."""
    jobs = form.values.get("jobs")
    place = f"{form.path}: jobs"
    if not isinstance(jobs, int):
        yield wrong("jobs", f"{jobs!r} jobs in the queue at once", f"{place}: a whole number")
        return
    found = [limits_of(site, request) for request in form.requests()]
    submitted = least(own.submitted for own in found)
    running = least(own.jobs for own in found)
    if submitted is not None and jobs > submitted:
        text = f"{jobs} in the queue, you may have {submitted}: the others fail at submission"
        yield wrong("jobs", text, f"{place}: {submitted}")
    elif running is not None and jobs > running:
        yield ok("jobs", f"{jobs} in the queue, of which your site runs {running} at once")
    else:
        yield ok("jobs", f"{jobs} in the queue at once, within your limits")


def limits_of(site: Site, request: Request) -> Limits:
    """Return the least of the limits of a request's account and quality of service."""
    account = request.account or site.default_account
    rights = [
        right
        for right in site.associations
        if right.account == account and right.partition in ("", request.partition)
    ]
    qualities = [request.quality] if request.quality else [r.default_quality for r in rights]
    partition = site.partition(request.partition)
    qualities += [partition.quality] if partition else []
    found = [right.limits for right in rights]
    found += [site.qualities[name] for name in qualities if name in site.qualities]
    return Limits(
        least(own.jobs for own in found),
        least(own.submitted for own in found),
        least(own.minutes for own in found),
        least(own.gpus for own in found),
    )


def least(values: Iterable[int | None]) -> int | None:
    """Return the least of the limits that are there, or None."""
    return min((value for value in values if value is not None), default=None)
