"""What a training is made from, read and checked before the first step."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.data.clips import Clips
from cmkd.errors import ConfigError, DataError, InputError, RunError
from cmkd.models import weights
from cmkd.plan.recipes import digest, read_recipe
from cmkd.scoring.epochs import BY_EPOCH

FRONTEND = ("sample_rate", "mel_bins", "shift_ms", "frames")


@dataclass(frozen=True)
class Inputs:
    """A training's inputs: recipe, fold, seed, clips, statistics, and the hashes of all of them.

    `record` is the content of inputs.json; `text` the exact bytes of the wanted recipe.
    """

    text: bytes
    recipe: dict[str, Any]
    digest: str
    fold: int
    seed: int
    clips: Clips
    statistics: dict[str, Any]
    record: dict[str, Any]
    teacher: Path | None
    initial: Path | None

    @property
    def frontend(self) -> dict[str, Any]:
        """Return rate, mel bins, shift and frames."""
        return {key: self.recipe["input"][key] for key in FRONTEND}

    @property
    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint belongs to."""
        return {"recipe": self.digest, **self.record}


def gather(
    wanted: Path,
    fold: int,
    seed: int,
    prepared: Path,
    statistics: Path,
    teacher: Path | None,
    initial: Path | None,
) -> Inputs:
    """Read and check everything; InputError says what does not fit and what to do."""
    recipe = read_recipe(Path(wanted))
    text = Path(wanted).read_bytes()
    clips = Clips(prepared)
    _check_classes(recipe, clips)
    numbers = _statistics(Path(statistics), recipe, clips, fold)
    _check_initial(initial, recipe)
    record = {
        "format": 1,
        "fold": fold,
        "seed": seed,
        "manifest": clips.manifest_sha256,
        "statistics": files.sha256_file(Path(statistics)),
        "teacher": _hash(teacher and Path(teacher) / "weights.safetensors", "the teacher's"),
        "initial": _hash(initial, "the initial"),
    }
    _check_teacher(teacher, str(recipe["run"]), record)
    _check_start(initial, str(recipe["run"]), record)
    name = digest(text.decode())
    return Inputs(text, recipe, name, fold, seed, clips, numbers, record, teacher, initial)


def _check_classes(recipe: Mapping[str, Any], clips: Clips) -> None:
    """Raise DataError unless the recipe and the prepared clips agree on the classes."""
    asked, found = recipe["dataset"]["classes"], len(clips.classes)
    if asked != found:
        raise DataError(
            f"{clips.folder} holds {found} classes, the recipe of {recipe['run']} asks for {asked} "
            f"({recipe['dataset']['name']}); prepare that dataset or name its folder"
        )


def _statistics(path: Path, recipe: Mapping[str, Any], clips: Clips, fold: int) -> dict[str, Any]:
    """Return mean and standard deviation of the fold, after checking what they were made from."""
    if not path.exists():
        raise DataError(f"{path} is not there: make it with `cmkd stats`")
    numbers = _read_statistics(path)
    if numbers["manifest"] != clips.manifest_sha256:
        raise DataError(f"{path} was made from other clips than {clips.folder} holds; make it anew")
    if numbers.get("fold", fold) != fold:
        raise DataError(
            f"{path} is of fold {numbers['fold']}, whose training clips are among those that fold "
            f"{fold} tests on; give that of fold {fold}"
        )
    for key in FRONTEND:
        made, asked = numbers["frontend"].get(key), recipe["input"][key]
        if made is not None and made != asked:
            raise ConfigError(
                f"{path} was made with {key} {made}, the recipe of {recipe['run']} asks for {asked}"
            )
    return dict(numbers)


def _read_statistics(path: Path) -> dict[str, Any]:
    """Return the content of a statistics file; DataError unless it is one."""
    with contextlib.suppress(ValueError):
        found = files.read_json(path)
        if isinstance(found, dict) and {"mean", "std", "manifest", "frontend"} <= set(found):
            return found
    raise DataError(f"{path} does not hold a fold's statistics: make it anew with `cmkd stats`")


def _check_initial(initial: Path | None, recipe: Mapping[str, Any]) -> None:
    """Raise RunError unless the initial weights are those of the run the recipe names."""
    asked = recipe.get("initial")
    if asked is None:
        return
    if initial is None:
        raise RunError(
            f"{recipe['run']} starts from {asked['dataset']}/{asked['run']}: "
            "give its weights (--initial)"
        )
    found = weights.read(Path(initial))[1].get("recipe")
    if found != asked["recipe"]:
        raise RunError(
            f"{recipe['run']} starts from {asked['run']} of recipe {asked['recipe']}, but "
            f"{initial} is of recipe {found}; train that run again"
        )


def _check_teacher(teacher: Path | None, student: str, record: Mapping[str, Any]) -> None:
    """Raise RunError unless the teacher is a run of the same clips, fold and seed.

    One of another fold has learned from the very clips that its student is tested on.
    """
    if teacher is None:
        return
    path = Path(teacher) / "inputs.json"
    if not path.is_file():
        raise RunError(f"{path} is not there, so nobody knows its fold; train that run again")
    wanted = {key: (record[key],) for key in ("manifest", "fold", "seed")}
    _check_place(path, f"its student {student}", wanted)


def _check_start(initial: Path | None, run: str, record: Mapping[str, Any]) -> None:
    """Raise RunError unless initial weights are of the same fold, or a fixed split's, and seed.

    Weights without an inputs.json beside them come from elsewhere and cannot be checked.
    """
    path = Path(initial or "").parent / "inputs.json"
    if initial is not None and path.is_file():
        wanted = {"fold": (record["fold"], 0), "seed": (record["seed"],)}
        _check_place(path, f"{run}, which starts from it,", wanted)


def _check_place(path: Path, other: str, wanted: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise RunError where an inputs.json holds another value than those wanted."""
    found = files.read_json(path)
    for key, values in wanted.items():
        if found.get(key) not in values:
            raise RunError(
                f"{path.parent} was trained with {key} {found.get(key)}, {other} needs {key} "
                f"{values[0]}: what another fold has learned from may be tested on in this one"
            )


def _hash(path: Path | None, whose: str) -> str | None:
    """Return the sha256 of a file of weights, None for no file."""
    if path is None:
        return None
    if not Path(path).exists():
        raise RunError(f"{path} is not there: it should hold {whose} weights; train or copy them")
    return files.sha256_file(Path(path))


def _further(readout: str) -> str:
    """Return the file that a further readout cannot be made without: its weights or its scores."""
    return f"scores-{readout}.npz" if readout in BY_EPOCH else f"weights-{readout}.safetensors"


def already_done(run: Path, inputs: Inputs, names: tuple[str, ...]) -> bool:
    """Say whether the folder holds these very inputs' finished and scored training."""
    with contextlib.suppress(OSError, json.JSONDecodeError, KeyError, InputError):
        numbers = files.read_json(run / "metrics.json")
        return (
            (run / "recipe.yaml").read_bytes() == inputs.text
            and files.read_json(run / "inputs.json") == inputs.record
            and numbers["recipe"] == inputs.digest
            and numbers["weights"] == files.sha256_file(run / "weights.safetensors")
            and all((run / _further(name)).exists() for name in names)
            and (run / "history.csv").exists()
            and (run / "cost.json").exists()
        )
    return False


def trained(run: Path, inputs: Inputs, names: tuple[str, ...]) -> bool:
    """Say whether the folder holds these very inputs' training, whole, scored or not."""
    weighted = [name for name in names if name not in BY_EPOCH]
    needed = [run / "weights.safetensors", *(run / _further(name) for name in weighted)]
    with contextlib.suppress(OSError, json.JSONDecodeError, InputError):
        return (
            (run / "recipe.yaml").read_bytes() == inputs.text
            and files.read_json(run / "inputs.json") == inputs.record
            and all(weights.read(path)[1].get("recipe") == inputs.digest for path in needed)
            and (run / "history.csv").exists()
            and (run / "cost.json").exists()
        )
    return False
