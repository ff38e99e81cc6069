"""The profile as a form: what it asks of Slurm for each rule, and the `sbatch` line that asks it.

The line is the one of snakemake-executor-plugin-slurm 2.8 (`submit_string.py`, `utils.py`), without
what names a run; a test compares the two.
"""

import ast
import math
import operator
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cmkd.errors import ConfigError, nearest

# Rules that run on the cluster, and whether they ask for a GPU by themselves (workflow/rules).
RULES = {"prepare": False, "stats": False, "evaluate": True, "train": True, "distill": True}
# Resources that the plugin reads; another name is passed over in silence.
RESOURCES = (
    *("slurm_account", "slurm_partition", "qos", "constraint", "slurm_extra", "runtime"),
    *("mem_mb", "mem", "mem_mb_per_cpu", "cpus_per_task", "cpus_per_gpu", "gpu", "gpu_model"),
    *("gres", "tasks", "tasks_per_gpu", "tasks_per_node", "nodes", "mpi", "cluster", "clusters"),
    *("slurm_cluster", "disk_mb", "disk", "tmpdir"),
)
POWERS = ["", "k", "m", "g", "t"]
SPANS = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440, "w": 10080}  # to minutes
ORDER: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
CALLS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "int": int, "round": round}


@dataclass(frozen=True)
class Request:
    """What a rule's jobs ask for; MB and minutes by attempt, None where they are not known."""

    rule: str
    account: str = ""
    partition: str = ""
    quality: str = ""
    constraint: str = ""
    cpus: int = 1
    memory: tuple[int | None, ...] = (None,)
    minutes: tuple[int | None, ...] = (None,)
    gpus: int = 0
    model: str = ""
    gres: str = ""
    extra: str = ""
    nodes: int = 1

    @property
    def wanted_gpus(self) -> int:
        """Return how many GPUs a job gets on a node, asked for by `gpu` or by `gres`."""
        return math.ceil(self.gpus / self.nodes) or sum(_gres(self.gres).values())

    @property
    def wanted_model(self) -> str:
        """Return the type of GPU asked for, or "" for any."""
        return self.model or next(iter(_gres(self.gres)), "")

    def options(self) -> list[str]:
        """Return the options of sbatch that the plugin gives for a first attempt."""
        words = ["-A", self.account] if self.account else []
        words += ["-p", self.partition] if self.partition else []
        words += ["-t", str(self.minutes[0])] if self.minutes[0] else []
        words += ["-C", self.constraint] if self.constraint else []
        words += [f"--qos={self.quality}"] if self.quality else []
        words += ["--mem", str(self.memory[0])] if self.memory[0] else []
        words += [f"--nodes={self.nodes}"] if self.nodes > 1 else []
        words += [] if self.wanted_gpus else ["--ntasks=1"]
        words += [f"--cpus-per-task={max(1, self.cpus)}"] if self.cpus >= 0 else []
        words += shlex.split(self.extra)
        words += [f"--gres={self.gres}"] if self.gres else []
        kind = f"{self.model}:" if self.model else ""
        return words + ([f"--gpus={kind}{self.gpus or 1}"] if self.gpus or self.model else [])


@dataclass(frozen=True)
class Form:
    """A profile: its file as it is called by the user, its text, and its values."""

    path: Path
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def attempts(self) -> int:
        """Return how often a job is tried."""
        return 1 + int(self.values.get("retries") or 0)

    def asked(self, rule: str) -> dict[str, Any]:
        """Return the resources of a rule, its own above those of every job."""
        own = (self.values.get("set-resources") or {}).get(rule) or {}
        given = {"gpu": 1} if RULES.get(rule) else {}
        return {**(self.values.get("default-resources") or {}), **given, **own}

    def place(self, key: str, rule: str = "") -> str:
        """Return where a resource stands, as words: the file and the keys that lead to the line."""
        own = (self.values.get("set-resources") or {}).get(rule) or {}
        if rule and (key in own or RULES.get(rule)):
            return f"{self.path}: set-resources: {rule}: {key}"
        return f"{self.path}: default-resources: {key}"

    def requests(self, gpus: int = 1) -> list[Request]:
        """Return what each rule asks for; `gpus` are those of one training (`execution: gpus`)."""
        return [self._request(rule, gpus) for rule in RULES]

    def _request(self, rule: str, gpus: int) -> Request:
        asked = self.asked(rule)
        number = int(_value(asked.get("gpu")) or 0)
        if number and rule in ("train", "distill"):
            number = max(number, gpus)
        tries = range(1, self.attempts + 1)
        memory = asked.get("mem_mb", asked.get("mem"))
        return Request(
            rule=rule,
            account=_text(asked.get("slurm_account")),
            partition=_text(asked.get("slurm_partition")),
            quality=_text(asked.get("qos") or self.values.get("slurm-qos")),
            constraint=_text(asked.get("constraint")),
            cpus=int(_value(asked.get("cpus_per_task", 1)) or 1),
            memory=tuple(_megabytes(memory, attempt) for attempt in tries),
            minutes=tuple(_minutes(asked.get("runtime"), attempt) for attempt in tries),
            gpus=number,
            model=_text(asked.get("gpu_model")),
            gres=_text(asked.get("gres")),
            extra=_text(asked.get("slurm_extra")),
            nodes=max(1, int(_value(asked.get("nodes")) or 1)),
        )


def read(folder: Path) -> Form:
    """Read the profile in a folder (or the file itself).

    Raises ConfigError where there is none, or it is no YAML mapping.
    """
    path = folder if folder.suffix in (".yaml", ".yml") else folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: no profile can be read ({error}); name its folder by --profile FOLDER"
        ) from None
    return parse(path, text)


def parse(path: Path, text: str) -> Form:
    """Return a form of its text; raises ConfigError where it is no YAML mapping of this shape."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no `key: value` lines; take profiles/slurm as a form")
    _check_mapping(path, "default-resources", values.get("default-resources"))
    rules = values.get("set-resources")
    _check_mapping(path, "set-resources", rules)
    for rule, own in (rules or {}).items():
        _check_mapping(path, f"set-resources: {rule}", own)
    return Form(path, text, values)


def _check_mapping(path: Path, place: str, value: Any) -> None:
    """Refuse a part of the form that is no mapping of names to values."""
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"{path}: {place}: must hold `name: value` lines, not {value!r}")


def unknown_names(form: Form) -> list[str]:
    """Return sentences for rules and resources that neither Snakemake nor the plugin will find."""
    own = form.values.get("set-resources") or {}
    found = [
        f"set-resources: {rule}: no rule of that name{nearest(rule, RULES)}"
        for rule in own
        if rule not in RULES
    ]
    places = {"default-resources": form.values.get("default-resources") or {}}
    places |= {f"set-resources: {rule}": keys or {} for rule, keys in own.items()}
    return found + [
        f"{place}: {key}: the plugin knows no such resource{nearest(key, RESOURCES)}"
        for place, keys in places.items()
        for key in keys
        if key not in RESOURCES
    ]


def evaluate(text: str, attempt: int) -> float | None:
    """Return a sum of numbers and `attempt`, such as "32000 * attempt", or None if it is more."""
    try:
        return _evaluate(ast.parse(text, mode="eval").body, attempt)
    except (SyntaxError, ValueError, TypeError, ArithmeticError):
        return None


def _evaluate(node: ast.expr, attempt: int) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id="attempt"):
            return attempt
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in ORDER:
            return ORDER[type(sign)](_evaluate(left, attempt), _evaluate(right, attempt))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in CALLS:
            return CALLS[name](*(_evaluate(part, attempt) for part in args))
    raise ValueError("not a sum")


def _value(given: Any, attempt: int = 1) -> float | None:
    """Return a resource as a number, or None."""
    if given is None or isinstance(given, bool):
        return None
    return given if isinstance(given, int | float) else evaluate(_text(given), attempt)


def _text(given: Any) -> str:
    """Return a resource as Snakemake hands it on: without the quotes within its quotes."""
    text = "" if given is None else str(given).strip()
    quoted = re.fullmatch(r"(['\"])(.*)\1", text)
    return quoted[2] if quoted else text


def plain(given: Any) -> Any:
    """Return a value of the form to compare with what was meant: a sum by its first number."""
    if isinstance(given, str):
        number = re.match(r"\D*(\d+)\b.*\battempt\b", given)
        return int(number[1]) if number else _text(given)
    return given


def _megabytes(given: Any, attempt: int) -> int | None:
    """Return memory in MB: a number, a sum, or as "16 GB"."""
    number = _value(given, attempt)
    if number is not None:
        return round(number)
    size = re.fullmatch(r"([\d.]+)\s*([kmgt]?)(i?)b", _text(given).lower())
    if not size:
        return None
    step = 1024 if size[3] else 1000
    return math.ceil(float(size[1]) * step ** POWERS.index(size[2]) / 1e6)


def _minutes(given: Any, attempt: int) -> int | None:
    """Return a time in minutes: a number, a sum, or as "12h"."""
    number = _value(given, attempt)
    if number is not None:
        return round(number)
    span = re.fullmatch(r"([\d.]+)\s*([smhdw])\w*", _text(given).lower())
    return int(float(span[1]) * SPANS[span[2]]) if span else None


def _gres(text: str) -> dict[str, int]:
    """Return the GPUs that a `gres` asks for, by type."""
    from cmkd.operations.slurm.reader import parse_gpus

    return parse_gpus(text)
