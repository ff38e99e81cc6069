"""One training loop: objective, model, views, optimiser, schedule and device in, history out.

Every number it needs to go on is in `State` and in the tensors of `tensors`, so a training stopped
after any step and begun again from a checkpoint gives the same bits.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cmkd.audio.views import Batch, Epoch, Views
from cmkd.errors import Stopped, TrainingError
from cmkd.learning.objectives import Losses, Objective
from cmkd.learning.parallel import World
from cmkd.learning.readouts import Readouts
from cmkd.learning.schedule import Schedule
from cmkd.learning.seeds import seed_step
from cmkd.learning.teacher import Teacher

SUMS = ("loss", "loss_hard", "loss_soft", "grad_norm", "clips", "seconds")
PHASES = ("start", "views", "teacher", "student", "validation", "checkpoint", "outputs")


class Interrupted(Exception):
    """Time was up within a validation, of which nothing is kept."""


class Keeper(Protocol):
    """Where the state is saved."""

    def due(self, step: int) -> bool:
        """Say whether it should be saved after this step."""

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Save it."""


@dataclass
class Task:
    """What to train and how.

    `options` are the objective's (with `labels`), `training` the recipe's part. `validate` returns
    the metrics of the validation split by name, or raises Interrupted when time is up; `metric` is
    the one that chooses. `stop` says that time is up, `report` takes each row of the history,
    `pulse` the state after each step and each epoch, with the steps of an epoch. `world` is one
    process, or one of several.
    """

    run: str
    fold: int
    seed: int
    model: nn.Module
    views: Views
    objective: Objective
    options: Mapping[str, Any]
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    readouts: Readouts
    training: Mapping[str, Any]
    device: torch.device
    teacher: Teacher | None = None
    validate: Callable[[nn.Module], Mapping[str, float | None]] | None = None
    metric: str = "accuracy"
    keeper: Keeper | None = None
    stop: Callable[[], bool] = lambda: False
    report: Callable[[Mapping[str, Any]], None] = lambda row: None
    pulse: Callable[["State", int], None] = lambda state, steps: None
    world: World = field(default_factory=World)


@dataclass
class State:
    """How far a training has come: 0-based epoch, batch within it, steps done, sums, history.

    `phases` are wall seconds, `device_seconds` those times the processes that each attempt had,
    whose numbers are in `sizes`.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    rows: list[dict[str, Any]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    device_seconds: float = 0.0
    sizes: list[int] = field(default_factory=lambda: [1])

    def begin(self, size: int) -> None:
        """Note the number of processes that go on from here."""
        self.sizes = [*(self.sizes if self.step else []), size]

    def spend(self, phase: str, seconds: float) -> None:
        """Add seconds to a phase, and those of all devices to their sum."""
        self.phases[phase] += seconds
        self.device_seconds += seconds * self.sizes[-1]

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds of a block to a phase."""
        start = time.perf_counter()
        yield
        self.spend(phase, time.perf_counter() - start)


def fit(task: Task, state: State) -> list[dict[str, Any]]:
    """Train to the last epoch and return the history, a row an epoch.

    Raises:
        TrainingError: a loss or a gradient that is not finite.
        Stopped: `stop` said so; the state is saved where there is a keeper.
    """
    task.model.train()
    while state.epoch < task.training["epochs"]:
        _epoch(task, state)
        task.world.check_equal(task.model)
    if task.teacher:
        task.teacher.check_unchanged()
    return state.rows


def parts(positions: int, size: int) -> list[tuple[int, int]]:
    """Cut positions into batches; a last batch of one clip joins the batch before it."""
    starts = list(range(0, positions, size))
    if len(starts) > 1 and positions - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], positions], strict=True))


def _epoch(task: Task, state: State) -> None:
    """Train one epoch from where the state stands; save after a step when it is time.

    A training that was stopped within a validation stands behind the last step of its epoch.
    """
    epoch = task.views.epoch(state.epoch)
    pieces = parts(len(epoch), task.training["batch"])
    if state.batch == len(pieces):
        _set_rate(task, task.schedule.rate(state.epoch + 1, state.step - 1))
    for start, stop in pieces[state.batch :]:
        before = time.perf_counter()
        _step(task, state, epoch, start, stop)
        state.sums["seconds"] += time.perf_counter() - before
        state.batch += 1
        task.pulse(state, len(pieces))
        if state.batch < len(pieces):
            _save_or_stop(task, state)
    try:
        _end_epoch(task, state)
    except Interrupted:
        _stop(task, state)
    task.pulse(state, len(pieces))
    _save_or_stop(task, state)


def _step(task: Task, state: State, epoch: Epoch, start: int, stop: int) -> None:
    """Take one step: views, teacher, forward, backward, update; a process makes its own part."""
    rate = task.schedule.rate(state.epoch + 1, state.step)
    _set_rate(task, rate)
    with state.timed("views"):
        begin, end = task.world.part(start, stop)
        batch = epoch.batch(begin, end)
        view, targets = batch.student.to(task.device), batch.targets.to(task.device)
    with state.timed("teacher"):
        soft = _teach(task, batch, view)
    with state.timed("student"):
        seed_step(task.seed, task.fold, task.run, state.step, task.world.rank)
        task.optimiser.zero_grad(set_to_none=True)
        answer, targets, soft = task.world.whole(task.model(view), targets, soft, start, stop)
        losses = task.objective(answer, soft, targets, task.options)
        torch.autograd.backward(losses.total)
        task.world.add(task.model, (end - begin) / (stop - start))
        values = _measure(task.model, losses)
        _check_finite(values, state, rate)
        task.optimiser.step()
    for name, value in zip(SUMS, [*values, 1.0], strict=False):
        state.sums[name] += value * (stop - start)
    state.step += 1


def _set_rate(task: Task, rate: float) -> None:
    """Give the optimiser its learning rate."""
    for group in task.optimiser.param_groups:
        group["lr"] = rate


def _teach(task: Task, batch: Batch, view: Tensor) -> Tensor | None:
    """Return the teacher's logits on its view, which may be the student's very tensor."""
    if task.teacher is None:
        return None
    if batch.teacher is None or batch.teacher is batch.student:
        return task.teacher.logits(view)
    return task.teacher.logits(batch.teacher.to(task.device))


def _measure(model: nn.Module, losses: Losses) -> list[float]:
    """Return total, hard and soft loss and the gradient's norm, in one transfer."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    soft = torch.zeros_like(losses.hard) if losses.soft is None else losses.soft
    together = torch.stack([losses.total, losses.hard, soft, norm]).detach()
    return [float(value) for value in together.cpu()]


def _check_finite(values: list[float], state: State, rate: float) -> None:
    """Raise TrainingError with epoch, step and likely causes unless all are finite."""
    if all(math.isfinite(value) for value in values):
        return
    named = ", ".join(f"{name} {value:g}" for name, value in zip(SUMS, values, strict=False))
    raise TrainingError(
        f"training is no longer finite at epoch {state.epoch + 1}, step {state.step} ({named}, "
        f"learning rate {rate:g}); likely causes: a learning rate too high or no warm-up, "
        "non-finite samples or statistics, a teacher with non-finite logits"
    )


def _end_epoch(task: Task, state: State) -> None:
    """Validate, let schedule and readouts see the weights, and add a row to the history."""
    scores: dict[str, float | None] = {}
    if task.validate:
        with state.timed("validation"):
            scores = dict(task.validate(task.model))
            task.model.train()
    value = scores.get(task.metric)
    number = state.epoch + 1
    row = _row(task, state, number)
    row.update({f"val_{name}": score for name, score in scores.items()})
    task.schedule.end_epoch(value)
    with state.timed("checkpoint"):
        task.readouts.end_epoch(number, task.model, value)
    state.rows.append(row)
    state.epoch, state.batch = number, 0
    state.sums = dict.fromkeys(SUMS, 0.0)
    task.report(row)


def _row(task: Task, state: State, number: int) -> dict[str, Any]:
    """Return an epoch's row: means over its clips, and the rate of its last step."""
    sums, clips = state.sums, state.sums["clips"]
    soft = None if task.teacher is None else sums["loss_soft"] / clips
    return {
        "epoch": number,
        "step": state.step,
        "time": time.time(),
        "seconds": sums["seconds"],
        "lr": task.optimiser.param_groups[0]["lr"],
        "loss": sums["loss"] / clips,
        "loss_hard": sums["loss_hard"] / clips,
        "loss_soft": soft,
        "grad_norm": sums["grad_norm"] / clips,
        "clips_per_second": clips / sums["seconds"],
    }


def _save_or_stop(task: Task, state: State) -> None:
    """Save the state when it is due; when time is up, save it and raise Stopped."""
    finished = state.epoch == task.training["epochs"]
    stop = task.world.stops(task.stop()) and not finished
    if stop:
        _stop(task, state)
    if finished or (task.keeper and task.keeper.due(state.step)):
        _save(task, state)


def _save(task: Task, state: State) -> None:
    """Save the state, where there is a keeper."""
    if task.keeper:
        with state.timed("checkpoint"):
            task.keeper.save(tensors(task), progress(task, state))


def _stop(task: Task, state: State) -> None:
    """Save the state and raise Stopped."""
    _save(task, state)
    task.world.wait()  # until the leader has saved: the first to end takes the others with it
    raise Stopped(
        f"stopped after step {state.step} (epoch {state.epoch + 1}) with the state saved; "
        "run the same command again to go on"
    )


def tensors(task: Task) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint: model, optimiser, sums and best weights."""
    named = {f"model/{key}": value for key, value in task.model.state_dict().items()}
    named |= {f"sum/{key}": value for key, value in task.readouts.sums.items()}
    named |= {f"best/{key}": value for key, value in task.readouts.best.items()}
    for number, weight in enumerate(task.model.parameters()):
        for key, value in task.optimiser.state.get(weight, {}).items():
            named[f"optimiser/{number}/{key}"] = value
    return named


def progress(task: Task, state: State) -> dict[str, Any]:
    """Return all numbers of a checkpoint."""
    return {
        **vars(state),
        "schedule": task.schedule.state(),
        "readouts": task.readouts.state(),
    }


def restore(task: Task, named: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> State:
    """Put a checkpoint's tensors and numbers back and return the state to go on from."""
    task.model.load_state_dict(_part(named, "model/"))
    _restore_optimiser(task, named)
    task.schedule.restore(numbers["schedule"])
    like = task.model.state_dict()
    sums = {key: value.to(like[key].device) for key, value in _part(named, "sum/").items()}
    best = {key: value.to(like[key].device) for key, value in _part(named, "best/").items()}
    task.readouts.restore(numbers["readouts"], sums, best)
    # Checkpoints from before there were several processes do not say what the devices did.
    before = {"device_seconds": sum(numbers["phases"].values()), "sizes": [1]}
    own = {key: {**before, **numbers}[key] for key in vars(State())}
    return State(**own)


def _restore_optimiser(task: Task, named: Mapping[str, Tensor]) -> None:
    """Fill the optimiser's state in the memory layout of its weights, as training makes it."""
    for number, weight in enumerate(task.model.parameters()):
        for key, value in _part(named, f"optimiser/{number}/").items():
            # Adam counts its steps on the CPU, wherever the weights are.
            own = value.clone() if key == "step" else torch.empty_like(weight).copy_(value)
            task.optimiser.state[weight][key] = own


def _part(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with the prefix, without it."""
    return {key[len(prefix) :]: value for key, value in named.items() if key.startswith(prefix)}
