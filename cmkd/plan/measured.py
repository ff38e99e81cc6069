"""What finished runs have cost: their cost.json and cost-evaluate.json, sorted by kind of work."""

import json
import statistics
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.errors import ConfigError
from cmkd.plan import names, work
from cmkd.plan.catalog import parse_yaml
from cmkd.plan.recipes import with_neutral
from cmkd.plan.suites import Suite

FILES = {"train": "cost.json", "evaluate": "cost-evaluate.json"}


class Record(NamedTuple):
    """What one finished training took, in seconds of wall time on its device.

    `start` is the part of `train` that does not grow with the epochs; `evaluate` is None where the
    run was not scored; `scored` counts how often the test clips were scored.
    """

    dataset: str
    run: str
    likeness: str
    device: str
    end: str
    epochs: int
    start: float
    train: float
    scored: int
    evaluate: float | None


class Measured:
    """The records below a suite's results, read once, of every run whose words are still known."""

    def __init__(self, suite: Suite) -> None:
        """Take the suite; nothing is read yet."""
        self.suite = suite
        self._recipes: dict[str, tuple[str, int, int] | None] = {}

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order of their folders."""
        datasets = dict.fromkeys(job.dataset for job in self.suite.jobs())
        return tuple(record for name in datasets for record in self._of_dataset(name))

    def _of_dataset(self, dataset: str) -> Iterator[Record]:
        """Yield the records of a dataset."""
        folder = self.suite.results / "runs" / dataset
        for path in sorted(folder.glob(f"*/fold-*/seed-*/{FILES['train']}")):
            record = self._record(dataset, path.parts[-4], path.parent)
            if record is not None:
                yield record

    def _record(self, dataset: str, run: str, folder: Path) -> Record | None:
        """Return what a run folder records, None where it is not whole."""
        cost, scoring = (_json(folder / name) for name in FILES.values())
        text = _text(folder / "recipe.yaml")
        kind = self._kind(dataset, run, text) if text else None
        if not cost or kind is None:
            return None
        seconds = cost.get("seconds", {})
        if not isinstance(seconds.get("total"), int | float):
            return None
        fixed = sum(seconds.get(key, 0.0) for key in ("start", "outputs"))
        evaluated = (scoring or {}).get("seconds", {}).get("total")
        likeness, epochs, scored = kind
        return Record(
            *(dataset, run, likeness, device(cost), str(cost.get("end", "")), epochs),
            *(float(fixed), float(seconds["total"]), scored, evaluated),
        )

    def _kind(self, dataset: str, run: str, text: str) -> tuple[str, int, int] | None:
        """Return likeness, epochs and scored readouts of a recorded recipe, None if unknown."""
        if text not in self._recipes:
            try:
                self._recipes[text] = self._read(dataset, run, text)
            except (ConfigError, KeyError, TypeError):  # a run of a catalogue that is gone
                self._recipes[text] = None
        return self._recipes[text]

    def _read(self, dataset: str, run: str, text: str) -> tuple[str, int, int]:
        """Read a recorded recipe; ConfigError or KeyError where its words are not known now."""
        teacher = names.parse(run).teacher
        above = self.suite.recipe(dataset, teacher).values if teacher else None
        values = with_neutral(parse_yaml(text, run))
        training = values["training"]
        scored = sum(work.scored(training).values())
        return work.likeness(values, above), int(training["epochs"]), scored


def device(cost: Mapping[str, Any]) -> str:
    """Return the name of what a cost file was measured on: prices of one say nothing of another."""
    count = cost.get("processes", 1)
    several = f", {count} at a run" if count != 1 else ""
    if cost.get("device_kind") != "cpu":
        return f"{cost.get('device')}{several}"
    threads = cost.get("threads", 1)
    return f"cpu, {threads} thread{'' if threads == 1 else 's'}{several}"


def middle(values: list[float]) -> float:
    """Return the median: one fold that was measured beside other work does not pull it."""
    return float(statistics.median(values))


def _json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where it is absent or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _text(path: Path) -> str | None:
    """Return a file's text, or None where it is absent or damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
