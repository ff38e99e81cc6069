"""What a Slurm cluster says of itself: its programs asked with time-outs, machine formats parsed.

Formats: `scontrol -o show partition` (one `Key=Value` line each), `scontrol show config`, `sinfo -h
-N -o` and `sacctmgr -nP` (fields between bars). Sources: the manual pages of Slurm 22.05 to 24.05.
"""

import getpass
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = 30.0
NODES = "%N|%R|%c|%m|%G|%T"
ASSOCIATIONS = "Account,Partition,QOS,DefaultQOS,MaxJobs,MaxSubmit,MaxWall,MaxTRES"
QUALITIES = "Name,MaxJobsPU,MaxSubmitPU,MaxWall,MaxTRESPU,Preempt"
# States (sinfo %T) in which a node takes jobs, now or when others end.
WORKING = ("idle", "mixed", "allocated", "completing", "planned", "reserved", "powering_up")
ASLEEP = ("powered_down", "powering_down")


@dataclass(frozen=True)
class Answer:
    """What a program said; code 127 where it is missing, 124 where it did not answer in time."""

    code: int
    out: str
    error: str


def ask(*command: str, seconds: float = SECONDS, text: str | None = None) -> Answer:
    """Run a program of Slurm and return its answer; never raises for a missing or silent one."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, input=text, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"{command[0]} did not answer within {seconds:.0f} s")
    except OSError as error:
        return Answer(127, "", f"{command[0]}: {error.strerror}")
    return Answer(done.returncode, done.stdout, done.stderr.strip())


@dataclass(frozen=True)
class Partition:
    """A partition; None stands for no limit, an empty tuple of names for all."""

    name: str
    up: bool
    default: bool
    minutes: int | None
    accounts: tuple[str, ...]
    denied: tuple[str, ...]
    qualities: tuple[str, ...]
    groups: tuple[str, ...]
    quality: str
    preempt: str
    grace: int
    tier: int
    cpus: int | None
    memory: int | None


@dataclass(frozen=True)
class Node:
    """A node: processors, memory in MB, GPUs by type ("" for no type), and whether it works."""

    name: str
    partitions: tuple[str, ...]
    cpus: int
    memory: int
    gpus: dict[str, int] = field(default_factory=dict)
    working: bool = True

    def count(self, model: str = "") -> int:
        """Return its GPUs of a type, or all of them."""
        return self.gpus.get(model, 0) if model else sum(self.gpus.values())


@dataclass(frozen=True)
class Limits:
    """What a user may have at once under an account or a quality of service; None is no limit."""

    jobs: int | None = None
    submitted: int | None = None
    minutes: int | None = None
    gpus: int | None = None


@dataclass(frozen=True)
class Association:
    """A user's right to an account, perhaps in one partition only."""

    account: str
    partition: str
    qualities: tuple[str, ...]
    default_quality: str
    limits: Limits


@dataclass(frozen=True)
class Site:
    """All that was read of a cluster. `accounting` is "none", "answers" or "silent"."""

    version: str
    config: dict[str, str]
    partitions: tuple[Partition, ...]
    nodes: tuple[Node, ...]
    accounting: str = "none"
    default_account: str = ""
    associations: tuple[Association, ...] = ()
    qualities: dict[str, Limits] = field(default_factory=dict)
    preempting: tuple[str, ...] = ()

    def partition(self, name: str) -> Partition | None:
        """Return a partition by its name, the default one for "", or None."""
        found = [p for p in self.partitions if p.name == name or (not name and p.default)]
        return found[0] if found else None

    def nodes_of(self, partition: str) -> list[Node]:
        """Return the nodes of a partition that take jobs."""
        return [node for node in self.nodes if node.working and partition in node.partitions]

    def seconds(self, key: str) -> int | None:
        """Return a number of seconds of the configuration, such as MinJobAge ("300 sec")."""
        number = re.match(r"\d+", self.config.get(key, ""))
        return int(number[0]) if number else None


def read_site() -> Site:
    """Ask the cluster for everything; the controller must answer (see `controller`)."""
    config = parse_config(ask("scontrol", "show", "config").out)
    partitions = ask("scontrol", "-o", "show", "partition").out
    nodes = ask("sinfo", "-h", "-N", "-a", "-o", NODES).out
    site = {
        "version": ask("sinfo", "--version").out.strip().removeprefix("slurm").strip(),
        "config": config,
        "partitions": tuple(parse_partition(record) for record in parse_records(partitions)),
        "nodes": tuple(parse_nodes(nodes)),
    }
    if "none" in config.get("AccountingStorageType", "none"):
        return Site(**site)
    return Site(**site, **_accounts())


def _accounts() -> dict[str, object]:
    """Ask the accounting database for the user's rights."""
    user = getpass.getuser()
    if ask("sacct", "-nPX", "-o", "JobIDRaw,State").code:
        return {"accounting": "silent"}
    own = ask("sacctmgr", "-nP", "show", "user", user, "format=DefaultAccount").out
    rights = ask("sacctmgr", "-nP", "show", "assoc", f"user={user}", f"format={ASSOCIATIONS}").out
    qualities = ask("sacctmgr", "-nP", "show", "qos", f"format={QUALITIES}").out
    return {
        "accounting": "answers",
        "default_account": own.strip().split("\n")[0],
        "associations": tuple(map(parse_association, parse_rows(rights, 8))),
        "qualities": {row[0]: _limits(*row[1:5]) for row in parse_rows(qualities, 6)},
        "preempting": tuple(row[0] for row in parse_rows(qualities, 6) if row[5]),
    }


def controller() -> Answer:
    """Ask whether the controller answers: code 0 if one of them is up."""
    answer = ask("scontrol", "ping")
    up = " UP" in answer.out
    return Answer(0 if up else answer.code or 1, answer.out, answer.error or answer.out.strip())


def parse_records(text: str) -> list[dict[str, str]]:
    """Return the lines of `scontrol -o show` as mappings; a value may hold spaces."""
    pair = re.compile(r"([A-Za-z][\w/:]*)=(.*?)(?=\s+[A-Za-z][\w/:]*=|\s*$)")
    return [dict(pair.findall(line)) for line in text.splitlines() if "=" in line]


def parse_config(text: str) -> dict[str, str]:
    """Return `scontrol show config` as a mapping."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def parse_rows(text: str, columns: int) -> list[list[str]]:
    """Return the lines of `sacctmgr -nP` with as many fields as were asked for."""
    rows = [line.split("|") for line in text.splitlines()]
    return [row for row in rows if len(row) == columns]


def parse_minutes(text: str) -> int | None:
    """Return a time of Slurm in minutes, or None for no limit ("D-HH:MM:SS", "HH:MM:SS", "MM")."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if not found:
        return None
    days, *rest = found.groups()
    numbers = [int(part) for part in rest if part is not None]
    if days is None and len(numbers) < 3:  # "MM" or "MM:SS"
        return numbers[0]
    hours, minutes = (*numbers, 0)[:2]
    return int(days or 0) * 1440 + hours * 60 + minutes


def parse_gpus(gres: str) -> dict[str, int]:
    """Return GPUs by type of a node's Gres, such as "gpu:a100:4(S:0-1),lustre:1"."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = item.split(":")
        if name == "gpu":
            model = rest[0] if rest and not rest[0].isdecimal() else ""
            number = rest[-1] if rest and rest[-1].isdecimal() else "1"
            found[model] = found.get(model, 0) + int(number)
    return found


def parse_partition(record: dict[str, str]) -> Partition:
    """Return a partition of its line of `scontrol -o show partition`."""
    return Partition(
        name=record["PartitionName"],
        up=record.get("State", "UP") == "UP",
        default=record.get("Default") == "YES",
        minutes=parse_minutes(record.get("MaxTime", "")),
        accounts=_names(record.get("AllowAccounts", "ALL")),
        denied=_names(record.get("DenyAccounts", "")),
        qualities=_names(record.get("AllowQos", "ALL")),
        groups=_names(record.get("AllowGroups", "ALL")),
        quality=record.get("QoS", "N/A").replace("N/A", ""),
        preempt=record.get("PreemptMode", "OFF"),
        grace=_number(record.get("GraceTime", "")) or 0,
        tier=_number(record.get("PriorityTier", "")) or 1,
        cpus=_number(record.get("MaxCPUsPerNode", "")),
        memory=_number(record.get("MaxMemPerNode", "")),
    )


def parse_nodes(text: str) -> list[Node]:
    """Return the nodes of `sinfo -h -N -o` NODES, which has a line for each of their partitions."""
    found: dict[str, Node] = {}
    for name, partition, cpus, memory, gres, state in parse_rows(text, 6):
        before = found[name].partitions if name in found else ()
        working = _working(state)
        here = (*before, partition)
        found[name] = Node(
            name, here, int(cpus), int(memory.rstrip("+")), parse_gpus(gres), working
        )
    return list(found.values())


def parse_association(row: Sequence[str]) -> Association:
    """Return a user's right of its row of `sacctmgr show assoc format=` ASSOCIATIONS."""
    account, partition, qualities, default, *limits = row
    return Association(account, partition, _names(qualities), default, _limits(*limits))


def _limits(jobs: str, submitted: str, wall: str, tres: str) -> Limits:
    """Return limits of four fields, empty where there is none; `tres` as "cpu=8,gres/gpu=2"."""
    gpus = re.search(r"gres/gpu=(\d+)", tres)
    number = int(gpus[1]) if gpus else None
    return Limits(_number(jobs), _number(submitted), parse_minutes(wall), number)


def _working(state: str) -> bool:
    """Tell whether a node of this state (sinfo %T) takes jobs.

    Flags may follow, of which `*` (it does not answer) is the one that tells that it does not.
    """
    return state.rstrip("~#!%$@^-+") in (*WORKING, *ASLEEP)


def _names(text: str) -> tuple[str, ...]:
    """Return names between commas, none for ALL."""
    if text in ("ALL", "(null)", "N/A", ""):
        return ()
    return tuple(name for name in text.split(",") if name)


def _number(text: str) -> int | None:
    """Return a whole number, or None for UNLIMITED and the like."""
    return int(text) if text.isdecimal() else None
