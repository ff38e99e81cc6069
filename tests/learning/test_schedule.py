"""Learning rates against the published rule and torch's own schedulers."""

import pytest
import torch

from cmkd.errors import ConfigError
from cmkd.learning.schedule import Schedule, warmup


def training(**changes) -> dict:
    return {"lr": 0.01, "warmup_steps": 0, "schedule": {"kind": "constant"}} | changes


def adam() -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.01)


def test_warmup_is_the_published_rule() -> None:
    # ast src/traintest.py: at global_step <= 1000 and divisible by 50, lr = step / 1000 x base.
    rate, expected = 0.0, []
    for step in range(1100):
        if step <= 1000 and step % 50 == 0:
            rate = step / 1000
        expected.append(rate)
    assert [warmup(step, 1000) for step in range(1100)] == pytest.approx(expected)
    assert warmup(0, 1000) == 0.0
    assert warmup(1000, 1000) == 1.0


def test_no_warmup_starts_at_the_base() -> None:
    assert Schedule(training()).rate(epoch=1, step=0) == 0.01


def test_steps_are_torchs_multistep() -> None:
    chosen = {"kind": "step", "start": 5, "every": 3, "factor": 0.85}
    schedule, optimiser = Schedule(training(schedule=chosen)), adam()
    # torch counts finished epochs, so epoch 5 (1-based) begins after 4 of them.
    oracle = torch.optim.lr_scheduler.MultiStepLR(optimiser, range(4, 100, 3), gamma=0.85)
    for epoch in range(1, 20):
        assert schedule.rate(epoch, 99) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        oracle.step()


def test_our_start_is_one_epoch_before_the_sibling_codes() -> None:
    # ast src/traintest.py: MultiStepLR([5, 6, ...]), stepped at the end of each epoch from 1 on.
    optimiser = adam()
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, range(5, 100), gamma=0.85)
    ours = Schedule(training(schedule={"kind": "step", "start": 6, "every": 1, "factor": 0.85}))
    for epoch in range(1, 12):
        assert ours.rate(epoch, 0) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize("seed", range(5))
def test_plateau_is_torchs(seed: int) -> None:
    chosen = {"kind": "plateau", "patience": 2, "factor": 0.5}
    schedule, optimiser = Schedule(training(schedule=chosen)), adam()
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, mode="max", factor=0.5, patience=2
    )  # fmt: skip
    scores = torch.rand(40, generator=torch.Generator().manual_seed(seed)).sqrt().tolist()
    for epoch, score in enumerate(scores, 1):
        assert schedule.rate(epoch, 0) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.end_epoch(score)
        oracle.step(score)
    assert schedule.plateau.scale < 1


def test_plateau_goes_on_from_its_state() -> None:
    chosen = training(schedule={"kind": "plateau", "patience": 0, "factor": 0.5})
    first, second = Schedule(chosen), Schedule(chosen)
    for score in (0.5, 0.4):
        first.end_epoch(score)
    second.restore(first.state())
    assert second.rate(3, 0) == first.rate(3, 0) == 0.005


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'plateau'"):
        Schedule(training(schedule={"kind": "plato"}))
