"""The verb `train`: from a wanted recipe to the weights and the history in a run folder.

It reads training and validation clips only; the test clips are scored by `evaluate`. Killed at any
moment and called again it goes on from the last checkpoint in RUN/state and gives the same bytes.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmkd import files, models
from cmkd.audio.views import CACHE_BYTES, Banks, Views
from cmkd.errors import ConfigError, DataError
from cmkd.learning import fit, inputs, objectives, outputs, readouts, seeds, teacher
from cmkd.learning.checkpoint import Checkpoints
from cmkd.learning.inputs import Inputs
from cmkd.learning.readouts import Readouts
from cmkd.learning.schedule import Schedule
from cmkd.learning.signals import stopping
from cmkd.plan.recipes import digest
from cmkd.scoring import costs, failures, metrics
from cmkd.scoring.epochs import EpochWeights
from cmkd.scoring.predict import BATCH, choose_device, predict

Stop = Callable[[], bool]


def train(
    wanted: Path,
    run: Path,
    fold: int,
    seed: int,
    prepared: Path,
    statistics: Path,
    teacher: Path | None,
    initial: Path | None,
    execution: Mapping[str, Any],
) -> None:
    """Train one run on one fold with one seed, or go on with it.

    Writes weights.safetensors (the headline readout's), weights-READOUT.safetensors, history.csv,
    cost.json, inputs.json and, last, recipe.yaml into `run`. `execution` may hold device, threads,
    checkpoint_seconds, checkpoint_steps and cache_bytes; none of them changes a result.

    Raises:
        InputError: recipe, clips, statistics, teacher or initial weights do not fit together, or
            statistics or teacher are of another fold, whose training clips this one tests on.
        TrainingError: a loss that is not finite.
        Stopped: SIGTERM came; the state is saved.
    """
    began = time.time()
    if not Path(wanted).is_file():
        raise ConfigError(f"{wanted} is not there: name the file of a wanted recipe")
    run = Path(run)
    name = digest(Path(wanted).read_text(encoding="utf-8"))
    with failures.recorded(run, "train", name), stopping() as stop:
        found = inputs.gather(wanted, fold, seed, prepared, statistics, teacher, initial)
        names = readouts.wanted(found.recipe["training"])[1:]
        if inputs.already_done(run, found, names):
            print(f"train {run}: done already, nothing to do")
            return
        _train(run, found, execution, stop, began)


def _train(
    run: Path, found: Inputs, execution: Mapping[str, Any], stop: Stop, began: float
) -> None:
    """Build the task, go on from where it stands, fit, and write what it leaves."""
    outputs.remove_outdated(run)
    task = build_task(found, execution)
    task.stop = stop
    keeper = Checkpoints(
        run / "state",
        found.identity,
        float(execution.get("checkpoint_seconds", 60)),
        execution.get("checkpoint_steps"),
    )
    task.keeper = keeper
    kept = EpochWeights(run, found.identity, found.recipe["training"])
    task.readouts.keep = kept.save
    state = _resume(task, keeper, kept)
    starts = _attempts(run / "state", found, began)
    _announce(task, found, state)
    state.phases["start"] += time.time() - began
    history = fit.fit(task, state)
    with state.timed("outputs"):
        warnings = outputs.chance_warnings(task, found, history)
        outputs.write(run, task, found, history)
    cost = outputs.cost(task, found, state, execution, starts, warnings)
    files.write_json(run / "cost.json", cost)
    # The record comes last: a folder that has it has all the rest.
    files.write_bytes(run / "recipe.yaml", found.text)
    for text in warnings:
        print(f"warning: {text}", flush=True)
    print(f"train {run}: done, {cost['seconds']['total']:.1f} s in all", flush=True)


def build_task(found: Inputs, execution: Mapping[str, Any]) -> fit.Task:
    """Return what `fit` needs, made from a training's inputs; nothing has been trained yet."""
    recipe, fold, seed = found.recipe, found.fold, found.seed
    device = choose_device(execution)
    taught = teacher.load(found.teacher, recipe, device)
    training, part = recipe["training"], recipe["objective"]
    model = build_model(found).to(device)
    validate = _validation(found, device, execution)
    return fit.Task(
        run=str(recipe["run"]),
        fold=fold,
        seed=seed,
        model=model,
        views=_views(found, device, execution, taught is not None),
        objective=objectives.find(part["name"]),
        options={**part, "labels": recipe["dataset"]["labels"]},
        optimiser=_optimiser(model, training),
        schedule=Schedule(training),
        readouts=Readouts(training, validated=validate is not None),
        training=training,
        device=device,
        teacher=taught,
        validate=validate,
        metric=str(recipe["dataset"]["metric"]),
        report=_reporter(training["epochs"]),
    )


def build_model(found: Inputs) -> models.Normalised:
    """Return the model with its initial weights, seeded by seed, fold and run name alone."""
    recipe, frontend = found.recipe, found.frontend
    seeds.seed_initial(found.seed, found.fold, str(recipe["run"]))
    core = models.build_part(
        recipe["model"], len(found.clips.classes), frontend["frames"], frontend["mel_bins"]
    )
    rule = recipe["model"]["normalise"]
    numbers = rule if rule["statistics"] == "published" else found.statistics
    model = models.Normalised(core, numbers["mean"], rule["factor"] * numbers["std"])
    models.weights.initialise(model, recipe["model"], found.initial, found.clips.classes)
    return model


def _optimiser(model: nn.Module, training: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return Adam as published: L2 in the gradient, no decoupled decay (ast, psla)."""
    if training["optimiser"] != "adam":
        raise ConfigError(f"training.optimiser '{training['optimiser']}' is not known; known: adam")
    return torch.optim.Adam(
        model.parameters(),
        lr=training["lr"],
        betas=tuple(training["betas"]),
        weight_decay=training["weight_decay"],
    )


def _views(
    found: Inputs, device: torch.device, execution: Mapping[str, Any], taught: bool
) -> Views:
    """Return the training clips' augmented views; DataError where the fold has none."""
    indices = found.clips.subset(found.fold, "train")
    if not len(indices):
        raise DataError(f"fold {found.fold} of {found.clips.folder} has no training clip")
    recipe = found.recipe
    return Views(
        found.clips,
        indices,
        recipe["input"],
        found.seed,
        found.fold,
        recipe["depth"],
        found.statistics["std"],
        recipe["objective"]["teaching"] if taught else None,
        cache_bytes=int(execution.get("cache_bytes", CACHE_BYTES)),
        device=device,
    )


def _validation(
    found: Inputs, device: torch.device, execution: Mapping[str, Any]
) -> Callable[[nn.Module], Mapping[str, float | None]] | None:
    """Return a function that scores the validation split, None where there is none."""
    indices = found.clips.subset(found.fold, "val")
    if not len(indices):
        _refuse_plateau(found)
        return None
    room = int(execution.get("cache_bytes", CACHE_BYTES))
    banks = Banks(found.clips, indices, found.recipe["input"], room, device)
    targets, labels = found.clips.labels[indices], found.recipe["dataset"]["labels"]
    if not targets.any():
        raise DataError(
            f"no validation clip of {found.clips.folder} has a label, so that no epoch can be "
            "scored; look at the labels in manifest.csv"
        )

    def validate(model: nn.Module) -> Mapping[str, float | None]:
        logits = predict(model, banks.batches(BATCH), device)
        return metrics.all_metrics(logits, targets, labels)

    return validate


def _refuse_plateau(found: Inputs) -> None:
    """Raise ConfigError for a plateau schedule without a validation split."""
    if found.recipe["training"]["schedule"]["kind"] == "plateau":
        raise ConfigError(
            f"training.schedule 'plateau' needs a validation split and fold {found.fold} of "
            f"{found.recipe['dataset']['name']} has none; choose 'step' or 'constant'"
        )


def _resume(task: fit.Task, keeper: Checkpoints, kept: EpochWeights) -> fit.State:
    """Return the state to go on from: the newest sound checkpoint's, or the beginning.

    A checkpoint is of no use where the weights of an epoch before it are wanted and lost.
    """
    saved = keeper.load()
    if kept.resume(saved[1]["epoch"] if saved else 0) and saved:
        return fit.restore(task, *saved)
    if saved:
        print("weights of earlier epochs are lost, so the training begins anew", flush=True)
    return fit.State()


def _attempts(state: Path, found: Inputs, began: float) -> list[float]:
    """Note one more start of this very training and return the times of all of them."""
    path = state / "attempts.json"
    known = files.read_json(path) if path.exists() else {}
    earlier = known.get("starts", []) if known.get("identity") == found.identity else []
    starts = [*earlier, began]
    files.write_json(path, {"identity": found.identity, "starts": starts})
    return starts


def _announce(task: fit.Task, found: Inputs, state: fit.State) -> None:
    """Print one block that says what was decided, and from where the training goes on."""
    recipe, frontend = found.recipe, found.frontend
    machine = costs.machine(task.device, {})
    clips = [len(found.clips.subset(found.fold, role)) for role in ("train", "val")]
    begins = f"step {state.step}, epoch {state.epoch + 1}" if state.step else "the beginning"
    taught = f"{task.teacher.name}, live, frozen" if task.teacher else "none"
    lines = {
        "run": f"{recipe['run']} on {recipe['dataset']['name']}, fold {found.fold}, "
        f"seed {found.seed}, recipe {found.digest}",
        "device": f"{machine['device']}, {machine['threads']} thread(s), {machine['precision']}",
        "clips": f"{clips[0]} for training, {clips[1]} for validation",
        "input": f"{frontend['mel_bins']} mel bins, {frontend['shift_ms']:g} ms shift, "
        f"{frontend['frames']} frames",
        "model": f"{models.count_parameters(task.model):,} parameters, "
        f"initial weights: {recipe['model'].get('weights', 'none')}",
        "teacher": taught,
        "begins at": begins,
    }
    print("\n".join(f"{key:>10}  {value}" for key, value in lines.items()), flush=True)


def _reporter(epochs: int) -> Callable[[Mapping[str, Any]], None]:
    """Return a function that prints one plain line for an epoch."""

    def report(row: Mapping[str, Any]) -> None:
        soft = "" if row["loss_soft"] is None else f", soft {row['loss_soft']:.4f}"
        scores = [
            f"  {key} {value:.4f}"
            for key, value in row.items()
            if key.startswith("val_") and value is not None
        ]
        print(
            f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f} (hard {row['loss_hard']:.4f}"
            f"{soft})  lr {row['lr']:.3g}  {row['clips_per_second']:.0f} clips/s{''.join(scores)}",
            flush=True,
        )

    return report
