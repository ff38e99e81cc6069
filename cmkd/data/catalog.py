"""What a dataset's entry says, and the module that reads it (one file a dataset, found by name)."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from cmkd.errors import ConfigError, DataError, nearest
from cmkd.plan import downloads
from cmkd.plan.catalog import Catalog, find, parse_yaml

SAMPLE_RATE = 16_000
Found = TypeVar("Found")
WANTED = (
    "give one that a plan has written (.cmkd/wanted/DATASET/prepared/; without Snakemake the "
    "script of 'cmkd plan SUITE --commands' writes it)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One clip as its dataset's own table tells it; `path` is relative to `data_root`."""

    clip: str
    path: str
    split: str
    labels: tuple[str, ...]
    source: str


class Rows(list[Row]):
    """The rows of a reader that has something to say of them: `notes` are (kind, sentence)."""

    def __init__(self, rows: Iterable[Row] = (), notes: Iterable[tuple[str, str]] = ()) -> None:
        """Take the rows and the sentences."""
        super().__init__(rows)
        self.notes = tuple(notes)


def entry(recipe_text: str) -> dict[str, Any]:
    """Return a dataset's entry from the text of a prepared recipe; ConfigError if it is none."""
    values = parse_yaml(recipe_text, "the dataset's recipe")
    if not isinstance(values, dict):
        raise ConfigError(f"the dataset's recipe is not a table of keys: {WANTED}")
    for key in ("name", "reader", "classes"):
        if key not in values:
            raise ConfigError(f"the dataset's recipe lacks the key '{key}': {WANTED}")
    odd = [name for name in values["classes"] if ";" in str(name) or not str(name).strip()]
    if odd:
        raise ConfigError(f"class '{odd[0]}' of dataset {values['name']} is empty or holds a ';'")
    return values


def splits(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of an entry's folds ("1", "2", ...) or of its fixed splits."""
    if bool(values.get("folds")) == bool(values.get("splits")):
        name = values.get("name", "?")
        raise ConfigError(f"dataset {name}: datasets.yaml must give either 'folds' or 'splits'")
    return tuple(str(name) for name in values.get("folds") or values["splits"])


def reader(name: str) -> ModuleType:
    """Return the module `cmkd.data.NAME` if it reads a dataset, else raise ConfigError."""
    if name in _modules():
        module = importlib.import_module(f"cmkd.data.{name}")
        if hasattr(module, "rows"):
            return module
    raise ConfigError(f"unknown reader '{name}' in datasets.yaml{nearest(name, readers())}")


def readers() -> list[str]:
    """Return the names of all modules of this package that read a dataset."""
    found = [(name, importlib.import_module(f"cmkd.data.{name}")) for name in _modules()]
    return [name for name, module in found if hasattr(module, "rows")]


def _modules() -> list[str]:
    """Return the names of this package's modules without importing them."""
    return [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]


def needs_recordings(values: Mapping[str, Any], found: str) -> str:
    """Return the sentence for absent recordings: what is wrong, what to put where, whence."""
    obtain = str(values.get("obtain") or "see the dataset's own page for where to get it")
    sentence = (
        f"dataset {values['name']}: {found}; name the folder by --config data_root=PATH "
        f"(a verb of cmkd: --data-root PATH); {obtain.rstrip('.')}"
    )
    if _can_be_fetched(str(values["name"])):
        sentence += ", or add --config download=true (a verb of cmkd: --download) to fetch it"
    return f"{sentence}."


def _can_be_fetched(dataset: str) -> bool:
    """Tell whether the catalogue at hand knows where to fetch a dataset from."""
    try:
        return downloads.owner(Catalog(find(Path.cwd())), dataset) is not None
    except ConfigError:
        return False


def locate(
    entry: Mapping[str, Any],
    data_root: Path,
    look: Callable[[Path], Sequence[Found]],
    what: str,
    remedy: str = "give the one you mean as data_root",
) -> Found:
    """Return what `look` finds in `data_root` itself, else in one folder right below it.

    DataError where there is no such folder, nothing in it or more than one copy; `what` names what
    was looked for and `remedy` says what to do with several.
    """
    if not data_root.is_dir():
        raise DataError(needs_recordings(entry, f"there is no folder {data_root}"))
    itself = look(data_root)
    if itself:
        return itself[0]
    folders = [folder for folder in sorted(data_root.iterdir()) if folder.is_dir()]
    below = [(folder, found) for folder in folders for found in look(folder)]
    if len(below) > 1:
        names = ", ".join(folder.name for folder, _ in below)
        message = f"dataset {entry['name']}: {data_root} holds several copies of {what} ({names})"
        raise DataError(f"{message}; {remedy}.")
    if not below:
        problem = f"{data_root} holds no {what}, nor does a folder right below it"
        raise DataError(needs_recordings(entry, problem))
    return below[0][1]
