"""The comments of a catalogue file, by the place of the value that they stand at.

A recipe's sources are comments: `lr: 5.0e-5  # a tenth of a CNN's  [R1, C:ast]`. The bracket at the
end of a line is its grade and source, what stands before it a note; a block of comment lines right
above a value belongs to it too.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Place = tuple[str, ...]
_TAGS = re.compile(r"\s*\[((?:P|R1|R2|own|C:)[^\]]*)\]\.?\s*$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")


class Comment(NamedTuple):
    """Grade and source, such as "R1, C:ast", and what is said beside; either may be empty."""

    grade: str
    note: str
    above: str = ""  # the comment lines right above, which a whole group may share


def comments(path: Path) -> dict[Place, Comment]:
    """Return the comment of every key of a YAML file, by its path of keys.

    A key that comes through an alias or a merge has the comment of the line where it is written.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return {place: _comment(lines, number) for place, number in _keys(root, ())}


def _keys(node: Any, place: Place) -> Iterator[tuple[Place, int]]:
    """Yield (path of keys, line number from 0) of a tree's keys; later ones win."""
    if not isinstance(node, yaml.MappingNode):
        return
    merged = [value for key, value in node.value if key.value == "<<"]
    for below in merged:
        yield from _keys(below, place)
    for key, value in node.value:
        if key.value != "<<":
            yield (*place, key.value), key.start_mark.line
            yield from _keys(value, (*place, key.value))


def _comment(lines: list[str], number: int) -> Comment:
    """Return the comment at a line and right above it."""
    grade, note = _split(_after_hash(lines[number]))
    above: list[str] = []
    while number > 0 and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        above.insert(0, _after_hash(lines[number]))
    if grade:
        return Comment(grade, note, " ".join(above))
    grade, block = _split(" ".join(above))
    return Comment(grade, note, block)


def _after_hash(line: str) -> str:
    """Return a line's comment without its mark; no value of ours holds a ` #`."""
    found = _COMMENT.search(line)
    return found.group(1).strip() if found else ""


def _split(text: str) -> tuple[str, str]:
    """Split a comment into the tags at its end and the rest."""
    found = _TAGS.search(text)
    return (found.group(1), text[: found.start()].strip()) if found else ("", text.strip())
