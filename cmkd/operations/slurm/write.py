"""Fills the form: chooses what the cluster leaves no doubt about, and changes those lines alone.

Lines are edited as text, so comments stay; the result is read again and compared. A line may be
changed if it bears the arrow `# <-`: a name that is commented out is filled in; a number is lowered
to what the cluster allows, and raised only if its key was asked for by name.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cmkd import files
from cmkd.errors import ConfigError, nearest
from cmkd.operations.findings import Finding, ok, warning
from cmkd.operations.slurm import form as forms
from cmkd.operations.slurm import site
from cmkd.operations.slurm.form import Form, Request
from cmkd.operations.slurm.reader import Partition, Site

ARROW = "# <-"
LINE = re.compile(r"^(?P<indent> *)(?P<off># ?)?(?P<key>[\w-]+):(?P<gap> +)(?P<rest>.*)$")
SECTION = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+): *(&\w+ *)?(#.*)?$")
GPU_RULES = tuple(rule for rule, gpu in forms.RULES.items() if gpu)
KEYS = ("jobs", "slurm_account", "slurm_partition", "gres", "cpus_per_task", "mem_mb", "runtime")


@dataclass(frozen=True)
class Change:
    """A value for a line: the keys that lead to it, the value, and the most of later attempts."""

    keys: tuple[str, ...]
    value: str | int
    most: int | None = None


@dataclass(frozen=True)
class Slot:
    """A line with an arrow: its number, the keys that lead to it, whether it is commented out."""

    number: int
    keys: tuple[str, ...]
    empty: bool


def slots(text: str) -> list[Slot]:
    """Return the lines that a site may fill."""
    found: list[Slot] = []
    path: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        section = SECTION.match(line)
        entry = LINE.match(line)
        depth = len(line) - len(line.lstrip())
        if section or entry:
            path = [step for step in path if step[0] < depth]
        if section:
            path.append((depth, section["key"]))
        elif entry and ARROW in entry["rest"]:
            keys = (*(key for _, key in path), entry["key"])
            found.append(Slot(number, keys, bool(entry["off"])))
    return found


def fill(text: str, change: Change) -> str:
    """Return the text with one line changed; raises ConfigError where no line with an arrow is."""
    slot = next((slot for slot in slots(text) if slot.keys == change.keys), None)
    if slot is None:
        raise ConfigError(f"the form has no line `{': '.join(change.keys)}` with an arrow")
    lines = text.splitlines(keepends=True)
    lines[slot.number] = _line_with(lines[slot.number].rstrip("\n"), change) + "\n"
    return "".join(lines)


def _line_with(line: str, change: Change) -> str:
    """Return a line of the form with another value, its comment where it was."""
    before, comment = line.split(ARROW, 1)
    indent, _, key, _, old = LINE.match(before).groups()  # type: ignore[union-attr]
    written = f"{indent}{key}: {_written(old.strip(), change)}"
    return f"{written.ljust(len(before) - 1)} {ARROW}{comment}"


def _written(before: str, change: Change) -> str:
    """Return a value as YAML; `32000 * attempt` keeps its shape, and a cap within min(...)."""
    value = change.value
    if isinstance(value, int):
        grown = re.fullmatch(r"(\D*)\d+( \* attempt)(?:(, *)(\d+)(\)))?", before)
        if not grown:
            return str(value)
        start, times, comma, cap, end = grown.groups()
        most = max(value, change.most) if change.most else cap
        return f"{start}{value}{times}" + (f"{comma}{most}{end}" if cap else "")
    # Snakemake evaluates texts: what is no plain word stands in quotes of both kinds.
    return value if re.fullmatch(r"[A-Za-z_]\w*", value) else f"\"'{value}'\""


def apply(form: Form, changes: Sequence[Change]) -> Form:
    """Return the form with the changes, after reading it again.

    Raises ConfigError if the new text does not hold exactly the old values and the changes.
    """
    text = form.text
    for change in changes:
        text = fill(text, change)
    new = forms.parse(form.path, text)
    _compare(form, new, changes)
    return new


def _compare(old: Form, new: Form, changes: Sequence[Change]) -> None:
    """Refuse a text whose values differ from the old ones elsewhere than where they should."""
    before, after = dict(_leaves(old.values)), dict(_leaves(new.values))
    meant = {(change.keys[0], change.keys[-1]) for change in changes}
    for keys in before.keys() | after.keys():
        if before.get(keys) != after.get(keys) and (keys[0], keys[-1]) not in meant:
            raise ConfigError(f"{old.path}: `{': '.join(keys)}` would change: fill it in by hand")
    for change in changes:
        if forms.plain(after.get(change.keys)) != change.value:
            raise ConfigError(f"{old.path}: `{': '.join(change.keys)}` cannot be written")


def _leaves(values: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every value of nested mappings with the keys that lead to it."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _leaves(value, (*keys, str(key)))
    else:
        yield keys, values


def difference(old: Form, new: Form) -> str:
    """Return what would be changed, as a unified diff."""
    name = str(old.path)
    lines = difflib.unified_diff(
        old.text.splitlines(keepends=True), new.text.splitlines(keepends=True), name, name, n=0
    )
    return "".join(lines)


def write(form: Form) -> None:
    """Write the form whole or not at all."""
    files.write_text(form.path, form.text)


def choose(
    form: Form, there: Site, asked: Sequence[str] = (), gpus: int = 1
) -> tuple[Form, list[Finding]]:
    """Return the form filled in, and what was chosen or left open.

    Args:
        form: the profile as it is.
        there: what the cluster says.
        asked: keys whose lines are chosen again although they are filled.
        gpus: GPUs of one training.

    Raises ConfigError for a key that no line of the form has.
    """
    for key in asked:
        if key not in KEYS:
            raise ConfigError(f"--write {key}: no line of the form{nearest(key, KEYS)}")
    notes: list[Finding] = []
    for step in (_account, _cpu_partition, _gpu_partition, _by_gres, _sizes, _jobs):
        changes, said = step(form, there, set(asked), gpus)
        form = apply(form, _possible(form, changes, asked))
        notes += said
    return form, notes


def _possible(form: Form, changes: Sequence[Change], asked: Sequence[str]) -> list[Change]:
    """Return the changes whose line may be changed: it has an arrow, and is empty or no name."""
    there = {slot.keys: slot for slot in slots(form.text)}
    return [
        change
        for change in changes
        if change.keys in there
        and (there[change.keys].empty or isinstance(change.value, int) or change.keys[-1] in asked)
    ]


Choice = tuple[list[Change], list[Finding]]
Step = Callable[[Form, Site, set[str], int], Choice]
SOME = "default-resources"
OWN = "set-resources"


def _open(form: Form, keys: tuple[str, ...], asked: set[str]) -> bool:
    """Tell whether a line is to be filled: it is there with an arrow, and empty or asked for."""
    there = {slot.keys: slot for slot in slots(form.text)}
    return keys in there and (there[keys].empty or keys[-1] in asked)


def _account(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Choose the user's default account, or the only one."""
    keys = (SOME, "slurm_account")
    names = list(dict.fromkeys(right.account for right in there.associations))
    if not names or not _open(form, keys, asked):
        return [], []
    name = there.default_account if there.default_account in names else ""
    if not name and len(names) > 1:
        return [], [_undecided("slurm_account", names)]
    return [Change(keys, name or names[0])], []


def _undecided(key: str, names: Sequence[str]) -> Finding:
    """Say that there are several candidates for a line."""
    return warning("form", f"{key} is left open: it could be {', '.join(names)}", "write one")


def usable(form: Form, there: Site) -> list[Partition]:
    """Return the partitions that are up and take the user's jobs."""
    account = form.requests()[0].account or there.default_account
    return [p for p in there.partitions if p.up and not site.refused(there, p, account, "")]


def _cpu_partition(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Choose the site's default partition, or the only one."""
    keys = (SOME, "slurm_partition")
    if not _open(form, keys, asked):
        return [], []
    found = usable(form, there)
    best = [partition for partition in found if partition.default] or found
    if len(best) == 1:
        return [Change(keys, best[0].name)], []
    return [], [_undecided("slurm_partition (default-resources)", [p.name for p in best])]


def _gpu_partition(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Choose the partition with most GPUs; of equals that without preemption, or the default."""
    keys = (OWN, GPU_RULES[0], "slurm_partition")
    model = form.requests()[-1].wanted_model
    if not _open(form, keys, asked):
        return [], []
    found = {
        p: (sum(node.count(model) for node in there.nodes_of(p.name)), _calm(there, p), p.default)
        for p in usable(form, there)
    }
    most = max(found.values(), default=(0, False, False))
    if not most[0]:
        text = f"no partition that you may use has a GPU {model}".rstrip()
        return [], [warning("form", text, "ask your site, or set `execution: device: cpu`")]
    best = [partition.name for partition, worth in found.items() if worth == most]
    notes = [*_other_accounts(form, there, most[0]), *_kinds(there, best[0], model)]
    if len(best) > 1:
        return [], [_undecided("slurm_partition (GPU)", best), *notes]
    return [Change(keys, best[0])], [ok("form", f"'{best[0]}' has most GPUs: {most[0]}"), *notes]


def _other_accounts(form: Form, there: Site, most: int) -> Iterator[Finding]:
    """Say where another of the user's accounts opens a partition with more GPUs."""
    for account in dict.fromkeys(right.account for right in there.associations):
        for partition in there.partitions:
            count = sum(node.count() for node in there.nodes_of(partition.name))
            open_to = partition.up and not site.refused(there, partition, account, "")
            if count > most and open_to:
                text = f"with account '{account}', '{partition.name}' has more GPUs: {count}"
                yield warning("form", text, f"{form.path}: write both, if they are meant for this")


def _kinds(there: Site, partition: str, model: str) -> Iterator[Finding]:
    """Say which kinds of GPU a partition has, where there are several and none was chosen."""
    kinds = sorted({kind for node in there.nodes_of(partition) for kind in node.gpus})
    if len(kinds) > 1 and not model:
        text = f"gpu_model is left open: '{partition}' has {', '.join(kinds)}, a job gets any"
        yield ok("form", text)


def _calm(there: Site, partition: Partition) -> bool:
    """Tell whether jobs of a partition are left alone."""
    from cmkd.operations.slurm import traps

    return not traps.can_be_preempted(there, partition)


def _by_gres(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Ask for GPUs by `gres` where sbatch refuses --gpus."""
    request = form.requests(gpus)[-1]
    small = Request("", request.account, request.partition, gpus=1, model=request.model)
    keys = (OWN, GPU_RULES[0], "gres")
    if (
        not request.gpus
        or not _open(form, keys, asked)
        or site.test_only(small.options()).code == 0
    ):
        return [], []
    name = f"gpu:{request.model + ':' if request.model else ''}{request.gpus}"
    other = Request("", request.account, request.partition, gres=name)
    if site.test_only(other.options()).code:
        return [], []
    return [Change((OWN, GPU_RULES[0], "gpu"), 0), Change(keys, name)], []


def _sizes(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Lower walltime, processors and memory to what the cluster gives; raise what was asked for."""
    changes: list[Change] = []
    for request in form.requests(gpus):
        partition = there.partition(request.partition)
        if partition is None or (request.rule == "distill" and _same(form, "train", "distill")):
            continue
        for key, bound in _bounds(request, there, partition).items():
            keys = _line(form, request.rule, key)
            if keys and bound.broken(key in asked):
                changes.append(bound.change(keys, key in asked))
    changes.sort(key=lambda change: int(change.value), reverse=True)  # of two, the smaller stays
    return list({change.keys: change for change in changes}.values()), []


@dataclass(frozen=True)
class Bound:
    """Values of a number by attempt, what a first attempt should ask for at most, and a later."""

    values: tuple[int | None, ...]
    first: int | None
    last: int | None

    def broken(self, asked: bool) -> bool:
        """Tell whether the number is to be written: it is too large, or was asked for."""
        if self.first is None or self.last is None or self.values[0] is None:
            return False
        most = max(value or 0 for value in self.values)
        return asked or self.values[0] > self.first or most > self.last

    def change(self, keys: tuple[str, ...], asked: bool) -> Change:
        """Return the change that keeps to the bounds, or goes to them if it was asked for."""
        least = self.first if asked else min(self.values[0], self.first)
        most = max(value or 0 for value in self.values)
        return Change(keys, least, self.last if asked else min(most, self.last))


def _same(form: Form, one: str, other: str) -> bool:
    """Tell whether two rules share their lines."""
    own = form.values.get(OWN) or {}
    return own.get(one) is own.get(other)


def _line(form: Form, rule: str, key: str) -> tuple[str, ...] | None:
    """Return the line with an arrow that gives a rule its value, or None."""
    there = [slot.keys for slot in slots(form.text) if not slot.empty]
    own = (form.values.get(OWN) or {}).get(rule) or {}
    shared = [(OWN, other, key) for other in GPU_RULES if rule in GPU_RULES]
    places = [(OWN, rule, key), *shared] if key in own else [(SOME, key)]
    return next((keys for keys in places if keys in there), None)


def _bounds(request: Request, there: Site, partition: Partition) -> dict[str, Bound]:
    """Return the bounds of each kind of number that a request asks for."""
    nodes = there.nodes_of(partition.name)
    if request.wanted_gpus:
        nodes = [node for node in nodes if node.count(request.wanted_model)] or nodes
    wall = site.least((partition.minutes, site.limits_of(there, request).minutes))
    cpus = max((min(n.cpus, partition.cpus or n.cpus) for n in nodes), default=None)
    memory = max((min(n.memory, partition.memory or n.memory) for n in nodes), default=None)
    part = cpus, memory
    if request.wanted_gpus and any(node.count(request.wanted_model) for node in nodes):
        share = site.fair(nodes, request.wanted_model)
        part = share[0] * request.wanted_gpus, share[1] * request.wanted_gpus
    return {
        "runtime": Bound(request.minutes, wall, wall),
        "cpus_per_task": Bound((request.cpus,), part[0], cpus),
        "mem_mb": Bound(request.memory, part[1], memory),
    }


def _jobs(form: Form, there: Site, asked: set[str], gpus: int) -> Choice:
    """Choose `jobs` within the limits."""
    limit = site.least(site.limits_of(there, one).submitted for one in form.requests(gpus))
    jobs = form.values.get("jobs")
    if limit and isinstance(jobs, int) and (jobs > limit or "jobs" in asked):
        return [Change(("jobs",), limit)], []
    return [], []
