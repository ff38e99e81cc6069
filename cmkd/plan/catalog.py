"""Read YAML strictly, and find the catalogue: datasets, models, recipes and variants.

Beyond PyYAML, a key written twice, a number that YAML 1.1 takes for text (`1e-3`) and a number that
is not finite are errors that name file and line.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cmkd import files
from cmkd.errors import ConfigError, nearest
from cmkd.plan import class_lists

FILES = ("datasets", "models", "recipes", "variants")
LIKE_A_NUMBER = re.compile(r"[-+]?(?:\d+|\d*\.\d+|\d+\.\d*)[eE][-+]?\d+")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's safe loader, in C where it is there, with stricter scalars and mappings."""


def _text(loader: Any, node: Any) -> str:
    """Refuse a bare text that was meant as a number."""
    if not node.style and LIKE_A_NUMBER.fullmatch(node.value):
        mantissa, exponent = re.split("[eE]", node.value)
        mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
        mantissa = f"0{mantissa}" if mantissa.startswith(".") else mantissa
        sign = "" if exponent[0] in "+-" else "+"
        raise ConfigError(
            f"line {node.start_mark.line + 1}: YAML reads {node.value} as text, not as a number; "
            f"write {mantissa}e{sign}{exponent}"
        )
    return str(node.value)


def _number(loader: Any, node: Any) -> float:
    """Refuse infinity and not-a-number."""
    value = loader.construct_yaml_float(node)
    if not math.isfinite(value):
        raise ConfigError(f"line {node.start_mark.line + 1}: {node.value} is not a finite number")
    return float(value)


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    """Refuse a key that is written twice (PyYAML would keep the last one silently)."""
    merged = any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value)
    if not merged:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: the key '{key.value}' is written twice; keep one")
            seen.add(key.value)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(value, deep=True)
        for key, value in node.value
    }


_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML text; `where` names it in errors.

    Raises:
        ConfigError: not YAML, or one of this module's stricter rules is broken.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except ConfigError as error:
        raise ConfigError(f"{where}, {error}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}{place}: this is not YAML: {problem}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        ConfigError: the file is absent, no UTF-8, no YAML or no mapping.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [file.name for file in Path(path).parent.glob("*.yaml")]
        hint = nearest(Path(path).name, beside)
        raise ConfigError(f"There is no file {path}{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a mapping (key: value), not {type(value).__name__}")
    return value


def find(near: Path | None = None) -> Path:
    """Return the folder of the catalogue: the first of `near` and its parents with a models.yaml.

    Without one, the checkout's own config/ is used.
    """
    if near is not None:
        folder = Path(near).resolve()
        for candidate in (folder, *folder.parents):
            if (candidate / "models.yaml").is_file():
                return _short(candidate)
    return _short(files.checkout() / "config")


def _short(folder: Path) -> Path:
    """Return a path relative to the working directory where it lies below it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


class Catalog:
    """The four files beside a suite, each read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; nothing is read yet."""
        self.folder = Path(folder)

    def file(self, kind: str) -> Path:
        """Return the path of one of the four files."""
        return self.folder / f"{kind}.yaml"

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """Entries of datasets.yaml; a list of classes in a file of its own is read in."""
        return class_lists.expand(read_yaml(self.file("datasets")), self.folder)

    @cached_property
    def models(self) -> dict[str, Any]:
        """Entries of models.yaml."""
        return read_yaml(self.file("models"))

    @cached_property
    def recipes(self) -> dict[str, Any]:
        """Layers of recipes.yaml."""
        return read_yaml(self.file("recipes"))

    @cached_property
    def variants(self) -> dict[str, Any]:
        """Entries of variants.yaml; none where the file is absent."""
        return read_yaml(self.file("variants")) if self.file("variants").is_file() else {}

    def entry(self, kind: str, name: str) -> Mapping[str, Any]:
        """Return one entry of a file, such as ("models", "ast_tiny").

        Raises:
            ConfigError: there is none, with the nearest right word.
        """
        entries: dict[str, Any] = getattr(self, kind)
        if name not in entries:
            what = kind.removesuffix("s")
            raise ConfigError(
                f"There is no {what} '{name}' in {self.file(kind)}{nearest(name, entries)}"
            )
        entry: Mapping[str, Any] = entries[name]
        return entry
