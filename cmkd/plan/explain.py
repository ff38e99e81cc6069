"""Explain a recipe: every value of a run with the layer and the file that it comes from."""

from collections.abc import Iterator
from typing import Any

import yaml

from cmkd.errors import ConfigError, nearest
from cmkd.plan import names
from cmkd.plan.recipes import PARTS, Origin, Recipe, leaves, neutral_of
from cmkd.plan.suites import Suite

CODE = "cmkd/plan/recipes.py"


def explain(suite: Suite, dataset: str, run: str) -> str:
    """Return a table of every value of a run's recipe: key, value, layer, file.

    A value marked with `-` is neutral: it stands in no recipe's text, so it makes nothing stale.

    Raises:
        ConfigError: the dataset or the run is not known.
    """
    if dataset not in suite.entries.datasets:
        hint = nearest(dataset, suite.entries.datasets)
        raise ConfigError(f"There is no dataset '{dataset}' in suite {suite.name}{hint}")
    recipe = suite.recipe(dataset, names.parse(run))
    rows = [("", *row) for row in _head(suite, dataset, recipe)]
    for part in PARTS:
        rows += [
            _row(recipe, part, *leaf)
            for leaf in sorted(leaves(recipe.values[part]), key=lambda leaf: leaf[0])
        ]
    return "\n".join([_title(suite, dataset, run, recipe), *_table(rows)])


def _title(suite: Suite, dataset: str, run: str, recipe: Recipe) -> str:
    """Return the first lines: what the run is, and its digest."""
    family, klass, direction = suite.family(run), suite.klass(run), suite.direction(run)
    return (
        f"{run} on {dataset}: family {family}, class {klass}, direction {direction}\n"
        f"recipe {recipe.digest} (suite {suite.name}); '-' marks neutral values, which stand in no "
        "recipe's text"
    )


def _head(suite: Suite, dataset: str, recipe: Recipe) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows above the parts: the dataset and the recipes that this one stands on."""
    entry = f"dataset {dataset}"
    file = str(suite.entries.file("datasets"))
    for key, value in recipe.values["dataset"].items():
        yield f"dataset.{key}", show(value), entry, file
    yield "depth", show(recipe.values["depth"]), "name of the run", ""
    for key in ("teacher", "initial"):
        for name, value in recipe.values.get(key, {}).items():
            yield (
                f"{key}.{name}",
                show(value),
                "name of the run" if key == "teacher" else "weights",
                "",
            )


def _row(recipe: Recipe, part: str, key: str, value: Any) -> tuple[str, str, str, str, str]:
    """Return the row of one value of a part."""
    dotted = f"{part}.{key}"
    layer, file = recipe.origin.get(dotted, Origin("neutral value", CODE))
    if key == "behaviour":
        layer, file = "code", CODE
    neutral = neutral_of(part, recipe.values[part])
    return "-" if key in neutral and value == neutral[key] else "", dotted, show(value), layer, file


def show(value: Any) -> str:
    """Return a value as it is written in YAML, on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).split("\n")[0]


def _table(rows: list[tuple[str, str, str, str, str]]) -> Iterator[str]:
    """Yield the rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
