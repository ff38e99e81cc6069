"""The verb `train`: from a wanted recipe to the weights and the history in a run folder.

It reads training and validation clips only; the test clips are scored by `evaluate`. Killed at any
moment and called again it goes on from the last checkpoint in RUN/state and gives the same bytes.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmkd import files, models
from cmkd.audio.views import CACHE_BYTES, Banks, Views
from cmkd.errors import ConfigError, DataError, Stopped
from cmkd.learning import (
    fit,
    inputs,
    objectives,
    outputs,
    parallel,
    readouts,
    seeds,
    teacher,
    walltime,
)
from cmkd.learning.checkpoint import Checkpoints
from cmkd.learning.inputs import Inputs
from cmkd.learning.pace import Pace
from cmkd.learning.parallel import World
from cmkd.learning.readouts import Readouts
from cmkd.learning.schedule import Schedule
from cmkd.learning.walltime import Walltime
from cmkd.plan.recipes import digest
from cmkd.scoring import costs, failures, lease, metrics
from cmkd.scoring.epochs import EpochWeights
from cmkd.scoring.lease import Lease
from cmkd.scoring.predict import BATCH, choose_device, predict
from cmkd.scoring.signals import stopping

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
    checkpoint_seconds, checkpoint_steps, lease_seconds and cache_bytes; none of them changes a
    result. While another copy of this job is at work on the run, it waits. Started by torchrun
    (`execution: gpus`) it is one of several processes, of which the first one writes.

    Raises:
        InputError: recipe, clips, statistics, teacher or initial weights do not fit together, or
            statistics or teacher are of another fold, whose training clips this one tests on.
        TrainingError: a loss that is not finite.
        Stopped: SIGTERM came or the walltime is nearly over; the state is saved.
        LeaseLost: another copy of this job took the run over, while this one was suspended.
    """
    began = time.time()
    if not Path(wanted).is_file():
        raise ConfigError(f"{wanted} is not there: name the file of a wanted recipe")
    run = Path(run)
    name = digest(Path(wanted).read_text(encoding="utf-8"))
    wish = str(execution.get("device", "auto"))
    with parallel.joined(wish) as world, stopping() as asked:
        clock = walltime.of_this_job() if world.leader else Walltime(None)

        def late() -> bool:
            return asked() or clock.over()

        with _alone(world, run, execution, late) as own, _recorded(world, run, name):
            if own is not None and own.waited:
                began = time.time()
            found = inputs.gather(wanted, fold, seed, prepared, statistics, teacher, initial)
            names = readouts.wanted(found.recipe["training"])[1:]
            if world.share(own is not None and _done(run, found, names, own)):
                print(f"train {run}: done already, nothing to do", flush=True)
                return
            task = build_task(found, execution, world, lambda: asked() or clock.up())
            if own is not None:
                _train(
                    run, found, execution, task, began, Keeper(run, found, execution, own, clock)
                )
            else:
                fit.fit(task, _shared(task, None))


@contextlib.contextmanager
def _alone(
    world: World, run: Path, execution: Mapping[str, Any], late: Stop
) -> Iterator[Lease | None]:
    """Hold the run's lease in the first process; the others, which get None, wait for it."""

    def look(held: bool) -> bool:
        if world.share(held):
            return True
        if world.stops(late()):
            raise Stopped(
                f"{run}: time was up while another copy of this job is at work on it; nothing was "
                "done here, run the same command again"
            )
        return False

    if not world.leader:
        while not look(False):
            pass
        yield None
        return
    with lease.held(run, "train", lease.seconds(execution), lambda: bool(look(False))) as own:
        look(True)
        yield own


def _recorded(world: World, run: Path, name: str) -> contextlib.AbstractContextManager[None]:
    """Return the block whose failure the first process writes down."""
    return failures.recorded(run, "train", name) if world.leader else contextlib.nullcontext()


def _done(run: Path, found: Inputs, names: tuple[str, ...], own: Lease) -> bool:
    """Say whether nothing is left to do; the copy that was waited for need not have scored it."""
    return inputs.already_done(run, found, names) or (
        own.waited and inputs.trained(run, found, names)
    )


class Keeper:
    """A run's checkpoints: saved while the lease is ours, at a cost that the walltime counts."""

    def __init__(
        self, run: Path, found: Inputs, execution: Mapping[str, Any], own: Lease, clock: Walltime
    ) -> None:
        """Keep them in RUN/state as often as `execution` says."""
        self.own, self.clock = own, clock
        self.saved = Checkpoints(
            run / "state",
            found.identity,
            float(execution.get("checkpoint_seconds", 60)),
            execution.get("checkpoint_steps"),
        )

    def due(self, step: int) -> bool:
        """Say whether the state should be saved now; that it is lost, too, shows there."""
        return self.own.lost or self.saved.due(step)

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Save the state, or raise LeaseLost."""
        began = time.monotonic()
        self.own.check()
        self.saved.save(tensors, progress)
        self.clock.saved(time.monotonic() - began)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what was saved last, or None."""
        return self.saved.load()


def _train(
    run: Path,
    found: Inputs,
    execution: Mapping[str, Any],
    task: fit.Task,
    began: float,
    keeper: Keeper,
) -> None:
    """Go on from where the training stands, fit, and write what it leaves."""
    outputs.remove_outdated(run)
    task.keeper = keeper
    kept = EpochWeights(run, found.identity, found.recipe["training"])
    task.readouts.keep = kept.save
    task.pulse = Pace(run, found.digest, int(found.recipe["training"]["epochs"]))
    state = _shared(task, _saved(keeper, kept))
    starts = _attempts(run / "state", found, began)
    _announce(task, found, state)
    state.spend("start", time.time() - began)
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


def build_task(
    found: Inputs,
    execution: Mapping[str, Any],
    world: World | None = None,
    stop: Stop = lambda: False,
) -> fit.Task:
    """Return what `fit` needs, made from a training's inputs; nothing has been trained yet."""
    world = world or World()
    recipe, fold, seed = found.recipe, found.fold, found.seed
    device = world.place(choose_device(execution))
    taught = teacher.load(found.teacher, recipe, device)
    training, part = recipe["training"], recipe["objective"]
    model = world.prepare(build_model(found).to(device))
    validate = _validation(found, device, execution, world, stop)
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
        stop=stop,
        report=_reporter(training["epochs"]),
        world=world,
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
    found: Inputs, device: torch.device, execution: Mapping[str, Any], world: World, stop: Stop
) -> Callable[[nn.Module], Mapping[str, float | None]] | None:
    """Return a function that scores the validation split, None where there is none.

    Several processes share its batches, which are those of one process. Between two batches it ends
    by fit.Interrupted when time is up.
    """
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
        logits = _logits(model, banks, device, world, targets.shape[1], stop)
        scores: Mapping[str, float | None] = world.share(
            metrics.all_metrics(logits, targets, labels) if world.leader else None
        )
        return scores

    return validate


def _logits(
    model: nn.Module, banks: Banks, device: torch.device, world: World, classes: int, stop: Stop
) -> Any:
    """Return logits [clips, classes], of whose batches each process makes its part."""
    starts = range(0, len(banks), BATCH)
    begin, end = world.part(0, len(starts))
    if world.size == 1:
        return predict(model, _timely(banks.batches(BATCH), world, stop, end), device)
    own = torch.zeros(end - begin, BATCH, classes)
    numbers = (np.arange(start, min(start + BATCH, len(banks))) for start in starts[begin:end])
    batches = _timely(map(banks.rows, numbers), world, stop, len(starts) // world.size)
    for made, batch in zip(own, batches, strict=True):
        found = predict(model, [batch], device)
        made[: len(found)] = torch.from_numpy(found)
    return world.rows(own, 0, len(starts)).flatten(0, 1)[: len(banks)].numpy()


def _timely(batches: Iterable[Tensor], world: World, stop: Stop, looks: int) -> Iterator[Tensor]:
    """Yield batches, and ask before the first `looks` of them, as all processes do, for the time.

    Raises:
        fit.Interrupted: it is up, in one process at least.
    """
    for number, batch in enumerate(batches):
        if number < looks and world.stops(stop()):
            raise fit.Interrupted
        yield batch


def _refuse_plateau(found: Inputs) -> None:
    """Raise ConfigError for a plateau schedule without a validation split."""
    if found.recipe["training"]["schedule"]["kind"] == "plateau":
        raise ConfigError(
            f"training.schedule 'plateau' needs a validation split and fold {found.fold} of "
            f"{found.recipe['dataset']['name']} has none; choose 'step' or 'constant'"
        )


def _saved(keeper: Keeper, kept: EpochWeights) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the newest sound checkpoint, None to begin anew.

    A checkpoint is of no use where the weights of an epoch before it are wanted and lost.
    """
    saved = keeper.load()
    if kept.resume(saved[1]["epoch"] if saved else 0) and saved:
        return saved
    if saved:
        print("weights of earlier epochs are lost, so the training begins anew", flush=True)
    return None


def _shared(task: fit.Task, saved: tuple[dict[str, Tensor], dict[str, Any]] | None) -> fit.State:
    """Return the state to go on from: that of the first process's checkpoint, or the beginning."""
    world, state = task.world, fit.State()
    tensors, numbers = saved or ({}, None)
    numbers = world.share(numbers)
    if numbers is not None:
        state = fit.restore(task, world.share_tensors(tensors), numbers)
    elif world.size > 1:
        task.model.load_state_dict(world.share_tensors(task.model.state_dict()))
    state.begin(world.size)
    return state


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
