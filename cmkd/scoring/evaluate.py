"""The verb `evaluate`: score what a training left, every readout, and write metrics.json last."""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cmkd import files
from cmkd.audio.views import CACHE_BYTES
from cmkd.data.clips import Clips
from cmkd.errors import DataError, RunError
from cmkd.models import weights
from cmkd.plan.recipes import digest, read_recipe
from cmkd.scoring import by_epoch, costs, epochs, failures, lease
from cmkd.scoring.predict import choose_device
from cmkd.scoring.signals import ending
from cmkd.scoring.splits import Recipe, Split

# An area under the curve this near one half says that nothing was learned.
CHANCE_MARGIN = 0.02
# What metrics.json says of each readout; `epochs` only of those made of the scores of epochs.
OF_A_READOUT = ("value", "metrics", "weights", "epochs")


def evaluate(run: Path, prepared: Path, execution: Mapping[str, Any]) -> None:
    """Score a trained run's test clips (and validation clips) and write its numbers.

    Writes scores.npz, scores-val.npz where there is a validation split, scores-READOUT.npz for
    further readouts (`checkpoints` and `peek` are made of the weights by epoch in state/),
    cost-evaluate.json and, last, metrics.json; then removes state/.

    While another copy of this job is at work on the run, it waits.

    Raises:
        RunError: the folder holds no finished training, or one of another recipe or other clips.
        DataError: the fold has no test clip, or none with a label; scores that are not finite.
        Stopped: SIGTERM came; what was not finished is done again.
        LeaseLost: another copy of this job took the run over, while this one was suspended.
    """
    run = Path(run)
    _trained_digest(run)
    with ending(f"evaluate {run}"), lease.held(run, "evaluate", lease.seconds(execution)) as own:
        recipe_digest = _trained_digest(run)
        if own.waited and _scored(run, recipe_digest):
            print(f"evaluate {run}: done already, nothing to do", flush=True)
            return
        with failures.recorded(run, "evaluate", recipe_digest):
            result = _evaluate(run, prepared, execution, recipe_digest)
            files.write_json(run / "metrics.json", result)
        own.check()
        _clear(run / "state")
    print(f"evaluate {run}: {result['metric']} {result['value']:.4f} on {result['n']} clips")


def _trained_digest(run: Path) -> str:
    """Return the digest of a trained run's recipe."""
    record = run / "recipe.yaml"
    if not record.exists():
        raise RunError(f"{run} has no recipe.yaml: train this run before evaluating it")
    return digest(record.read_text(encoding="utf-8"))


def _scored(run: Path, recipe_digest: str) -> bool:
    """Say whether the copy that was waited for has scored these very weights, and all is there."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        numbers = files.read_json(run / "metrics.json")
        training = read_recipe(run / "recipe.yaml")["training"]
        further = [f"scores-{name}.npz" for name in training.get("readouts", [])
                   if name != training["readout"]]  # fmt: skip
        return (
            numbers["recipe"] == recipe_digest
            and numbers["weights"] == files.sha256_file(run / "weights.safetensors")
            and all(
                (run / name).exists() for name in ("scores.npz", "cost-evaluate.json", *further)
            )
        )
    return False


def _clear(state: Path) -> None:
    """Remove all of a finished run's state but the lease, which goes last, with the folder."""
    for path in state.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != lease.NAME:
            path.unlink(missing_ok=True)


def _evaluate(
    run: Path, prepared: Path, execution: Mapping[str, Any], recipe_digest: str
) -> dict[str, Any]:
    """Score all readouts, write scores and cost, and return the content of metrics.json."""
    began = time.time()
    device = choose_device(execution)
    recipe, clips = read_recipe(run / "recipe.yaml"), Clips(prepared)
    fold = _fold(run, clips)
    split = _test_split(recipe, clips, fold, execution)
    headline = recipe["training"]["readout"]
    names = tuple(dict.fromkeys([headline, *recipe["training"].get("readouts", [])]))
    readouts: dict[str, Any] = {}
    for name in names:
        if name in epochs.BY_EPOCH:
            continue
        suffix = "" if name == headline else f"-{name}"
        model = weights.load_run(run, f"weights{suffix}.safetensors")[0].to(device)
        readouts[name] = _score(run, model, split, suffix)
        if name == headline:
            _validation(run, model, recipe, clips, fold)
    readouts |= by_epoch.score(run, recipe, recipe_digest, split, model)
    cost = costs.evaluation(device, began, split.scored, execution)
    files.write_json(run / "cost-evaluate.json", cost)
    return _summary(run, recipe, recipe_digest, {name: readouts[name] for name in names})


def _test_split(recipe: Recipe, clips: Clips, fold: int, execution: Mapping[str, Any]) -> Split:
    """Return the test clips; banks stay in memory only where the epochs are scored too."""
    many = bool(epochs.readouts(recipe["training"]))
    room = int(execution.get("cache_bytes", CACHE_BYTES)) if many else 0
    split = Split(clips, fold, "test", recipe, room)
    if not len(split):
        raise DataError(f"fold {fold} of {clips.folder} has no test clip: nothing to evaluate")
    return split


def _fold(run: Path, clips: Clips) -> int:
    """Return the fold that was trained, after checking that it was on these very clips."""
    inputs = files.read_json(run / "inputs.json")
    if inputs["manifest"] != clips.manifest_sha256:
        raise RunError(
            f"{run} was trained on other clips (manifest {inputs['manifest'][:12]}) than "
            f"{clips.folder} holds (manifest {clips.manifest_sha256[:12]}); train it again"
        )
    return int(inputs["fold"])


def _score(run: Path, model: nn.Module, split: Split, suffix: str) -> dict[str, Any]:
    """Score the test split, write its file and return its numbers."""
    logits = split.logits(model)
    split.write(run / f"scores{suffix}.npz", logits)
    sha256 = files.sha256_file(run / f"weights{suffix}.safetensors")
    return {**split.numbers(logits), "weights": sha256}


def _validation(run: Path, model: nn.Module, recipe: Recipe, clips: Clips, fold: int) -> None:
    """Score the validation split where there is one."""
    split = Split(clips, fold, "val", recipe)
    if len(split):
        split.write(run / "scores-val.npz", split.logits(model))


def _summary(
    run: Path, recipe: Recipe, recipe_digest: str, readouts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of metrics.json (docs/interfaces.md)."""
    name = recipe["training"]["readout"]
    head = readouts[name]
    return {
        "format": 1,
        "recipe": recipe_digest,
        "weights": head["weights"],
        "metric": recipe["dataset"]["metric"],
        "value": head["value"],
        "metrics": head["metrics"],
        "readout": name,
        "split": "test",
        "n": head["n"],
        "classes_scored": head["classes_scored"],
        "ids_hash": head["ids_hash"],
        "readouts": {
            key: {part: value[part] for part in OF_A_READOUT if part in value}
            for key, value in readouts.items()
        },
        "warnings": [*_earlier_warnings(run), *_chance(head["metrics"])],
    }


def _earlier_warnings(run: Path) -> list[str]:
    """Return what the training warned of."""
    try:
        return list(files.read_json(run / "cost.json").get("warnings", []))
    except (OSError, json.JSONDecodeError):
        return []


def _chance(values: Mapping[str, float | None]) -> list[str]:
    """Return a warning where the area under the curve is that of guessing."""
    auc = values.get("auc")
    if auc is None or abs(auc - 0.5) > CHANCE_MARGIN:
        return []
    text = f"AUC {auc:.3f} on the test clips is near 0.5: this model knows no more than chance"
    print(f"warning: {text}", flush=True)
    return [text]
