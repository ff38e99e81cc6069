"""Long lists of classes in files of their own: an entry of datasets.yaml names one as `classes`.

Two forms, both as published: a header `index,mid,display_name` (AudioSet) or `index,label,mid`, in
any order and without `mid` where there are none; or no header and index, label, mid (FSD50K).
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.errors import ConfigError, nearest

HEADERLESS = ("index", "label", "mid")
NAMES = ("display_name", "label")
KNOWN = ("index", "mid", *NAMES)
MID = re.compile(r"/[a-z]/[0-9a-z_]+")


class ClassList(NamedTuple):
    """Names in the order of the outputs, and their ids in AudioSet's ontology (or none at all)."""

    names: list[str]
    mids: list[str]


def expand(entries: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return entries of datasets.yaml whose `classes` are lists, with `mids` where files have them.

    A file that cannot be used leaves its name there; `problems` says why.
    """
    return {name: _expanded(entry, folder) for name, entry in entries.items()}


def _names_a_file(entry: Any) -> bool:
    """Tell whether an entry's classes stand in a file of their own."""
    stated = entry.get("classes") if isinstance(entry, dict) else None
    return isinstance(stated, str) and stated.endswith(".csv")


def _expanded(entry: Any, folder: Path) -> Any:
    """Return one entry, its file of classes read."""
    if not _names_a_file(entry):
        return entry
    try:
        found = read(folder / entry["classes"])
    except ConfigError:
        return entry
    return {**entry, "classes": found.names, **({"mids": found.mids} if found.mids else {})}


def problems(entries: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield why the files of classes that `expand` left alone cannot be used."""
    for name, entry in entries.items():
        if _names_a_file(entry):
            try:
                read(folder / entry["classes"])
            except ConfigError as error:
                yield f"{name}: {error}"


def read(path: Path) -> ClassList:
    """Read a file of classes.

    Raises:
        ConfigError: it is absent or no text, its columns are others, its indices do not count up
            from 0, a name is empty, doubled or holds a semicolon, or a mid is none or doubled.
    """
    columns, lines = _table(path)
    at = {name: columns.index(name) for name in columns}
    name_column = next(name for name in NAMES if name in at)
    found = ClassList([], [])
    for expected, (number, line) in enumerate(lines):
        where = f"{path}, line {number}"
        if len(line) != len(columns):
            raise ConfigError(
                f"{where} has {len(line)} cells where {','.join(columns)} are wanted; mend it"
            )
        if line[at["index"]] != str(expected):
            raise ConfigError(
                f"{where}: the index is '{line[at['index']]}' where {expected} is next: classes "
                "are counted from 0, in the order of the outputs"
            )
        found.names.append(_name(line[at[name_column]], found.names, where))
        if "mid" in at:
            found.mids.append(_mid(line[at["mid"]], found.mids, where))
    if len(found.names) < 2:
        raise ConfigError(f"{path} lists {len(found.names)} classes; at least two are needed")
    return found


def _table(path: Path) -> tuple[Sequence[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and the lines with their numbers, without empty ones."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            lines = [(reader.line_num, line) for line in reader if line]
    except FileNotFoundError:
        beside = [file.name for file in path.parent.glob("*.csv")]
        raise ConfigError(f"there is no file {path}{nearest(path.name, beside)}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not lines or lines[0][1][0] == "0":
        return HEADERLESS, lines
    columns = lines[0][1]
    fits = "index" in columns and len(set(NAMES) & set(columns)) == 1
    if not fits or len(set(columns)) < len(columns) or set(columns) - set(KNOWN):
        raise ConfigError(
            f"{path} has the columns {','.join(columns)}; wanted is index,mid,display_name or "
            "index,label,mid (the latter also without a header)"
        )
    return columns, lines[1:]


def _name(name: str, before: Sequence[str], where: str) -> str:
    """Return a class's name; ConfigError if it is empty, holds a ';' or came before."""
    if not name.strip() or ";" in name or "\n" in name or "\r" in name:
        raise ConfigError(f"{where}: the class '{name}' is empty, or holds a ';' or a line end")
    if name in before:
        raise ConfigError(
            f"{where}: the class '{name}' stands twice, also as number {before.index(name)}; "
            "each class once"
        )
    return name


def _mid(mid: str, before: Sequence[str], where: str) -> str:
    """Return an id such as /m/09x0r; ConfigError if it is of another form or came before."""
    if not MID.fullmatch(mid):
        raise ConfigError(f"{where}: '{mid}' is no mid such as /m/09x0r; are columns exchanged?")
    if mid in before:
        raise ConfigError(f"{where}: the mid {mid} stands twice, also as {before.index(mid)}")
    return mid
