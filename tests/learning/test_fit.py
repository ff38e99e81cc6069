"""The loop: what a step does, what makes it stop, and that it goes on to the bit."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from cmkd.errors import RunError, Stopped, TrainingError
from cmkd.learning import fit, objectives
from cmkd.learning.fit import State, Task
from cmkd.learning.readouts import Readouts
from cmkd.learning.schedule import Schedule
from cmkd.learning.teacher import Teacher

CPU = torch.device("cpu")
CLIPS = 11


class FakeViews:
    """Epochs of random views: a pure function of the epoch, like the real ones."""

    def __init__(self, spoil: int | None = None) -> None:
        self.spoil = spoil

    def epoch(self, number: int) -> "FakeViews":
        generator = torch.Generator().manual_seed(number)
        self.views = torch.randn(CLIPS, 2, 3, generator=generator)
        self.targets = torch.eye(4)[torch.randint(4, (CLIPS,), generator=generator)]
        if self.spoil == number:
            self.views[-1] = math.nan
        return copy.copy(self)

    def __len__(self) -> int:
        return CLIPS

    def batch(self, start: int, stop: int) -> SimpleNamespace:
        view = self.views[start:stop]
        return SimpleNamespace(student=view, teacher=view, targets=self.targets[start:stop])


def net(seed: int = 0, dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(8, 4))


def task(**changes) -> Task:
    training = {
        "lr": 0.01,
        "batch": 4,
        "epochs": 3,
        "warmup_steps": 0,
        "schedule": {"kind": "constant"},
        "readout": "averaged",
        "average": [2, 3],
    } | changes.pop("training", {})
    model = changes.pop("model", None) or net()
    options = {"labels": "single", "smoothing": 0.1, "lambda": 0.5, "tau": 1.0}
    validate = changes.get("validate")
    given = {
        "run": "net",
        "fold": 1,
        "seed": 0,
        "model": model,
        "views": FakeViews(),
        "objective": objectives.find("alone"),
        "options": options | changes.pop("options", {}),
        "optimiser": torch.optim.Adam(model.parameters(), betas=(0.95, 0.999), weight_decay=5e-7),
        "schedule": Schedule(training),
        "readouts": Readouts(training, validated=validate is not None),
        "training": training,
        "device": CPU,
    }
    return Task(**{**given, **changes})


def bits(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("clips", "size", "expected"),
    [
        (10, 5, [(0, 5), (5, 10)]),
        (12, 5, [(0, 5), (5, 10), (10, 12)]),
        (11, 5, [(0, 5), (5, 11)]),
        (3, 5, [(0, 3)]),
        (1, 5, [(0, 1)]),
        (3, 1, [(0, 1), (1, 3)]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(clips, size, expected) -> None:
    assert fit.parts(clips, size) == expected


def test_it_is_plain_adam() -> None:
    done = task(model=net(dropout=0.0))
    fit.fit(done, State())
    model = net(dropout=0.0)
    oracle = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.95, 0.999), weight_decay=5e-7)
    for epoch in range(3):
        views = FakeViews().epoch(epoch)
        for start, stop in ((0, 4), (4, 8), (8, 11)):
            oracle.zero_grad()
            batch = views.batch(start, stop)
            wanted = 0.9 * batch.targets + 0.1 / 4 * (1 - batch.targets)
            nn.functional.cross_entropy(model(batch.student), wanted).backward()
            oracle.step()
    for found, expected in zip(bits(done.model), bits(model), strict=True):
        torch.testing.assert_close(found, expected)


def test_history_has_a_row_an_epoch_with_means_over_clips() -> None:
    rows = fit.fit(task(training={"lr": 0.0}, model=net(dropout=0.0)), State())
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [3, 6, 9]
    model, views, total = net(dropout=0.0), FakeViews().epoch(1), 0.0
    for start, stop in ((0, 4), (4, 8), (8, 11)):
        batch = views.batch(start, stop)
        found = objectives.find("alone")(model(batch.student), None, batch.targets, task().options)
        total += found.total.item() * (stop - start)
    assert rows[1]["loss"] == pytest.approx(total / CLIPS)
    assert rows[1]["loss_hard"] == rows[1]["loss"]
    assert rows[1]["loss_soft"] is None


def test_warmup_begins_at_exactly_zero() -> None:
    before = [weight.clone() for weight in net().parameters()]
    warm = task(training={"warmup_steps": 1000, "epochs": 1, "average": [1, 1]})
    rows = fit.fit(warm, State())
    assert rows[0]["lr"] == 0.0
    assert same(before, list(warm.model.parameters()))


def taught(**changes) -> Task:
    teacher = Teacher(net(seed=9), "teacher", CPU)
    return task(objective=objectives.find("distill"), teacher=teacher, **changes)


def test_lambda_one_equals_training_alone_to_the_bit() -> None:
    alone, one = task(), taught(options={"lambda": 1.0})
    fit.fit(alone, State())
    rows = fit.fit(one, State())
    assert same(bits(alone.model), bits(one.model))
    assert rows[0]["loss_soft"] > 0


def test_teaching_changes_the_student_and_not_the_teacher() -> None:
    alone, half = task(), taught()
    before = bits(half.teacher.model)
    fit.fit(alone, State())
    rows = fit.fit(half, State())
    assert not same(bits(alone.model), bits(half.model))
    assert same(before, bits(half.teacher.model))
    for row in rows:
        assert row["loss"] == pytest.approx(0.5 * row["loss_hard"] + 0.5 * row["loss_soft"])


def test_a_teacher_that_training_changed_ends_in_an_error() -> None:
    half = taught()
    half.report = lambda row: half.teacher.model[1].weight.data.mul_(1.001)
    with pytest.raises(RunError, match="teacher was changed by its student's training"):
        fit.fit(half, State())


def test_the_teacher_gets_its_own_view_where_it_has_one() -> None:
    half = taught(training={"epochs": 1, "average": [1, 1]})
    seen = []
    half.teacher.logits = lambda view: seen.append(view) or torch.zeros(len(view), 4)
    batch = FakeViews.batch
    views = FakeViews()
    views.batch = lambda start, stop: SimpleNamespace(
        **{**vars(batch(views, start, stop)), "teacher": torch.full((stop - start, 2, 3), 7.0)}
    )
    views.epoch = lambda number: (FakeViews.epoch(views, number), views)[1]
    half.views = views
    fit.fit(half, State())
    assert all((view == 7).all() for view in seen) and len(seen) == 3


def test_dropout_depends_on_seed_fold_run_and_step_alone() -> None:
    models = []
    for change in ({}, {}, {"seed": 1}, {"fold": 2}, {"run": "other"}):
        torch.manual_seed(123 + len(models))
        model = net()
        torch.randn(len(models))
        fit.fit(done := task(model=model, **change), State())
        models.append(bits(done.model))
    assert same(models[0], models[1])
    assert not any(same(models[0], other) for other in models[2:])


def test_a_loss_that_is_not_finite_names_epoch_step_and_causes() -> None:
    with pytest.raises(TrainingError, match=r"epoch 2, step 5 .*likely causes: a learning rate"):
        fit.fit(task(views=FakeViews(spoil=1)), State())


class Memory:
    """A keeper that holds deep copies of every state."""

    def __init__(self) -> None:
        self.kept = []

    def due(self, step: int) -> bool:
        return True

    def save(self, tensors, progress) -> None:
        self.kept.append(({k: v.clone() for k, v in tensors.items()}, copy.deepcopy(progress)))


def scores(model: nn.Module) -> dict[str, float]:
    model.eval()
    return {"accuracy": float(model(torch.ones(2, 2, 3))[0, 0].detach())}


def pausing() -> Task:
    plateau = {"kind": "plateau", "patience": 0, "factor": 0.5}
    chosen = {"schedule": plateau, "readouts": ["best", "last"]}
    return taught(training=chosen, validate=scores, keeper=Memory())


def test_going_on_from_any_step_gives_the_same_bits() -> None:
    whole = pausing()
    rows = fit.fit(whole, State())
    assert len(whole.keeper.kept) == 9
    for tensors, progress in whole.keeper.kept:
        again = pausing()
        fit.fit(again, fit.restore(again, tensors, progress))
        for name in ("last", "averaged", "best"):
            found = [w.readouts.weights(name, w.model) for w in (whole, again)]
            assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
        for one, other in zip(rows, fit.fit(again, State(epoch=3, rows=rows)), strict=True):
            assert one == other
        assert again.schedule.state() == whole.schedule.state()


def test_history_goes_on_too() -> None:
    whole, again = pausing(), pausing()
    rows = fit.fit(whole, State())
    more = fit.fit(again, fit.restore(again, *whole.keeper.kept[4]))
    kept = ("epoch", "step", "lr", "loss", "loss_hard", "loss_soft", "grad_norm", "val_accuracy")
    assert [[row[key] for key in kept] for row in more] == [[r[key] for key in kept] for r in rows]


def test_stop_is_met_at_a_step_boundary_with_the_state_saved() -> None:
    asked = iter([False, False, True])
    stopped = taught(keeper=Memory(), stop=lambda: next(asked))
    with pytest.raises(Stopped, match=r"after step 3 .*run the same command again") as caught:
        fit.fit(stopped, State())
    assert caught.value.exit_code == 75
    assert stopped.keeper.kept[-1][1]["step"] == 3


def test_optimiser_state_keeps_the_layout_of_its_weights() -> None:
    def conv() -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv2d(1, 5, 2), nn.Flatten())
        return nn.Sequential(layers, nn.Linear(10, 4)).to(memory_format=torch.channels_last)

    whole = task(model=conv(), keeper=Memory())
    fit.fit(whole, State())
    tensors, progress = whole.keeper.kept[3]
    plain = {key: tensor.contiguous() for key, tensor in tensors.items()}
    again = task(model=conv())
    state = fit.restore(again, plain, progress)
    weight = again.model[0][1].weight
    assert again.optimiser.state[weight]["exp_avg"].stride() == weight.stride()
    fit.fit(again, state)
    assert same(bits(whole.model), bits(again.model))
