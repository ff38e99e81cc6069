"""Check a suite and its catalogue whole, before the first job: form, sense, and the runs they make.

Each check yields sentences; all of them are raised together, so that one look mends everything.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cmkd.errors import ConfigError, nearest
from cmkd.plan import (
    claim_checks,
    class_lists,
    ensembles,
    names,
    objectives,
    recipe_checks,
    recipes,
    schemas,
)
from cmkd.plan import downloads as downloading
from cmkd.plan.catalog import FILES, Catalog, read_yaml
from cmkd.plan.modules import named as modules
from cmkd.plan.suites import PAIRS, Suite, identity

DEFAULT_RESULTS = "results"
# Options of an entry in datasets.yaml beside those of every dataset, by reader.
READERS: dict[str, tuple[str, ...]] = {
    "audioset": ("lists",),
    "esc50": ("only_esc10",),
    "folder": ("table",),
    "fsd50k": (),
    "toy": ("clips_per_class", "clips", "seconds", "seed"),
}


def check(config: Mapping[str, Any], catalog: Path, where: str = "suite") -> None:
    """Check a suite and the catalogue that it stands on.

    Args:
        config: the suite's keys.
        catalog: the folder with datasets.yaml, models.yaml, recipes.yaml and variants.yaml.
        where: the suite's file, for messages.

    Raises:
        ConfigError: listing every problem that was found.
    """
    check_entries(config, Catalog(catalog), where)


def check_entries(config: Mapping[str, Any], entries: Catalog, where: str) -> Suite:
    """Do what `check` does with a catalogue that is then used; return the suite, its recipes made.

    Files are read once and recipes resolved once: half of the time for a suite of thousands.
    """
    found = [*_form(config, entries, where)]
    sense = (_catalog_sense(entries), *_suite_sense(_formed(config), entries, where))
    for sentences in sense:
        found += _as_far_as_formed(sentences) if found else sentences
    refuse(found)
    suite = Suite(config, *identity(config, Path(where)), Path(where), entries)
    refuse(_runs_sense(suite, where))
    return suite


def _formed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a suite without those of its lists that are none."""
    kinds = {"datasets": str, "models": str, "variants": str, "pairs": str, "folds": int}
    return {
        key: value
        for key, value in config.items()
        if key not in kinds
        or value == "all"
        or (isinstance(value, list) and all(isinstance(word, kinds[key]) for word in value))
    }


def _as_far_as_formed(sentences: Iterator[str]) -> Iterator[str]:
    """Yield sentences until one trips over a form that is broken, which was said already."""
    with contextlib.suppress(ConfigError, LookupError, TypeError, AttributeError, ValueError):
        yield from sentences


def refuse(problems: Iterable[str]) -> None:
    """Raise one ConfigError that lists the problems, each once; none is no error."""
    listed = list(dict.fromkeys(problems))
    if len(listed) == 1:
        raise ConfigError(listed[0])
    if listed:
        raise ConfigError("\n  - ".join([f"{len(listed)} problems in the configuration:", *listed]))


# ------------------------------------------------------------------------------------------- form


def _form(config: Mapping[str, Any], entries: Catalog, where: str) -> Iterator[str]:
    """Yield what breaks a schema or is not YAML, in all files."""
    yield from schemas.problems("suite", dict(config), where)
    for kind in FILES:
        try:
            document = getattr(entries, kind)
        except ConfigError as error:
            yield str(error)
        else:
            yield from schemas.problems(kind, document, str(entries.file(kind)))
            if kind == "datasets":
                for sentence in class_lists.problems(document, entries.folder):
                    yield f"{entries.file(kind)}: {sentence}"


# -------------------------------------------------------------------------------------- catalogue


def _catalog_sense(entries: Catalog) -> Iterator[str]:
    """Yield what does not fit together among the four files."""
    for name, entry in entries.datasets.items():
        for sentence in (*_dataset(entry), *downloading.problems(entry, entries.datasets)):
            yield f"{entries.file('datasets')}: {name} {sentence}"
    for name, entry in entries.models.items():
        for sentence in _model(entry, name, entries):
            yield f"{entries.file('models')}: {name} {sentence}"
    for sentence in _layers(entries):
        yield f"{entries.file('recipes')}: {sentence}"
    for name, parts in entries.variants.items():
        if not any(True for _ in recipes.leaves(parts)):
            yield f"{entries.file('variants')}: {name} sets nothing; give it a value or remove it"
        for sentence in _layer(parts, entries):
            yield f"{entries.file('variants')}: {name}: {sentence}"
    yield from claim_checks.of_catalog(entries)


def _dataset(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes no sense in one entry of datasets.yaml."""
    if ("folds" in entry) == ("splits" in entry):
        yield "must have either folds or splits, not both or none"
    if entry["metric"] == "accuracy" and entry["labels"] == "multi":
        yield "has labels multi and metric accuracy; multi-label clips are scored by map"
    if "mids" in entry and len(entry["mids"]) != len(entry["classes"]):
        yield f"has {len(entry['mids'])} mids for {len(entry['classes'])} classes; give one each"
    if not modules("data", "rows") & {entry["reader"]}:
        hint = nearest(entry["reader"], modules("data", "rows"))
        yield f"has a reader '{entry['reader']}' that is no module in cmkd/data{hint}"
    elif entry["reader"] in READERS:
        known = {*schemas.keys("datasets"), *READERS[entry["reader"]]}
        for key in entry:
            if key not in known:
                yield f"has an unknown key '{key}'{nearest(key, known)}"


def _model(entry: Mapping[str, Any], name: str, entries: Catalog) -> Iterator[str]:
    """Yield what makes no sense in one entry of models.yaml."""
    families = entries.recipes["families"] or {}
    if entry["family"] not in families:
        hint = nearest(entry["family"], families)
        yield f"has a family '{entry['family']}' that is not in {entries.file('recipes')}{hint}"
        return
    for sentence in objectives.layer_problems(entry["recipe"].get("objective") or {}):
        yield f"has a recipe in which {sentence}"
    merged, _ = recipes.merge(recipes.layers(entries, None, name))
    builder = merged["model"].get("builder")
    if builder not in modules("models", "build"):
        hint = nearest(builder, modules("models", "build"))
        yield f"has a builder '{builder}' that is no module in cmkd/models{hint}"
    if builder in recipes.BUILDERS:
        known = recipes.BUILDERS[builder]
        for key in entry["recipe"].get("model") or {}:
            if key not in (*recipes.COMMON_MODEL_KEYS, *known):
                hint = nearest(key, known)
                yield f"sets model.{key}, which the builder '{builder}' lacks{hint}"


def _layers(entries: Catalog) -> Iterator[str]:
    """Yield words in recipes.yaml that name no dataset, family or option."""
    file, families = entries.recipes, entries.recipes.get("families") or {}
    for part in ("datasets", "datasets_families"):
        for dataset in file.get(part) or {}:
            if dataset not in entries.datasets:
                hint = nearest(dataset, entries.datasets)
                yield f"{part} has a layer for '{dataset}', which is no dataset{hint}"
    for dataset, layers in (file.get("datasets_families") or {}).items():
        for family in layers:
            if family not in families:
                hint = nearest(family, families)
                yield f"datasets_families.{dataset} has '{family}', which is no family{hint}"
    for place, parts in _all_layers(file):
        yield from (f"{place}: {sentence}" for sentence in _layer(parts, entries))


def _all_layers(file: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every layer of recipes.yaml with its place."""
    yield "defaults", file.get("defaults") or {}
    for group in ("datasets", "families"):
        for name, parts in (file.get(group) or {}).items():
            yield f"{group}.{name}", parts or {}
    for dataset, layers in (file.get("datasets_families") or {}).items():
        for family, parts in layers.items():
            yield f"datasets_families.{dataset}.{family}", parts or {}


def _layer(parts: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield options of a layer that no builder and no objective has, and values they refuse."""
    for key in _unknown_options(parts.get("model") or {}, entries):
        yield f"unknown key {key}"
    yield from objectives.layer_problems(parts.get("objective") or {})


def _unknown_options(part: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield model options of a layer that no builder has; others' options are the entries' own."""
    known = {
        *recipes.COMMON_MODEL_KEYS,
        *(key for keys in recipes.BUILDERS.values() for key in keys),
    }
    for entry in entries.models.values():
        known.update((entry.get("recipe") or {}).get("model") or {})
    for key in part:
        if key not in known:
            yield f"'model.{key}'{nearest(key, known)}"


# ------------------------------------------------------------------------------------------ suite


def _suite_sense(
    config: Mapping[str, Any], entries: Catalog, where: str
) -> Iterator[Iterator[str]]:
    """Yield, for each check of the suite's own keys, the sentences of what makes no sense."""
    checks: tuple[Callable[[Mapping[str, Any], Catalog], Iterator[str]], ...]
    checks = (_words, _pairs, _ensembles, _folds, _results, _secrets, _set, _roots)
    for one in checks:
        yield _at(where, one(config, entries))
    yield _at(where, _rivals(config, entries, Path(where)))


def _at(where: str, sentences: Iterator[str]) -> Iterator[str]:
    """Yield sentences with the file that they are about."""
    return (f"{where}: {sentence}" for sentence in sentences)


def _set(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield model options in `set:` that no builder has."""
    yield from (f"set: {sentence}" for sentence in _layer(config.get("set") or {}, entries))


def _roots(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield keys of a mapping `data_root` that name no dataset."""
    roots = config.get("data_root")
    for word in roots if isinstance(roots, Mapping) else ():
        if word not in entries.datasets:
            file = entries.file("datasets")
            yield f"data_root: '{word}' is not in {file}{nearest(word, entries.datasets)}"


def _without_root(suite: Suite) -> Iterator[str]:
    """Yield the datasets that a mapping `data_root` forgets, those needed by closure included."""
    if not isinstance(suite.config.get("data_root"), Mapping):
        return  # what is not stated at all may be prepared already
    made_in_code = modules("data", "samples")
    for dataset in dict.fromkeys(job.dataset for job in suite.jobs()):
        known = suite.root(dataset) or suite.dataset(dataset)["reader"] in made_in_code
        if not known:
            yield f"data_root: there is no path for the dataset '{dataset}'; add '{dataset}: PATH'"


def _words(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield words of datasets, models and variants that are not in the catalogue."""
    for kind in ("datasets", "models", "variants"):
        known = getattr(entries, kind)
        for word in config.get(kind) or ():
            if word not in known:
                file = entries.file(kind)
                yield f"{kind}: '{word}' is not in {file}{nearest(word, known)}"


def _pairs(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield what is wrong with the pairs: words, and kinds that find nothing."""
    models = [model for model in config["models"] if model in entries.models]
    classes = [entries.models[model]["class"] for model in models]
    for word in config.get("pairs") or ():
        if word not in PAIRS:
            yield from _explicit(word, entries, "pairs", PAIRS)
        elif len(models) < len(config["models"]):
            continue  # said already
        elif word == "cross" and len(set(classes)) < 2:
            yield "pairs: cross finds no pair, since all models are of one class; remove it"
        elif word == "same" and len(set(classes)) == len(classes):
            yield "pairs: same finds no pair, since no two models are of one class; remove it"


def _ensembles(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield what is wrong with the runs of ensembles, and ensembles of one."""
    for ensemble in ensembles.read(config):
        for word in ensemble.runs:
            yield from _explicit(word, entries, f"ensembles.{ensemble.name}")
    yield from ensembles.too_few(config)


def _explicit(word: str, entries: Catalog, key: str, others: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what is wrong with a run that a key names, where other words may stand too."""
    if ensembles.PREFIX in word:
        yield (
            f"{key}: '{word}' names an ensemble, which is no run: it is not trained and cannot "
            "teach or be a member; name its runs"
        )
        return
    try:
        run = names.parse(word)
    except ConfigError as error:
        yield f"{key}: {error}"
        return
    for link in run.chain():
        if link.model not in entries.models:
            known = entries.models if "@" in word or "+" in word else (*others, *entries.models)
            yield f"{key}: '{word}': there is no model '{link.model}'{nearest(link.model, known)}"
        for variant in link.variants:
            if variant not in entries.variants:
                hint = nearest(variant, entries.variants)
                yield f"{key}: '{word}': there is no variant '{variant}'{hint}"


def _folds(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield folds that a dataset of the suite lacks."""
    wanted = config.get("folds", "all")
    if wanted == "all":
        return
    for dataset in config["datasets"]:
        folds = entries.datasets.get(dataset, {}).get("folds")
        for fold in wanted:
            if folds and fold not in folds:
                has = ", ".join(map(str, folds))
                yield f"folds: '{dataset}' has no fold {fold}; it has {has}"


def _results(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield a `set:` without results of its own."""
    results = Path(str(config.get("results", DEFAULT_RESULTS)))
    if config.get("set") and results == Path(DEFAULT_RESULTS):
        yield (
            "a suite with 'set:' needs a 'results:' folder of its own, else two suites fight over "
            "the same runs; add such as 'results: results/NAME'"
        )


def _secrets(config: Mapping[str, Any], entries: Catalog) -> Iterator[str]:
    """Yield a password in an address: `execution:` is written into every cost.json."""
    if re.search("//[^/]*@|password=", str((config.get("execution") or {}).get("tracking_uri"))):
        yield "execution.tracking_uri holds a password: set it as MLFLOW_TRACKING_PASSWORD instead"


def _rivals(config: Mapping[str, Any], entries: Catalog, where: Path) -> Iterator[str]:
    """Yield suites beside this one that keep other recipes in the same results."""
    own, catalog = identity(config, where)
    if not config.get("set"):
        return
    results = Path(str(config.get("results", DEFAULT_RESULTS)))
    for file in sorted(catalog.glob("*.yaml")):
        if file.stem in FILES or f"{results}" not in file.read_text(encoding="utf-8"):
            continue
        try:
            other = read_yaml(file)
        except ConfigError:
            continue  # said when that suite is loaded
        name, _ = identity(other, file)
        same = Path(str(other.get("results", DEFAULT_RESULTS))) == results
        if "datasets" in other and name != own and same and other.get("set") != config["set"]:
            yield (
                f"results: {results} belongs to the suite {file} too, whose 'set:' differs; "
                "give one of them another folder"
            )


# ------------------------------------------------------------------------------------------- runs


def _runs_sense(suite: Suite, where: str) -> Iterator[str]:
    """Yield what makes no sense in the recipes of all runs, teachers and initial runs included."""
    found: list[str] = []
    for dataset in suite.datasets:
        found += _try(partial(_run_list, suite, dataset))
    if not found:
        found += _try(partial(_closure, suite))
        found += _try(partial(_without_root, suite))
    yield from (f"{where}: {sentence}" for sentence in found)


def _try(sentences: Callable[[], Iterable[str]]) -> list[str]:
    """Return sentences; an error on the way is one too."""
    try:
        return list(sentences())
    except ConfigError as error:
        return [str(error)]


def _run_list(suite: Suite, dataset: str) -> list[str]:
    """Return what is wrong with the listed runs: recipes that cannot be made, idle variants."""
    found: list[str] = []
    base = suite.base_runs()
    named = dict.fromkeys([*base, *suite.members()])
    for run in named:
        found += _try(partial(_made, suite, dataset, run))
    if found:
        return found
    for run in named:
        found += _try(partial(_idle, suite, dataset, run))
    for variant in suite.config.get("variants") or ():
        plain = [run for run in base if not run.variants]
        if not any(suite.touches(dataset, run, variant) for run in plain):
            found.append(f"variants: '{variant}' changes nothing in any run on '{dataset}'")
    return found


def _made(suite: Suite, dataset: str, run: names.Run) -> tuple[()]:
    """Make a recipe for the errors on the way."""
    suite.recipe(dataset, run)
    return ()


def _idle(suite: Suite, dataset: str, run: names.Run) -> Iterator[str]:
    """Yield the variants of an explicit run that change nothing, in any of its links."""
    for link in run.chain():
        for variant in link.variants:
            rest = tuple(word for word in link.variants if word != variant)
            if not _matters(suite, dataset, names.Run(link.model, rest, link.teacher), variant):
                yield (
                    f"the variant '{variant}' changes nothing in '{link}' on '{dataset}'; "
                    f"leave it out"
                )


def _matters(suite: Suite, dataset: str, run: names.Run, variant: str) -> bool:
    """Tell whether a variant changes a run; without it the run may be impossible."""
    try:
        return suite.touches(dataset, run, variant)
    except ConfigError:
        return True


def _closure(suite: Suite) -> Iterator[str]:
    """Yield what is wrong with every run, listed or needed by a listed one."""
    for dataset, run in dict.fromkeys((job.dataset, job.run) for job in suite.jobs()):
        names.parse(run)  # too long once variants are added
        for sentence in recipe_checks.problems(
            suite.recipe(dataset, run).values, suite.dataset(dataset)
        ):
            yield f"'{run}' on '{dataset}': {sentence}"
