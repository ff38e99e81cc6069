"""Check claims.yaml and paper.yaml: their form by schema, then whether their words make sense."""

from collections.abc import Iterator, Mapping
from typing import Any

from cmkd.errors import nearest
from cmkd.plan import schemas
from cmkd.plan.catalog import Catalog, read_yaml
from cmkd.plan.claims import LETTERS, TEMPLATE, template_tokens

GIVEN_FORMS = ("one", "exists", "mean", "at_least")
THAN_FORMS = ("comparison", "less_than_reference")


def of_catalog(entries: Catalog) -> Iterator[str]:
    """Yield what is wrong with the claims and the published figures of a catalogue, if it has any.

    Raises:
        ConfigError: a file that is no YAML.
    """
    for name, check in (("claims", problems), ("paper", paper_problems)):
        path = entries.folder / f"{name}.yaml"
        if path.is_file():
            yield from check(read_yaml(path), entries, str(path))


def problems(document: Mapping[str, Any], entries: Catalog, where: str) -> list[str]:
    """Return a sentence for each thing that is wrong with a claims file.

    Args:
        document: what was read from claims.yaml.
        entries: the catalogue beside it, whose models, variants and datasets it may name.
        where: the file's name, which opens each sentence.
    """
    found = schemas.problems("claims", document, where)
    if found:
        return found
    for name, claim in document["claims"].items():
        found += [f"{where}: {name} {sentence}" for sentence in _claim(claim, entries)]
    found += _bars(document, entries, where)
    known = entries.models
    for model in document["defaults"].get("models", ()):
        if model not in known:
            found.append(f"{where}: defaults.models: '{model}' is no model{nearest(model, known)}")
    return found


def _bars(document: Mapping[str, Any], entries: Catalog, where: str) -> Iterator[str]:
    """Yield bars that name no published figure of their dataset."""
    path = entries.folder / "paper.yaml"
    figures = read_yaml(path) if path.is_file() else {}
    for name, claim in document["claims"].items():
        for dataset, bar in claim.get("bar", {}).items():
            if bar not in figures:
                yield f"{where}: {name} bar: '{bar}' is no figure in {path}{nearest(bar, figures)}"
            elif figures[bar].get("dataset") != dataset:
                yield f"{where}: {name} bar: '{bar}' is not a figure on '{dataset}'"


def paper_problems(document: Mapping[str, Any], entries: Catalog, where: str) -> list[str]:
    """Return a sentence for each thing that is wrong with the published figures."""
    found = schemas.problems("paper", document, where)
    for name, figure in document.items() if not found else ():
        entry = entries.datasets.get(figure["dataset"])
        if entry is None:
            hint = nearest(figure["dataset"], entries.datasets)
            found.append(f"{where}: {name}: '{figure['dataset']}' is no dataset{hint}")
        elif entry["metric"] != figure["metric"]:
            found.append(
                f"{where}: {name} is in {figure['metric']}, but '{figure['dataset']}' is scored "
                f"by {entry['metric']}"
            )
    return found


def _claim(claim: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield what makes no sense in one claim."""
    form = claim["form"]
    for key in ("datasets", "published_on", "bar"):
        for dataset in claim.get(key, ()):
            if dataset not in entries.datasets:
                yield f"{key}: '{dataset}' is no dataset{nearest(dataset, entries.datasets)}"
    if form == "probe":
        if "needs" not in claim or "pairs" in claim:
            yield "has the form probe, which takes needs and no pairs"
        return
    if "pairs" not in claim:
        yield f"has the form {form} but no pairs; say which runs it is about"
        return
    if ("than" in claim) != (form in THAN_FORMS):
        yield f"has the form {form}, which {'needs' if form in THAN_FORMS else 'takes no'} than"
    if form in THAN_FORMS and "each" not in claim:
        yield f"has the form {form}, which needs each: the letter within which sides are compared"
    if ("bar" in claim) != (form == "at_least" and "margin" not in claim):
        yield f"has the form {form}: 'at_least' takes either a margin or a bar, others no bar"
    for side in ("pairs", "than"):
        if side in claim:
            yield from (f"{side}: {text}" for text in _selector(claim[side], claim, entries))


def _selector(
    selector: Mapping[str, Any], claim: Mapping[str, Any], entries: Catalog
) -> Iterator[str]:
    """Yield what makes no sense in one selector."""
    given = selector.get("given") or {}
    templates = [selector["run"], *filter(None, [selector.get("over")]), *given.values()]
    used = {token for text in templates for token in template_tokens(text)} & set(LETTERS)
    if "over" not in selector and claim["form"] != "at_least":
        yield "the key 'over' is missing; say what the run is compared with"
    if given and claim["form"] not in GIVEN_FORMS:
        yield f"given fits the forms {', '.join(GIVEN_FORMS)} only"
    if claim["form"] == "one" and used:
        yield f"the form one names one pair; write words instead of {', '.join(sorted(used))}"
    if "where" in selector and not {"S", "T"} <= used:
        yield "where needs both S and T in the templates"
    if claim.get("each") and claim["each"] not in used:
        yield f"each: {claim['each']} stands in no template"
    if "V" in used and "V" not in selector:
        yield "V needs a list of variants"
    for letter in LETTERS:
        if letter in selector and letter not in used:
            yield f"{letter} is given words but stands in no template"
        yield from _range(letter, selector.get(letter), entries)
    for text in templates:
        yield from _template(text, entries)


def _range(letter: str, stated: Any, entries: Catalog) -> Iterator[str]:
    """Yield words that a letter cannot stand for."""
    if isinstance(stated, list):
        known = entries.variants if letter == "V" else entries.models
        what = "variant" if letter == "V" else "model"
        for word in stated:
            if word not in known:
                yield f"{letter}: '{word}' is no {what}{nearest(word, known)}"
    elif isinstance(stated, Mapping):
        families = entries.recipes["families"]
        for word in stated["families"]:
            if word not in families:
                yield f"{letter}: '{word}' is no family{nearest(word, families)}"


def _template(text: str, entries: Catalog) -> Iterator[str]:
    """Yield words of a template that are no dataset, model or variant."""
    found = TEMPLATE.fullmatch(text)
    if found is None:
        yield f"'{text}' is no template of a run, such as S+tau2@T"
        return
    if found["dataset"] and found["dataset"] not in entries.datasets:
        hint = nearest(found["dataset"], entries.datasets)
        yield f"'{text}': '{found['dataset']}' is no dataset{hint}"
    if found["readout"] == "peek":
        yield f"'{text}': no verdict may rest on an epoch chosen on the test clips; name another"
    for link in found["run"].split("@"):
        model, *variants = link.split("+")
        if model not in (*LETTERS[:2], *entries.models):
            yield f"'{text}': '{model}' is no model{nearest(model, entries.models)}"
        for variant in variants:
            if variant not in (LETTERS[2], *entries.variants):
                yield f"'{text}': '{variant}' is no variant{nearest(variant, entries.variants)}"
