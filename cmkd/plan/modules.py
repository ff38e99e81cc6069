"""Modules of the package found by what they hold, without importing them (most need torch).

A reader, builder or objective is one file with a function of a fixed name; what configuration may
say about it stands in the same file as literals, such as `OPTIONS = {"alpha": 1.0}`. Only those
statements are parsed, since every job reads its configuration anew.
"""

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cmkd.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]
# A statement at the margin: its first line, then all that is indented, closing or empty.
_STATEMENT = re.compile(
    r"^([A-Z][A-Z_]*)(?:: [^=\n]+)? = [^\n]*(?:\n(?:[ \t)\]}][^\n]*|(?=\n)))*", re.M
)


def named(package: str, function: str) -> set[str]:
    """Return the modules of cmkd/PACKAGE that define a function, but for one called like it."""
    return set(_found(package, function))


@functools.cache
def literals(
    package: str, function: str, names: tuple[str, ...]
) -> Mapping[str, Mapping[str, Any]]:
    """Return, for each module of cmkd/PACKAGE that defines a function, those constants it has.

    Raises ConfigError for a constant that is no literal, naming the file.
    """
    found = _found(package, function)
    read = {name: _constants(path, text, names) for name, (path, text) in sorted(found.items())}
    return MappingProxyType(read)


def _found(package: str, function: str) -> dict[str, tuple[Path, str]]:
    """Return file and text of each module of a package that defines a function."""
    pattern = re.compile(rf"^def {function}\(", re.MULTILINE)
    files = [file for file in (PACKAGE / package).glob("*.py") if file.stem != function]
    texts = {file.stem: (file, file.read_text(encoding="utf-8")) for file in files}
    return {name: found for name, found in texts.items() if pattern.search(found[1])}


def _constants(path: Path, text: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the constants of these names that a module's text sets."""
    found = {}
    for match in _STATEMENT.finditer(text):
        name = match[1]
        if name in names:
            found[name] = _literal(path, name, match[0])
    return MappingProxyType(found)


def _literal(path: Path, name: str, statement: str) -> Any:
    """Return the value of one statement; ConfigError where it is no literal."""
    try:
        node = ast.parse(statement).body[0]
        return ast.literal_eval(node.value)  # type: ignore[attr-defined]
    except (SyntaxError, ValueError) as error:
        where = Path(PACKAGE.name) / path.relative_to(PACKAGE)
        raise ConfigError(
            f"{where}: {name} is read without running the file, so it must be a literal such as "
            f'{{"alpha": 1.0}}'
        ) from error
