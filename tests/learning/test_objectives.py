"""Objectives: lambda, temperature, smoothing, and what is missing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import ConfigError, RunError
from cmkd.learning import losses, objectives

LABELS = ("single", "multi")


def options(**changes) -> dict:
    return {"lambda": 0.5, "tau": 1.0, "soft": "kl", "smoothing": 0.1, "labels": "single"} | changes


def some(seed: int) -> Tensor:
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


TARGETS = torch.eye(4)[[0, 1, 2, 3, 0, 1]]


@pytest.mark.parametrize("labels", LABELS)
def test_parts_and_their_mix(labels: str) -> None:
    chosen = options(labels=labels, tau=2.0) | {"lambda": 0.25}
    found = objectives.distill(some(0), some(1), TARGETS, chosen)
    torch.testing.assert_close(found.total, 0.25 * found.hard + 0.75 * found.soft)
    hard = losses.HARD[labels](some(0), losses.smoothed(TARGETS, 0.1))
    torch.testing.assert_close(found.hard, hard)


def test_temperature_divides_the_teacher_only_and_nothing_is_rescaled() -> None:
    found = objectives.distill(some(0), some(1), TARGETS, options(tau=4.0))
    expected = F.kl_div(
        F.log_softmax(some(0), -1), F.softmax(some(1) / 4, -1), reduction="batchmean"
    )  # fmt: skip
    torch.testing.assert_close(found.soft, expected)


@pytest.mark.parametrize("labels", LABELS)
def test_smoothing_leaves_the_soft_part_alone(labels: str) -> None:
    plain = objectives.distill(some(0), some(1), TARGETS, options(labels=labels, smoothing=0.0))
    smooth = objectives.distill(some(0), some(1), TARGETS, options(labels=labels, smoothing=0.3))
    assert smooth.soft.item() == plain.soft.item()
    assert smooth.hard.item() != plain.hard.item()


@pytest.mark.parametrize("labels", LABELS)
def test_lambda_one_is_training_alone_to_the_bit(labels: str) -> None:
    chosen = options(labels=labels) | {"lambda": 1.0}
    gradients = []
    for objective, teacher in ((objectives.alone, None), (objectives.distill, some(1))):
        student = some(0).requires_grad_()
        found = objective(student, teacher, TARGETS, chosen)
        gradients.append((found.total.item(), *torch.autograd.grad(found.total, student)))
    assert gradients[0][0] == gradients[1][0]
    assert torch.equal(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("labels", LABELS)
def test_lambda_zero_is_the_soft_part(labels: str) -> None:
    chosen = options(labels=labels) | {"lambda": 0.0}
    found = objectives.distill(some(0), some(1), TARGETS, chosen)
    assert found.total.item() == found.soft.item()


def test_softmax_form_for_multi_label_is_dass() -> None:
    found = objectives.distill(
        some(0), some(1), TARGETS, options(labels="multi", soft="softmax_kl")
    )  # fmt: skip
    assert found.soft.item() == losses.soft_single(some(0), some(1)).item()


def test_missing_soft_targets_are_an_error() -> None:
    with pytest.raises(RunError, match="soft targets are missing"):
        objectives.distill(some(0), None, TARGETS, options())


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'distill'"):
        objectives.find("distil")
    with pytest.raises(ConfigError, match=r"objective.soft 'kll' is not known, did you mean 'kl'"):
        objectives.distill(some(0), some(1), TARGETS, options(soft="kll"))
