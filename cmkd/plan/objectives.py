"""Objectives as configuration sees them: their keys, neutral values, and what they cannot do.

An objective is a module of cmkd/learning/objectives with a function `loss` and these literals:

    OPTIONS = {"alpha": 1.0}        its own keys with their defaults; several words are the choices
    IGNORES = ("tau",)              common keys that it does not use
    REFUSES = {"multi": "why"}      kinds of labels for which it is not defined
    NEEDS = {"token": "two_heads"}  options that the student's model must have
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cmkd.errors import nearest
from cmkd.plan import modules

PACKAGE = "learning/objectives"
UNTAUGHT = "alone"
COMMON = ("name", "lambda", "tau", "teaching", "smoothing")
NEEDED = ("lambda", "tau")  # of a taught run, as far as its objective uses them


@dataclass(frozen=True)
class Objective:
    """What a module of cmkd/learning/objectives says of itself."""

    options: Mapping[str, Any] = field(default_factory=dict)
    ignores: tuple[str, ...] = ()
    refuses: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """Its own keys at their neutral values."""
        return {key: _default(value) for key, value in self.options.items()}

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that it understands."""
        return (*(key for key in COMMON if key not in self.ignores), *self.options)


def _default(value: Any) -> Any:
    """Return an option's default: the first of its choices, or the value itself."""
    return value[0] if isinstance(value, tuple) else value


@functools.cache
def known() -> Mapping[str, Objective]:
    """Return all objectives by name; raises ConfigError where one's constants are no literals."""
    words = ("OPTIONS", "IGNORES", "REFUSES", "NEEDS")
    found = modules.literals(PACKAGE, "loss", words)
    return {
        name: Objective(**{word.lower(): value for word, value in constants.items()})
        for name, constants in found.items()
    }


def real(key: str) -> bool:
    """Tell whether a dotted key of a recipe is some objective's own and holds real numbers."""
    part, _, own = key.partition(".")
    return part == "objective" and any(
        isinstance(one.options.get(own), float) for one in known().values()
    )


def relevant(part: Mapping[str, Any], taught: bool) -> dict[str, Any]:
    """Return a part `objective` without the keys that its objective does not understand."""
    if not taught:
        return {"name": UNTAUGHT, "smoothing": part.get("smoothing", 0.0)}
    one = known().get(str(part.get("name")))
    return {key: part[key] for key in part if one is None or key in (*one.keys, "behaviour")}


def neutral(part: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the neutral values of a part's keys, given those of the common ones."""
    if part.get("name") == UNTAUGHT:
        return {"smoothing": common["smoothing"]}
    one = known().get(str(part.get("name")), Objective())
    return {key: common[key] for key in common if key in one.keys} | one.defaults


def needed(part: Mapping[str, Any]) -> list[str]:
    """Return the common keys that a taught run's objective cannot do without."""
    one = known().get(str(part.get("name")), Objective())
    return [key for key in NEEDED if key in one.keys]


def idle(parts: Mapping[str, Any], builder: tuple[str, ...] | None, taught: bool) -> bool:
    """Tell whether a variant cannot touch a run, since its objective asks for another model.

    Args:
        parts: what the variant sets.
        builder: the options of the student's builder, None where they are not known.
        taught: whether the run has a teacher.
    """
    name = (parts.get("objective") or {}).get("name")
    needs = known().get(str(name), Objective()).needs
    lacking = builder is not None and any(key not in builder for key in needs)
    return bool(needs) and (lacking or not taught)


# ---------------------------------------------------------------------------------------- checks


def layer_problems(part: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the part `objective` of one layer, whatever else is laid over it."""
    name = part.get("name")
    taught = {word: one for word, one in known().items() if word != UNTAUGHT}
    if name is not None and name not in taught:
        yield f"objective.name has no choice '{name}'{nearest(name, taught)}"
        return
    ones = [taught[name]] if name is not None else list(taught.values())
    keys = {*COMMON, *(key for one in ones for key in one.options)}
    for key, value in part.items():
        if key not in keys:
            lacking = "" if name is None else f", which the objective '{name}' lacks"
            yield f"unknown key 'objective.{key}'{lacking}{nearest(key, keys)}"
        elif key not in COMMON:
            allowed = [one.options[key] for one in ones if key in one.options]
            if not any(_fits(value, default) for default in allowed):
                yield f"objective.{key} {_mismatch(value, allowed[0])}"


def _fits(value: Any, default: Any) -> bool:
    """Tell whether a value is of the kind of an option's default."""
    if isinstance(default, tuple):
        return value in default
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def _mismatch(value: Any, default: Any) -> str:
    """Return the end of a sentence about a value of another kind than the default."""
    if isinstance(default, tuple):
        return f"has no choice '{value}'{nearest(value, default)}"
    kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
    return f"is '{value}', but must be {kinds.get(type(default), 'of the kind of its default')}"


def problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the objective of one resolved recipe."""
    part, model, labels = values["objective"], values["model"], values["dataset"]["labels"]
    one = known().get(part["name"])
    if one is None:
        yield f"objective.name has no choice '{part['name']}'{nearest(part['name'], known())}"
        return
    if labels in one.refuses:
        yield f"objective {part['name']} has no {labels}-label form: {one.refuses[labels]}"
    for key, wanted in one.needs.items():
        if key not in model:
            yield (
                f"objective {part['name']} needs model.{key} {wanted}, which the builder "
                f"'{model['builder']}' lacks; choose another objective for this student"
            )
        elif model[key] != wanted:
            yield (
                f"objective {part['name']} needs model.{key} {wanted}, not {model[key]}; "
                "set both or neither"
            )
    yield from _unused(part["name"], model)


def _unused(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    """Yield a model's option that is there for other objectives than this one."""
    for key, value in model.items():
        users = [word for word, one in known().items() if one.needs.get(key) == value]
        if users and name not in users:
            yield (
                f"model.{key} {value} is trained by the objective {' or '.join(users)} of a taught "
                f"run, not by {name}; set both or neither"
            )
