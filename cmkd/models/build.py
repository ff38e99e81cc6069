"""A model by its name in models.yaml, or from a recipe's part `model`."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from cmkd import files
from cmkd.errors import ConfigError, nearest
from cmkd.plan import catalog, recipes


def build(name: str, classes: int, frames: int, mel_bins: int = 128) -> nn.Module:
    """Build a model by its name in the checkout's config/models.yaml, with random weights.

    Its options are those that a suite without further settings would give it. Raises ConfigError
    for an unknown name.
    """
    part = recipes.model_part(catalog.Catalog(files.checkout() / "config"), name)
    return build_part(part, classes, frames, mel_bins)


def build_part(part: Mapping[str, Any], classes: int, frames: int, mel_bins: int) -> nn.Module:
    """Build the model of a recipe's part `model`, with random weights.

    It maps normalised views [batch, frames, mel_bins] to logits [batch, classes]. The part's
    `builder` is the name of a module of `cmkd.models` with a function `build`; its other keys are
    that builder's options. The weights depend on the part and on torch's generator alone
    (`torch.manual_seed`). Raises ConfigError for an unknown builder or option.
    """
    name = part.get("builder")
    module = _builder_module(name)
    if module is None:
        raise ConfigError(f"model: there is no builder '{name}'{nearest(name, builders())}")
    return module.build(part, classes, frames, mel_bins)


def builders() -> list[str]:
    """Return the names of all builders, in alphabetical order."""
    package = importlib.import_module("cmkd.models")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if _builder_module(name) is not None)


def _builder_module(name: object) -> ModuleType | None:
    """Return the module cmkd.models.NAME where it is a builder."""
    path = f"cmkd.models.{name}"
    if not str(name).isidentifier() or path == __name__ or not importlib.util.find_spec(path):
        return None
    module = importlib.import_module(path)
    return module if hasattr(module, "build") else None
