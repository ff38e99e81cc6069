"""What makes no sense in one resolved recipe: values that are missing or do not fit together."""

from collections.abc import Iterator, Mapping
from typing import Any

from cmkd.errors import nearest
from cmkd.plan import objectives, recipes

SAMPLE_RATE = 16000  # Hz; the only rate that prepared clips have
# What a recipe cannot do without, by part; builders and schedules say more below.
NEEDED = {
    "input": ("sample_rate", "mel_bins", "shift_ms", "frames"),
    "model": ("builder", "normalise.statistics", "normalise.factor"),
    "objective": ("name",),
    "training": (
        *("optimiser", "lr", "betas", "weight_decay", "batch", "epochs"),
        *("schedule.kind", "readout"),
    ),
}
NEEDED_BY_BUILDER = {
    "cnn": ("backbone", "head"),
    "small_cnn": ("widths", "head"),
    "ast": ("trunk", "patch", "stride", "token"),
}


def problems(values: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with one recipe's values on a dataset with this entry."""
    missing = list(_missing(values))
    yield from (f"{key} is set by no layer; set it in recipes.yaml" for key in missing)
    if missing:
        return
    yield from _input(values["input"])
    yield from _model_part(values["model"], values["input"])
    yield from objectives.problems(values)
    yield from _training(values["training"], "val" in (entry.get("splits") or ()))


def _missing(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys that a recipe needs and lacks."""
    taught = "teacher" in values
    builder, kind = values["model"].get("builder"), values["training"].get("schedule", {})
    needed = {part: list(keys) for part, keys in NEEDED.items()}
    needed["objective"] += objectives.needed(values["objective"]) if taught else ()
    needed["model"] += NEEDED_BY_BUILDER.get(str(builder), ())
    if values["model"].get("head") == "attention":
        needed["model"].append("heads")
    if values["model"].get("trunk") == "plain":
        needed["model"] += ("dim", "depth", "heads")
    needed["training"] += (f"schedule.{k}" for k in recipes.SCHEDULES.get(kind.get("kind"), ()))
    readouts = {values["training"].get("readout"), *values["training"]["readouts"]}
    if readouts.intersection(recipes.AVERAGING):
        needed["training"].append("average")
    for part, keys in needed.items():
        there = dict(recipes.leaves(values[part]))
        yield from (f"{part}.{key}" for key in keys if key not in there)


def _input(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the part `input`."""
    if part["sample_rate"] != SAMPLE_RATE:
        yield f"input.sample_rate is {part['sample_rate']}, but only {SAMPLE_RATE} is supported"
    for mask, size in (("frequency_mask", "mel_bins"), ("time_mask", "frames")):
        if part[mask] > part[size]:
            yield f"input.{mask} {part[mask]} is wider than input.{size} {part[size]}; lower it"


def _model_part(part: Mapping[str, Any], view: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the part `model`."""
    if part["builder"] == "ast":
        for size, name, there in zip(
            part["patch"], ("mel_bins", "frames"), (view["mel_bins"], view["frames"]), strict=True
        ):
            if size > there:
                yield f"model.patch is {size} long where input.{name} is {there}; one must change"
    weights = part["weights"]
    if weights in ("none", "imagenet") or weights.startswith("run:"):
        return
    if not weights.endswith(".safetensors"):
        known = ("none", "imagenet")
        yield (
            f"model.weights '{weights}' must be none, imagenet, the path of a .safetensors file or "
            f"run:DATASET/RUN{nearest(weights, known)}"
        )


def _training(part: Mapping[str, Any], validated: bool) -> Iterator[str]:
    """Yield what is wrong with the part `training`."""
    readouts = (part["readout"], *part["readouts"])
    if part["readout"] in recipes.BY_EPOCH:
        yield (
            f"training.readout {part['readout']} has no weights, so it can be no headline and "
            "teach nobody; set last, averaged or best and list it under training.readouts"
        )
    if not validated and "best" in readouts:
        yield "training.readout best needs a validation split, which the dataset lacks; use last"
    if not validated and part["schedule"]["kind"] == "plateau":
        yield (
            "training.schedule plateau needs a validation split, which the dataset lacks; "
            "use step or constant"
        )
    if part["readout"] in part["readouts"]:
        yield f"training.readouts repeats the headline readout '{part['readout']}'; leave it out"
    if "average" in part:
        first, last = part["average"]
        if not first <= last <= part["epochs"]:
            yield (
                f"training.average [{first}, {last}] must lie within the epochs 1 to "
                f"{part['epochs']}, first not after last"
            )
