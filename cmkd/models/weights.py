"""Weights on disk (safetensors, never pickle) and the weights that a training starts from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cmkd import files
from cmkd.errors import ConfigError, InputError, RunError
from cmkd.models import timm_models
from cmkd.models.ast import AST, resize_positions
from cmkd.models.build import build_part
from cmkd.models.normalise import Normalised
from cmkd.plan.recipes import read_recipe

HEAD = "head."
"""What the classifier's tensors are called in each of our models."""

INSIDE = "model."
"""What a normalised model's tensors are called before their own name."""

RETRAIN = "train that run again"
REPLACE = "set weights to a whole .safetensors file"

State = dict[str, Tensor]


def save(path: Path, module: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write all weights and buffers, whole or not at all; equal weights give equal bytes."""
    save_state(path, _state(module), metadata)


def save_state(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Do what `save` does with tensors by name."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    files.write_bytes(path, _ordered(safetensors.torch.save(plain, dict(metadata))))


def _ordered(content: bytes) -> bytes:
    """Sort the header of a safetensors file, whose metadata come in random order otherwise."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _state(module: nn.Module) -> State:
    """Return a module's weights and buffers by name."""
    return dict(module.state_dict())


def read(path: Path, remedy: str = RETRAIN) -> tuple[State, dict[str, str]]:
    """Read a file's tensors and metadata; `remedy` ends the message where that fails.

    Raises RunError where the file is missing or no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return state, dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist; {remedy}") from error
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged or no safetensors file ({error}); {remedy}") from error


def load(path: Path, module: nn.Module) -> dict[str, str]:
    """Load a file's weights into a module of the same make and return the file's metadata.

    Raises RunError, naming the first tensor, where names or shapes differ: nothing is loaded then.
    """
    state, metadata = read(path)
    fault = mismatch(state, _state(module))
    if fault:
        raise RunError(f"{path} does not fit this model: {fault}; {RETRAIN}")
    module.load_state_dict(state)
    return metadata


def mismatch(state: State, wanted: State) -> str | None:
    """Return what differs first between a file's and a model's names and shapes, or None."""
    for name in sorted(state.keys() | wanted.keys()):
        if name not in state:
            return f"it lacks '{name}'"
        if name not in wanted:
            return f"the model has no '{name}'"
        have, want = tuple(state[name].shape), tuple(wanted[name].shape)
        if have != want:
            return f"'{name}' is {list(have)} and should be {list(want)}"
    return None


def load_run(
    folder: Path, filename: str = "weights.safetensors"
) -> tuple[Normalised, dict[str, Any]]:
    """Build a finished run's model behind its normalisation, frozen and in eval mode.

    Returns it with the run's recipe. Raises RunError where recipe or weights are missing or
    damaged, where the weights come from another recipe, or where they do not fit it.
    """
    recipe_path, path = Path(folder) / "recipe.yaml", Path(folder) / filename
    if not recipe_path.is_file():
        raise RunError(f"{recipe_path} does not exist; {RETRAIN}")
    state, metadata = read(path)
    _same_recipe(path, metadata, recipe_path)
    recipe = read_recipe(recipe_path)
    # Drawing weights that are replaced at once must not move the generator of a student.
    with torch.random.fork_rng(devices=[]):
        core = build_part(recipe["model"], *_shape(path, metadata))
    module = Normalised(core, mean=0.0, scale=1.0)
    fault = mismatch(state, _state(module))
    if fault:
        raise RunError(f"{path} does not fit its recipe: {fault}; {RETRAIN}")
    module.load_state_dict(state)
    return module.eval().requires_grad_(False), recipe


def _same_recipe(path: Path, metadata: Mapping[str, str], recipe: Path) -> None:
    """Raise RunError where the weights name another recipe than the one beside them."""
    digest = files.sha256_file(recipe)[:16]
    if metadata.get("recipe") != digest:
        raise RunError(
            f"{path} was made from recipe {metadata.get('recipe')}, but {recipe} is {digest}: "
            f"{RETRAIN}"
        )


def _shape(path: Path, metadata: Mapping[str, str]) -> tuple[int, int, int]:
    """Return the number of classes, frames and mel bins that the weights were made for."""
    try:
        frontend = json.loads(metadata["frontend"])
        sizes = len(json.loads(metadata["classes"])), frontend["frames"], frontend["mel_bins"]
        return int(sizes[0]), int(sizes[1]), int(sizes[2])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path} does not say its classes and front end ({error!r}); {RETRAIN}"
        ) from error


def initialise(
    module: nn.Module,
    part: Mapping[str, Any],
    initial: Path | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Give a new model the initial weights that its recipe's part `model` asks for.

    `weights: none` leaves it as it was drawn. `imagenet` fetches those of the timm model it
    stands on. A path, or `initial` for `run:DATASET/RUN`, names a file of the same make, or (a
    path) one of the form that timm's hub serves. The classifier of our own file is taken where
    its shape fits, unless the file names other classes than `classes`; else it stays as drawn.
    AST's positions are cropped or resized to the new grid. Normalisation stays the module's own.
    Raises ConfigError or InputError where there are no such weights, RunError where a file is
    damaged.
    """
    origin = str(part.get("weights", "none"))
    core: Any = module.model if isinstance(module, Normalised) else module
    if origin == "none":
        return
    if origin == "imagenet":
        name = _timm_name(core, part)
        core.adopt_timm(timm_models.pretrained(name))
    elif origin.startswith("run:"):
        if initial is None:
            raise InputError(f"weights: {origin} needs that run's weights file (--initial FILE)")
        _adopt(core, Path(initial), None, classes)
    else:
        name = getattr(core, "timm_name", None)
        _adopt(core, Path(initial or origin).expanduser(), name, classes)


def _timm_name(core: nn.Module, part: Mapping[str, Any]) -> str:
    """Return the timm model that a model stands on; raise ConfigError where there is none."""
    name = getattr(core, "timm_name", None)
    if name is None:
        raise ConfigError(
            f"model: builder '{part.get('builder')}' stands on no timm model, so there are no "
            "ImageNet weights for it: set weights: none"
        )
    return str(name)


def _adopt(
    core: Any, path: Path, timm_name: str | None, classes: Sequence[str] | None = None
) -> None:
    """Take the weights of a file of ours or, with `timm_name`, of timm's form."""
    state, metadata = read(path, REPLACE)
    state = _inside(state)
    body = [name for name in _state(core) if not name.startswith(HEAD)]
    ours = bool({"recipe", "converted"} & set(metadata)) or all(name in state for name in body)
    if timm_name is not None and not ours:
        core.adopt_timm(timm_models.pretrained(timm_name, path))
        return
    if isinstance(core, AST) and "positions" in state and state["positions"].ndim == 4:
        state["positions"] = resize_positions(state["positions"], core.grid)
    if _other_classes(metadata, classes):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
    wanted = _state(core)
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(HEAD)}
    taken = rest | _head(state, wanted)
    fault = mismatch(taken, wanted)
    if fault:
        raise InputError(f"weights: {path} does not fit this model: {fault}; choose another file")
    core.load_state_dict(taken)


def _inside(state: State) -> State:
    """Return a normalised model's tensors without its normalisation, others' as they are."""
    core = {n.removeprefix(INSIDE): tensor for n, tensor in state.items() if n.startswith(INSIDE)}
    return core or state


def _other_classes(metadata: Mapping[str, str], classes: Sequence[str] | None) -> bool:
    """Tell whether a file names other classes, or the same in another order."""
    if classes is None or "classes" not in metadata:
        return False
    try:
        return list(json.loads(metadata["classes"])) != list(classes)
    except (TypeError, ValueError):
        return True


def _head(state: State, wanted: State) -> State:
    """Return a file's classifier where all of it fits (as many classes), else the model's own."""
    own = {name: tensor for name, tensor in wanted.items() if name.startswith(HEAD)}
    found = {name: tensor for name, tensor in state.items() if name.startswith(HEAD)}
    return own if mismatch(found, own) else found
