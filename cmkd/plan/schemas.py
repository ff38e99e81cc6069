"""Compare configuration with the JSON Schemas in workflow/schemas, in sentences for people.

A schema's `description` ends the sentence "X is 3, but must be ...".
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

from cmkd import files
from cmkd.errors import nearest

SHARED = "layer"


def problems(kind: str, document: Any, where: str) -> list[str]:
    """Return one sentence for each place where a document breaks the schema of its kind.

    Args:
        kind: suite, datasets, models, recipes or variants.
        document: what was read from YAML.
        where: the file's name, which opens each sentence.
    """
    errors = sorted(_validator(kind).iter_errors(document), key=lambda e: list(map(str, e.path)))
    return [f"{where}: {sentence}" for error in errors for sentence in _sentences(error)]


@functools.cache
def _validator(kind: str) -> Any:
    """Return the validator of one kind, in which 32.0 is no whole number."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry, Resource

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict = validators.extend(Draft202012Validator, type_checker=checker)
    shared = Resource.from_contents(_schema(SHARED))
    registry = Registry().with_resource(f"{SHARED}.schema.json", shared)
    return strict(_schema(kind), registry=registry)


def _schema(kind: str) -> Any:
    """Read one schema."""
    return files.read_json(files.checkout() / "workflow" / "schemas" / f"{kind}.schema.json")


def _sentences(error: Any) -> Iterator[str]:
    """Say what is wrong at one place."""
    place = ".".join(map(str, error.absolute_path))
    inside = f" in {place}" if place else ""
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        for key in sorted(set(map(str, error.instance)) - set(known)):
            yield f"unknown key '{key}'{inside}{nearest(key, known)}"
    elif error.validator == "required":
        # The library reports each missing key by itself.
        key = next(k for k in error.validator_value if error.message.startswith(f"'{k}'"))
        yield f"the key '{key}' is missing{inside}; add it"
    elif error.validator == "not":
        yield f"{place} is {error.schema['description']}"
    elif error.validator == "enum" and "description" not in error.schema:
        hint = nearest(error.instance, error.validator_value)
        yield f"{place} has no choice {_show(error.instance)}{hint}"
    else:
        wanted = error.schema["description"]
        yield f"{place or 'it'} is {_show(error.instance)}, but must be {wanted}"


def _show(value: Any) -> str:
    """Return a value as it might be written, cut short."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)
    text = "empty" if value is None else text
    return text if len(text) <= 60 else f"{text[:57]}..."


def keys(kind: str) -> tuple[str, ...]:
    """Return the keys that every entry of a kind's file may have."""
    return tuple(_schema(kind)["additionalProperties"]["properties"])
