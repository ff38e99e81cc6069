"""docs/recipes.md: the recipes of all data sets and families side by side, values with sources.

Written by `cmkd explain --all` from recipes.yaml and variants.yaml and their comments; what people
wrote around the tables stands in docs/recipes.in.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd.plan import recipes
from cmkd.plan.catalog import Catalog
from cmkd.plan.comments import Comment, Place, comments
from cmkd.plan.explain import show

Values = dict[str, dict[str, Any]]
RECIPES, VARIANTS = "<!-- recipes -->", "<!-- variants -->"
NO_TEXT = f"# Recipes\n\n{RECIPES}\n\n## Variants\n\n{VARIANTS}\n"
SILENT = Comment("", "")


def handbook(catalog: Catalog, text: str = NO_TEXT) -> str:
    """Return the page: `text` with its two marks replaced by the tables of the catalogue."""
    recipe_tables = "\n".join(_recipes(catalog)).strip()
    variant_tables = "\n".join(_variants(catalog)).strip()
    return text.replace(RECIPES, recipe_tables).replace(VARIANTS, variant_tables)


def page(catalog: Catalog, frame: Path) -> str:
    """Return the page with the text of a file around the tables, if the file is there."""
    return handbook(catalog, frame.read_text(encoding="utf-8") if frame.is_file() else NO_TEXT)


# ------------------------------------------------------------------------------------- data sets


def _recipes(catalog: Catalog) -> Iterator[str]:
    """Yield a section for each data set that recipes.yaml has a layer for, equal ones together."""
    said = comments(catalog.file("recipes"))
    sections: dict[str, list[str]] = {}
    for dataset in catalog.recipes.get("datasets") or {}:
        table = "\n".join(_dataset(catalog, dataset, said))
        sections.setdefault(table, []).append(dataset)
    for table, datasets in sections.items():
        yield f"### {', '.join(datasets)}\n\n{table}\n"


def _dataset(catalog: Catalog, dataset: str, said: Mapping[Place, Comment]) -> Iterator[str]:
    """Yield the table of one data set: a column for each set of families with equal values."""
    families = tuple(catalog.recipes["families"])
    values = {family: family_values(catalog, dataset, family) for family in families}
    columns = _columns(values)
    yield _line(["key", *(", ".join(group) for group in columns), "grade, source", "note"])
    yield _line(["---"] * (len(columns) + 3))
    for part, key in _keys(values.values()):
        cells = [_cell(values[group[0]], part, key) for group in columns]
        places = {g: _place(catalog, dataset, g[0], part, key) for g in columns}
        set_at = {group: place for group, place in places.items() if place}
        found = {group: said.get(place, SILENT) for group, place in set_at.items()}
        grades = {group: _grade(said, place) for group, place in set_at.items()}
        notes = {group: f"{c.above} {c.note}".strip() for group, c in found.items()}
        yield _line([f"{part}.{key}", *cells, _joined(grades), _joined(notes)])


def family_values(catalog: Catalog, dataset: str, family: str) -> Values:
    """Return a family's values on a data set, before model, suite and variants."""
    stack = [
        recipes.Layer(recipes.Origin("", ""), _at(catalog.recipes, place))
        for place in _places(dataset, family)
    ]
    merged, _ = recipes.merge(stack)
    return recipes.relevant(merged, taught=True)


def _places(dataset: str, family: str) -> tuple[Place, ...]:
    """Return where a family's layers stand in recipes.yaml, weakest first."""
    return (
        ("defaults",),
        ("datasets", dataset),
        ("families", family),
        ("datasets_families", dataset, family),
    )


def _at(tree: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Return what stands at a path of keys, an empty mapping where nothing does."""
    for key in place:
        tree = tree.get(key) or {}
    return tree


def _place(catalog: Catalog, dataset: str, family: str, part: str, key: str) -> Place | None:
    """Return the place of the strongest layer that sets a key."""
    for place in reversed(_places(dataset, family)):
        if key in _at(catalog.recipes, (*place, part)):
            return (*place, part, key)
    return None


def _grade(said: Mapping[Place, Comment], place: Place) -> str:
    """Return the grade at a value, else that of the layer it stands in."""
    at = (place, *(place[:length] for length in range(len(place) - 1, 0, -1)))
    return next((said[p].grade for p in at if p in said and said[p].grade), "")


def _columns(values: Mapping[str, Values]) -> list[tuple[str, ...]]:
    """Return the families, those with equal values together."""
    groups: list[list[str]] = []
    for family, own in values.items():
        for group in groups:
            if values[group[0]] == own:
                group.append(family)
                break
        else:
            groups.append([family])
    return [tuple(group) for group in groups]


def _keys(several: Any) -> Iterator[tuple[str, str]]:
    """Yield (part, key) of all values, in the order in which they are written."""
    several = list(several)
    for part in recipes.PARTS:
        for key in dict.fromkeys(key for values in several for key in values[part]):
            yield part, key


def _cell(values: Values, part: str, key: str) -> str:
    """Return a value for a table, empty where the family has none."""
    return show(values[part][key]) if key in values[part] else ""


def _joined(texts: Mapping[tuple[str, ...], str]) -> str:
    """Return one text where all agree, else each with the families it is about."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{', '.join(group)}: {text}" for group, text in texts.items() if text)


# -------------------------------------------------------------------------------------- variants


def _variants(catalog: Catalog) -> Iterator[str]:
    """Yield a table for each group of words, under the comment that stands above the group."""
    said = comments(catalog.file("variants"))
    started = False
    for word, parts in catalog.variants.items():
        comment = said.get((word,), SILENT)
        if comment.above or not started:
            yield f"\n{comment.above}\n"
            yield _line(["word", "sets", "grade, source", "note"])
            yield _line(["---"] * 4)
            started = True
        sets = "; ".join(f"{key}: {show(value)}" for key, value in recipes.leaves(parts))
        yield _line([f"`{word}`", sets, comment.grade, comment.note])


def _line(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
