"""The verb `evaluate`: score what a training left, every readout, and write metrics.json last."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cmkd import files
from cmkd.audio import views
from cmkd.data.clips import Clips
from cmkd.errors import DataError, RunError
from cmkd.models import weights
from cmkd.plan.recipes import digest, read_recipe
from cmkd.scoring import costs, failures, metrics
from cmkd.scoring.predict import BATCH, choose_device, predict
from cmkd.scoring.scores import ids_hash, write_scores

Recipe = Mapping[str, Any]
# An area under the curve this near one half says that nothing was learned.
CHANCE_MARGIN = 0.02


def evaluate(run: Path, prepared: Path, execution: Mapping[str, Any]) -> None:
    """Score a trained run's test clips (and validation clips) and write its numbers.

    Writes scores.npz, scores-val.npz where there is a validation split, scores-READOUT.npz for
    further readouts, cost-evaluate.json and, last, metrics.json; then removes state/.

    Raises:
        RunError: the folder holds no finished training, or one of another recipe or other clips.
        DataError: the fold has no test clip, or none with a label; scores that are not finite.
    """
    run = Path(run)
    record = run / "recipe.yaml"
    if not record.exists():
        raise RunError(f"{run} has no recipe.yaml: train this run before evaluating it")
    recipe_digest = digest(record.read_text(encoding="utf-8"))
    with failures.recorded(run, "evaluate", recipe_digest):
        result = _evaluate(run, prepared, execution, recipe_digest)
        files.write_json(run / "metrics.json", result)
    shutil.rmtree(run / "state", ignore_errors=True)
    print(f"evaluate {run}: {result['metric']} {result['value']:.4f} on {result['n']} clips")


def _evaluate(
    run: Path, prepared: Path, execution: Mapping[str, Any], recipe_digest: str
) -> dict[str, Any]:
    """Score all readouts, write scores and cost, and return the content of metrics.json."""
    began = time.time()
    device = choose_device(execution)
    recipe, clips = read_recipe(run / "recipe.yaml"), Clips(prepared)
    fold = _fold(run, clips)
    names = dict.fromkeys([recipe["training"]["readout"], *recipe["training"].get("readouts", [])])
    readouts, clips_scored = {}, 0
    for name in names:
        headline = name == recipe["training"]["readout"]
        suffix = "" if headline else f"-{name}"
        model = weights.load_run(run, f"weights{suffix}.safetensors")[0].to(device)
        test = _score(run, model, recipe, clips, fold, suffix)
        readouts[name] = test
        clips_scored += test["n"]
        if headline:
            _validation(run, model, recipe, clips, fold)
    files.write_json(
        run / "cost-evaluate.json", costs.evaluation(device, began, clips_scored, execution)
    )
    return _summary(run, recipe, recipe_digest, readouts)


def _fold(run: Path, clips: Clips) -> int:
    """Return the fold that was trained, after checking that it was on these very clips."""
    inputs = files.read_json(run / "inputs.json")
    if inputs["manifest"] != clips.manifest_sha256:
        raise RunError(
            f"{run} was trained on other clips (manifest {inputs['manifest'][:12]}) than "
            f"{clips.folder} holds (manifest {clips.manifest_sha256[:12]}); train it again"
        )
    return int(inputs["fold"])


def _score(
    run: Path, model: nn.Module, recipe: Recipe, clips: Clips, fold: int, suffix: str
) -> dict[str, Any]:
    """Score the test split, write its file and return its numbers."""
    indices = clips.subset(fold, "test")
    if not len(indices):
        raise DataError(f"fold {fold} of {clips.folder} has no test clip: nothing to evaluate")
    logits = _split(run / f"scores{suffix}.npz", model, recipe, clips, indices)
    targets = clips.labels[indices]
    values = metrics.all_metrics(logits, targets, recipe["dataset"]["labels"])
    value = values[recipe["dataset"]["metric"]]
    if value is None:
        raise DataError(
            f"fold {fold} of {clips.folder} has no test clip with a label, so that its "
            f"{recipe['dataset']['metric']} is undefined; look at the labels in manifest.csv"
        )
    return {
        "value": value,
        "metrics": values,
        "weights": files.sha256_file(run / f"weights{suffix}.safetensors"),
        "n": len(indices),
        "classes_scored": metrics.classes_scored(targets),
        "ids_hash": ids_hash(clips.ids[indices]),
    }


def _validation(run: Path, model: nn.Module, recipe: Recipe, clips: Clips, fold: int) -> None:
    """Score the validation split where there is one."""
    indices = clips.subset(fold, "val")
    if len(indices):
        _split(run / "scores-val.npz", model, recipe, clips, indices)


def _split(
    path: Path, model: nn.Module, recipe: Recipe, clips: Clips, indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Score some clips, write the file and return the logits [clips, classes]."""
    device = next(model.parameters()).device
    banks = views.batches(clips, indices, recipe["input"], BATCH, device)
    logits = predict(model, banks, device)
    if not np.isfinite(logits).all():
        bad = clips.ids[indices][~np.isfinite(logits).all(axis=1)][0]
        raise DataError(f"clip {bad} has scores that are not finite; look at its samples")
    targets, sources = clips.labels[indices], clips.sources[indices]
    write_scores(path, clips.ids[indices], clips.classes, logits, targets, sources)
    return logits


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
            key: {part: value[part] for part in ("value", "metrics", "weights")}
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
