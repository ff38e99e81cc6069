"""From a sibling code's published checkpoint to a weights file of ours, each key accounted for.

Nothing is unpickled but tensors; no key of the checkpoint is left over and none of the model's is
left out, the classifier excepted, which starts fresh where the checkpoint has none for it.
"""

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cmkd import files
from cmkd.errors import InputError
from cmkd.models import weights
from cmkd.models.ast import AST
from cmkd.models.build import build_part
from cmkd.models.layouts import LAYOUTS, Layout, Rule, find
from cmkd.plan import catalog, recipes

MEL_BINS, FRAMES = 128, 1024  # of every published checkpoint; only the rows of the grid matter
PARALLEL = "module."
WRAPPERS = ("state_dict", "model", "model_state_dict")
State = dict[str, Tensor]


class Row(NamedTuple):
    """One key of the checkpoint and what became of it."""

    action: str
    key: str
    shape: tuple[int, ...]
    outcome: str


class Converted(NamedTuple):
    """A file's tensors under our names, and the table of how they came about."""

    layout: Layout
    state: State
    rows: tuple[Row, ...]


def convert(source: Path, model: str, out: Path, classes: int | None = None) -> Converted:
    """Write a checkpoint of a sibling code as a weights file of one of our models.

    Args:
        source: a .pth file that torch wrote, or a .safetensors file.
        model: an entry of models.yaml of the same shape.
        out: the .safetensors file to write, for `model.weights: PATH`.
        classes: how many classes the model will have; with another number than the checkpoint's
            its classifier is dropped. None keeps it.

    Raises InputError, naming the file and the first key, where it is no such checkpoint, holds
    more than tensors, has keys that no rule knows, or does not fit the model.
    """
    if Path(out).suffix != ".safetensors":
        raise InputError(f"--out {out} must end in .safetensors, as model.weights asks for")
    part = recipes.model_part(catalog.Catalog(files.checkout() / "config"), model)
    found = translate(read(Path(source)), part, model, Path(source), classes)
    metadata = {
        "converted": found.layout.name,
        "model": model,
        "source": Path(source).name,
        "source_sha256": files.sha256_file(Path(source)),
    }
    weights.save_state(Path(out), found.state, metadata)
    return found


def read(source: Path) -> State:
    """Return a checkpoint's tensors by name, without DataParallel's `module.`; nothing else runs.

    Raises InputError where the file is missing, no checkpoint, an optimiser's state, or holds
    anything but tensors.
    """
    loaded = _load(source)
    if isinstance(loaded, Mapping) and {"state", "param_groups"} <= set(loaded):
        raise InputError(
            f"{source} holds the state of an optimiser, not a model's weights: give the model's "
            "file, which ast and psla write beside it as audio_model*.pth"
        )
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = isinstance(loaded, Mapping) and all(isinstance(v, Tensor) for v in loaded.values())
    if not tensors or not loaded:
        raise InputError(f"{source} holds no tensors by name: give a model's state dictionary")
    state = {str(key): value for key, value in loaded.items()}
    if all(key.startswith(PARALLEL) for key in state):
        return {key.removeprefix(PARALLEL): value for key, value in state.items()}
    return state


def _load(source: Path) -> Any:
    """Return what a file holds, with torch's loader for tensors alone."""
    if not source.is_file():
        raise InputError(f"{source} is not there: name the checkpoint's file")
    if source.suffix == ".safetensors":
        return weights.read(source, "give a whole file")[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: refused or read, we say which
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{source} holds more than tensors or is no checkpoint, so opening it could run code, "
            f"and it was not opened ({_first(error)}): ask its maker for the state dictionary alone"
        ) from error
    except Exception as error:  # zip, storage and end-of-file errors differ by torch's version
        raise InputError(
            f"{source} cannot be read as a checkpoint of torch ({_first(error)}): fetch it again"
        ) from error


def _first(error: Exception) -> str:
    """Return the heart of a library's message in a line."""
    text = " ".join(str(error).split())
    reason = re.search(r"(?:Unsupported|GLOBAL|Unpickl)[^.:]*", text)
    return f"{type(error).__name__}: {(reason[0] if reason else text)[:120]}"


def translate(
    state: State, part: Mapping[str, Any], model: str, source: Path, classes: int | None
) -> Converted:
    """Return a checkpoint under the names of the model of a recipe's part (see `convert`)."""
    layout = _layout(state, part, model, source)
    has = [len(state[key]) for key in state if re.fullmatch(layout.classifier, key)]
    with torch.device("meta"):
        core: Any = build_part(part, classes or (has or [1])[0], FRAMES, MEL_BINS)
    rows, made = _apply(layout, state, core, source)
    if classes is not None and has and classes != has[0]:
        reason = f"a classifier of {has[0]} classes; the model's {classes} start fresh"
        rows = [
            _dropped(row, reason) if row.outcome.startswith(weights.HEAD) else row for row in rows
        ]
        made = {name: value for name, value in made.items() if not name.startswith(weights.HEAD)}
    return Converted(layout, _fitted(made, core, model, source), tuple(rows))


def _layout(state: State, part: Mapping[str, Any], model: str, source: Path) -> Layout:
    """Return the layout of a checkpoint; InputError where none fits, or not this model."""
    layout = find(state)
    if layout is None:
        known = ", ".join(layout.name for layout in LAYOUTS if not layout.refusal)
        raise InputError(
            f"{source} has the keys of none of the codes known here ({known}); its first is "
            f"'{next(iter(state))}'"
        )
    if layout.refusal:
        raise InputError(f"{source} is a checkpoint of {layout.name}: {layout.refusal}")
    if part["builder"] != layout.builder:
        raise InputError(
            f"{source} is a checkpoint of {layout.name}, which needs a model of builder "
            f"'{layout.builder}'; '{model}' has builder '{part['builder']}'"
        )
    return layout


def _dropped(row: Row, reason: str) -> Row:
    """Return a row that says that its key is dropped after all."""
    return row._replace(action="dropped", outcome=reason)


def _apply(layout: Layout, state: State, core: Any, source: Path) -> tuple[list[Row], State]:
    """Return what becomes of each key, and the tensors by our names."""
    rows: list[Row] = []
    pieces: dict[str, list[Tensor]] = {}
    axes: dict[str, int] = {}
    leftovers = []
    for key in sorted(state, key=_natural):
        rule, match = _rule(layout, key)
        if rule is None or match is None:
            leftovers.append(key)
            continue
        for row, value in _one(rule, match, state, core, source):
            rows.append(row)
            if value is not None:
                pieces.setdefault(row.outcome, []).append(value)
                axes[row.outcome] = rule.axis
    if leftovers:
        raise InputError(
            f"{source} has {len(leftovers)} keys that no rule for {layout.name} knows, the first "
            f"'{leftovers[0]}': it is no such checkpoint, or of another version"
        )
    return rows, {name: torch.cat(found, axes[name]) if len(found) > 1 else found[0]
                  for name, found in pieces.items()}  # fmt: skip


def _natural(key: str) -> list[Any]:
    """Return a key's order: numbers by value, so that 10 comes after 9."""
    return [(int(text), "") if text.isdigit() else (-1, text) for text in key.split(".")]


def _rule(layout: Layout, key: str) -> tuple[Rule | None, re.Match[str] | None]:
    """Return the first rule that knows a key, and the match."""
    for rule in layout.rules:
        if match := re.fullmatch(rule.keys, key):
            return rule, match
    return None, None


def _one(
    rule: Rule, match: re.Match[str], state: State, core: Any, source: Path
) -> Iterator[tuple[Row, Tensor | None]]:
    """Yield a key's rows, each with the tensor it gives."""
    key, value = match[0], state[match[0]]
    shape = tuple(value.shape)
    if rule.target is None:
        yield Row("dropped", key, shape, rule.why), None
        return
    target = match.expand(rule.target) if isinstance(rule.target, str) else rule.target(match, core)
    if rule.how == "positions":
        for name, piece in zip(
            ("prefix_positions", "positions"), _positions(state, core, source), strict=True
        ):
            yield Row("split", key, shape, name), piece
        return
    three = rule.how == "summed" and value.ndim == 4 and value.shape[1] == 3
    action = "joined" if rule.how == "joined" else "summed" if three else "mapped"
    yield Row(action, key, shape, target), value.sum(1, keepdim=True) if three else value


def _positions(state: State, core: AST, source: Path) -> tuple[Tensor, Tensor]:
    """Part pos_embed [1, tokens + F T, dim] into [1, tokens, dim] and [1, F, T, dim].

    F follows from the model's stride at 128 mel bins, or from the input that ssast notes, whose
    patches do not overlap.
    """
    tokens = sum(key in state for key in ("v.cls_token", "v.dist_token"))
    both = state["v.pos_embed"]
    height = core.patches.kernel_size[0]
    bins = state.get("p_input_fdim")
    rows = core.grid[0] if bins is None else int(bins) // int(height)
    count = both.shape[1] - tokens if both.ndim == 3 else 0
    if count < 1 or rows < 1 or count % rows:
        raise InputError(
            f"{source}: {count} positions do not make {rows} rows of patches, so the model's patch "
            "or stride is another: choose the entry with the checkpoint's stride (10: ast_base, "
            "16: ast_base_s16)"
        )
    return both[:, :tokens], both[:, tokens:].unflatten(1, (rows, count // rows))


def _fitted(made: State, core: Any, model: str, source: Path) -> State:
    """Return the tensors in the model's shapes; InputError names the first that has none."""
    wanted = dict(core.state_dict())
    if "positions" in wanted and "positions" in made:  # any grid will do: it is resized later
        grid = made["positions"].shape[1:3]
        wanted["positions"] = wanted["positions"].new_empty(1, *grid, core.positions.shape[3])
    if not any(name.startswith(weights.HEAD) for name in made):
        wanted = {
            name: value for name, value in wanted.items() if not name.startswith(weights.HEAD)
        }
    state = {name: _reshaped(value, wanted.get(name)) for name, value in made.items()}
    fault = weights.mismatch(state, wanted)
    if fault:
        raise InputError(
            f"{source} does not fit the model '{model}': {fault}; choose the entry of its size"
        )
    return state


def _reshaped(value: Tensor, like: Tensor | None) -> Tensor:
    """Add or remove axes of length 1, as between a 1 x 1 convolution and a linear layer."""
    value = value.float() if value.is_floating_point() else value
    if like is None:
        return value
    same = [n for n in value.shape if n != 1] == [n for n in like.shape if n != 1]
    return value.reshape(like.shape) if same else value


def report(found: Converted, out: Path) -> str:
    """Return the table of all keys, the counts, and what the reader should know."""
    width = max(len(row.key) for row in found.rows)
    lines = [
        f"{row.action:<8} {row.key:<{width}}  {list(row.shape)!s:<20} "
        f"{'' if row.action == 'dropped' else '-> '}{row.outcome}"
        for row in found.rows
    ]
    actions = ("mapped", "joined", "split", "summed", "dropped")
    keys = {action: {r.key for r in found.rows if r.action == action} for action in actions}
    counts = ", ".join(f"{len(keys[action])} {action}" for action in actions if keys[action])
    total = len({row.key for row in found.rows})
    lines.append(f"{total} keys of {found.layout.name}: {counts}; {len(found.state)} tensors")
    lines += [f"note: {note}" for note in found.layout.notes]
    lines.append(f"written to {out}; use it as weights: {out}")
    return "\n".join(lines)
