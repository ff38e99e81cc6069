"""Recipes: everything in the configuration that may change a run's weights, and nothing else.

Layers, each over the one before: defaults, dataset, family, dataset and family, model, the suite's
`set`, the link's variants. The text leaves out keys at their neutral value, so that a new key makes
nothing stale; the digest is of the text; a teacher's and an initial run's digest stand in it, so
that a change reaches exactly the runs below.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from cmkd.errors import ConfigError
from cmkd.files import sha256_text
from cmkd.plan import modules, names, objectives
from cmkd.plan.catalog import LIKE_A_NUMBER, Catalog, read_yaml

PARTS = ("input", "model", "objective", "training")

# Raised by one when a fix in the code changes results: every recipe with that part becomes stale.
BEHAVIOUR = {"input": 1, "model": 1, "objective": 1, "training": 1, "data": 1}

# A key at this value is left out of the recipe's text and filled back in when it is read.
NEUTRAL: dict[str, dict[str, Any]] = {
    "input": {
        "mixup": 0.0,
        "mixup_alpha": 10.0,  # left out at any value when there is no mixup
        "frequency_mask": 0,
        "time_mask": 0,
        "noise": 0.0,
        "roll": 0,
        "sampling": "uniform",
    },
    "model": {"weights": "none", "stem": "mean", "dropout": 0.0, "drop_path": 0.0},
    "objective": {"smoothing": 0.0, "teaching": "consistent"},  # and the OPTIONS of the objective
    "training": {"warmup_steps": 0, "readouts": []},
}

# What each builder in cmkd/models understands (its OPTIONS); one without gets every key.
BUILDERS: dict[str, tuple[str, ...]] = {
    name: tuple(constants["OPTIONS"])
    for name, constants in modules.literals("models", "build", ("OPTIONS",)).items()
    if "OPTIONS" in constants
}
COMMON_MODEL_KEYS = ("builder", "weights", "normalise")
SCHEDULES: dict[str, tuple[str, ...]] = {
    "constant": (),
    "step": ("start", "every", "factor"),
    "plateau": ("factor", "patience"),
}
MODEL = "{model}"  # in model.weights: the link's own model, as in run:audioset/{model}
AVERAGING = ("averaged", "checkpoints")  # readouts that need an epoch range
BY_EPOCH = ("checkpoints", "peek")  # readouts made of the epochs' test scores, without weights

# Keys whose numbers are real, so that 1 and 1.0 are the same recipe.
_REAL = {
    *("input.shift_ms", "input.mixup", "input.mixup_alpha", "input.noise"),
    *("model.dropout", "model.drop_path", "objective.lambda", "objective.tau"),
    *("model.normalise.factor", "model.normalise.mean", "model.normalise.std"),
    *("objective.smoothing", "training.lr", "training.betas", "training.weight_decay"),
    "training.schedule.factor",
}


class Origin(NamedTuple):
    """Where a value comes from: the layer's name and the file."""

    layer: str
    file: str


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: values as the verbs see them, text, digest, where each value is from."""

    values: dict[str, Any]
    text: str
    digest: str
    origin: dict[str, Origin] = field(default_factory=dict, compare=False)


class Layer(NamedTuple):
    """One mapping of parts, and where it stands."""

    origin: Origin
    parts: Mapping[str, Any]


def digest(text: str) -> str:
    """Return the first 16 hex digits of a text's sha256."""
    return sha256_text(text)[:16]


def dump(values: Mapping[str, Any]) -> str:
    """Write a mapping as YAML with sorted keys, the same bytes wherever it is written."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=1000)


class _Dumper(yaml.SafeDumper):
    """PyYAML's own dumper, without anchors: one list used twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an alias."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Quote what our own reader refuses bare: a digest such as 0123456e78901234 is no number."""
    style = "'" if LIKE_A_NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe file and fill neutral values back in; this is what the verbs work from.

    Raises ConfigError for a file that lacks a part of a run's recipe.
    """
    values = read_yaml(path)
    missing = [key for key in ("run", "depth", "dataset", *PARTS) if key not in values]
    if missing:
        raise ConfigError(
            f"{path} is no run's recipe: it lacks {', '.join(missing)}; give one that a plan has "
            "written (.cmkd/wanted/DATASET/RUN/)"
        )
    return with_neutral(values)


# ------------------------------------------------------------------------------------- the layers


def layers(
    catalog: Catalog, dataset: str | None, model: str, set_: Layer | None = None
) -> Iterator[Layer]:
    """Yield the layers of a model on a dataset, without variants, weakest first."""
    recipes, file = catalog.recipes, str(catalog.file("recipes"))
    entry = catalog.entry("models", model)
    family = entry["family"]
    yield Layer(Origin("defaults", file), recipes.get("defaults") or {})
    if dataset is not None:
        yield Layer(Origin(f"dataset {dataset}", file), _at(recipes, "datasets", dataset))
    yield Layer(Origin(f"family {family}", file), _at(recipes, "families", family))
    if dataset is not None:
        both = _at(recipes, "datasets_families", dataset, family)
        yield Layer(Origin(f"dataset {dataset}, family {family}", file), both)
    models = str(catalog.file("models"))
    yield Layer(Origin(f"model {model}", models), entry.get("recipe") or {})
    if set_ is not None:
        yield set_


def variant_layers(
    catalog: Catalog, dataset: str, run: names.Run, set_: Layer | None = None
) -> Iterator[Layer]:
    """Yield the layers of a link's variants, without those whose objective cannot touch the run."""
    file = str(catalog.file("variants"))
    builder = ""
    if run.variants:
        for layer in layers(catalog, dataset, run.model, set_):
            builder = (layer.parts.get("model") or {}).get("builder", builder)
    for word in run.variants:
        parts = catalog.entry("variants", word)
        if not objectives.idle(parts, BUILDERS.get(builder), run.teacher is not None):
            yield Layer(Origin(f"variant {word}", file), parts)


def _at(tree: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys, or an empty one."""
    for key in path:
        tree = tree.get(key) or {}
    return tree


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("training.schedule.factor", value) for every value of a tree of mappings."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def merge(stack: Iterator[Layer] | list[Layer]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Lay layers over each other; return the values and where each is from."""
    values: dict[str, Any] = {part: {} for part in PARTS}
    origin: dict[str, Origin] = {}
    for layer in stack:
        for key, value in leaves(layer.parts):
            if isinstance(value, Mapping):  # an empty mapping sets nothing
                continue
            put(values, key, value)
            origin[key] = layer.origin
    return values, origin


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its dotted key; real numbers are stored as such."""
    *path, last = key.split(".")
    for step in path:
        below = values.setdefault(step, {})
        if not isinstance(below, dict):
            below = values[step] = {}
        values = below
    values[last] = _canonical(key, value)


def _canonical(key: str, value: Any) -> Any:
    """Return a value in the one form in which a recipe holds it."""
    if isinstance(value, list):
        return [_canonical(key, item) for item in value]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and (key in _REAL or objectives.real(key)):
        return float(value)
    return value


# ----------------------------------------------------------------------- relevant and neutral keys


def relevant(values: Mapping[str, Any], taught: bool) -> dict[str, Any]:
    """Return the parts without the keys that cannot matter for this run."""
    result = {part: dict(values[part]) for part in PARTS}
    result["model"] = _relevant_model(result["model"])
    result["training"] = _relevant_training(result["training"])
    result["objective"] = objectives.relevant(result["objective"], taught)
    if not result["input"].get("mixup"):
        result["input"].pop("mixup_alpha", None)
    return result


def _relevant_model(part: dict[str, Any]) -> dict[str, Any]:
    """Keep what the builder understands; heads only with attention, sizes only of a plain trunk."""
    known = BUILDERS.get(part.get("builder", ""))
    if known is not None:
        part = {key: part[key] for key in part if key in (*COMMON_MODEL_KEYS, *known)}
    if part.get("head", "attention") != "attention":
        part.pop("heads", None)
    if part.get("trunk", "plain") != "plain":
        for key in ("dim", "depth", "heads"):
            part.pop(key, None)
    if part.get("weights", "none") == "none":
        part.pop("stem", None)  # how pretrained channels are joined
    return part


def _relevant_training(part: dict[str, Any]) -> dict[str, Any]:
    """Keep the schedule's own keys, and the epoch range only for readouts that average."""
    schedule = part.get("schedule", {})
    if schedule.get("kind") in SCHEDULES:
        known = ("kind", *SCHEDULES[schedule["kind"]])
        part["schedule"] = {key: schedule[key] for key in known if key in schedule}
    readouts = {part.get("readout"), *part.get("readouts", ())}
    if not readouts.intersection(AVERAGING):
        part.pop("average", None)
    return part


def without_neutral(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without the keys at their neutral value."""
    result = dict(values)
    for part in NEUTRAL:
        neutral = neutral_of(part, values[part])
        result[part] = {
            key: value
            for key, value in values[part].items()
            if key not in neutral or value != neutral[key]
        }
    return result


def neutral_of(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the neutral values of a part's keys, as far as its builder or objective has them."""
    if part == "objective":
        return objectives.neutral(values, NEUTRAL[part])
    known = BUILDERS.get(values.get("builder", "")) if part == "model" else None
    if known is None:
        return NEUTRAL[part]
    return {k: v for k, v in NEUTRAL[part].items() if k in (*COMMON_MODEL_KEYS, *known)}


def with_neutral(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with neutral keys filled in, where they mean something."""
    result = dict(values)
    for part in NEUTRAL:
        filled = neutral_of(part, values[part])
        copied = {k: list(v) if isinstance(v, list) else v for k, v in filled.items()}
        result[part] = copied | dict(values[part])
    return result


# ------------------------------------------------------------------------------------- resolving


def resolve(
    catalog: Catalog,
    dataset: str,
    run: names.Run,
    set_: Layer | None = None,
    teacher: Recipe | None = None,
    initial: Recipe | None = None,
) -> Recipe:
    """Resolve one run's recipe; the recipes of its teacher and of its initial run are given.

    Raises:
        ConfigError: an unknown dataset, model or variant, or two variants that set one key.
    """
    refuse_conflicts(catalog, run)
    stack = [
        *layers(catalog, dataset, run.model, set_),
        *variant_layers(catalog, dataset, run, set_),
    ]
    merged, origin = merge(stack)
    merged["model"]["weights"] = weights_for(merged["model"].get("weights", "none"), run.model)
    entry = catalog.entry("datasets", dataset)
    _published(merged, origin, entry, dataset, str(catalog.file("datasets")))
    parts = relevant(merged, run.teacher is not None)
    origin = {key: origin[key] for key, _ in leaves(parts) if key in origin}
    if run.teacher is None:
        origin["objective.name"] = Origin("a run without a teacher", "")
    for part in PARTS:
        parts[part]["behaviour"] = BEHAVIOUR[part]
    _own_code(parts)
    values: dict[str, Any] = {
        "run": str(run),
        "depth": run.depth,
        "dataset": {
            "name": dataset,
            "labels": entry["labels"],
            "classes": len(entry["classes"]),
            "classes_digest": digest("\n".join(entry["classes"])),  # their order is the outputs'
            "metric": entry["metric"],
        },
        **parts,
    }
    if teacher is not None:
        values["teacher"] = {"run": str(run.teacher), "recipe": teacher.digest}
    if initial is not None:
        source, name = initial_name(str(values["model"]["weights"]))
        values["initial"] = {"run": name, "dataset": source, "recipe": initial.digest}
    return finish(values, origin)


def _own_code(parts: dict[str, Any]) -> None:
    """Note the version that a builder's or an objective's file gives itself, unless it is 1."""
    files = (
        ("model", "models", "build", "builder"),
        ("objective", "learning/objectives", "loss", "name"),
    )
    for part, package, function, key in files:
        found = modules.literals(package, function, ("BEHAVIOUR",)).get(
            parts[part].get(key, ""), {}
        )
        if found.get("BEHAVIOUR", 1) != 1:
            parts[part]["code"] = found["BEHAVIOUR"]


def finish(values: Mapping[str, Any], origin: dict[str, Origin]) -> Recipe:
    """Make the recipe of resolved values: text without neutral keys, digest, all values."""
    text = dump(without_neutral(values))
    return Recipe(with_neutral(values), text, digest(text), origin)


def _published(
    values: dict[str, Any],
    origin: dict[str, Origin],
    entry: Mapping[str, Any],
    dataset: str,
    file: str,
) -> None:
    """Write the dataset's published constants into `normalise` where the recipe asks for them."""
    normalise = values["model"].get("normalise", {})
    if normalise.get("statistics") != "published":
        return
    constants = entry.get("published_statistics")
    if not constants:
        raise ConfigError(
            f"The dataset '{dataset}' has no published_statistics in {file}; add them there or set "
            "model.normalise.statistics to fold"
        )
    for key in ("mean", "std"):
        put(values, f"model.normalise.{key}", constants[key])
        origin[f"model.normalise.{key}"] = Origin(f"dataset {dataset}", file)


def initial_name(weights: str) -> tuple[str, str]:
    """Split `run:DATASET/RUN` into dataset and run.

    Raises:
        ConfigError: it has another form.
    """
    dataset, slash, run = weights.removeprefix("run:").partition("/")
    if not slash or not names.is_word(dataset):
        raise ConfigError(
            f"model.weights '{weights}' must be none, imagenet, the path of a .safetensors file or "
            "run:DATASET/RUN"
        )
    return dataset, str(names.parse(run))


def refuse_conflicts(catalog: Catalog, run: names.Run) -> None:
    """Refuse two variants of one link that set the same key."""
    setter: dict[str, str] = {}
    for word in run.variants:
        for key, _ in leaves(catalog.entry("variants", word)):
            if key in setter:
                raise ConfigError(
                    f"The variants '{setter[key]}' and '{word}' of '{run}' both set {key}; "
                    "leave one out"
                )
            setter[key] = word


def model_part(catalog: Catalog, model: str) -> dict[str, Any]:
    """Return the part `model` of a model by itself, without dataset, suite and variants."""
    merged, _ = merge(layers(catalog, None, model))
    part: dict[str, Any] = with_neutral(relevant(merged, taught=True))["model"]
    return part


def weights_of(catalog: Catalog, dataset: str, run: names.Run, set_: Layer | None) -> str:
    """Return only `model.weights` of a run: what its recipe must be resolved after."""
    value = NEUTRAL["model"]["weights"]
    for layer in (
        *layers(catalog, dataset, run.model, set_),
        *variant_layers(catalog, dataset, run, set_),
    ):
        value = (layer.parts.get("model") or {}).get("weights", value)
    return weights_for(value, run.model)


def weights_for(weights: Any, model: str) -> str:
    """Return `model.weights` with `{model}` replaced, so that one word serves every model."""
    return str(weights).replace(MODEL, model)
