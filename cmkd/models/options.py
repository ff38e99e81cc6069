"""Options of a builder: read from a recipe's part `model`, checked, and named when wrong."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from cmkd.errors import ConfigError, nearest

Options = TypeVar("Options")

SHARED_KEYS = frozenset({"behaviour", "builder", "code", "weights", "normalise"})
"""Keys of the part that are not the builder's: how it starts and how its input is scaled."""

NEUTRAL = {"dropout": (0.0,), "drop_path": (0.0,), "stem": ("mean", "sum")}
"""Values that any recipe may hold although the builder lacks the option: they change nothing."""

STEMS = ("mean", "sum")
"""How a pretrained first layer with 3 input channels becomes one with a single channel."""


def read(part: Mapping[str, Any], kind: type[Options]) -> Options:
    """Make the dataclass `kind` from the part's keys.

    Raises ConfigError for a key that `kind` lacks (with the nearest it has), for one that is
    missing, and whatever `kind` raises when it checks its values.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    builder = part.get("builder")
    given = {
        key: value
        for key, value in part.items()
        if key not in SHARED_KEYS and (key in fields or value not in NEUTRAL.get(key, ()))
    }
    for key in given:
        if key not in fields:
            raise ConfigError(
                f"model: builder '{builder}' has no option '{key}'{nearest(key, fields)}"
            )
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise ConfigError(f"model: builder '{builder}' needs the option '{name}'")
    return kind(**given)


def choice(key: str, value: object, known: Collection[str]) -> None:
    """Raise ConfigError unless `value` is one of the known words."""
    if value not in known:
        raise ConfigError(f"model: {key} has no choice '{value}'{nearest(value, known)}")


def whole(key: str, value: object) -> None:
    """Raise ConfigError unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"model: {key} is {value!r}, but must be a whole number of at least 1")


def wholes(key: str, values: Any, length: int | None = None) -> None:
    """Raise ConfigError unless `values` is a list of whole numbers (of that length, if given)."""
    shape = f"{length} whole numbers" if length else "at least one whole number"
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    if not listed or not values or (length is not None and len(values) != length):
        raise ConfigError(f"model: {key} is {values!r}, but must be a list of {shape}")
    for value in values:
        whole(key, value)


def rate(key: str, value: Any) -> None:
    """Raise ConfigError unless `value` is a probability of dropping something: in [0, 1)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ConfigError(f"model: {key} is {value!r}, but must be a number from 0 to below 1")
