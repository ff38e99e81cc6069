"""Losses against numbers worked by hand, PyTorch's own functions and the gradients of KL."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.learning import losses

TAUS = (0.5, 1.0, 4.0)


def logits(seed: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(7, 5, generator=generator, dtype=torch.float64)


def gradient(loss, student: Tensor, other: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student, other), student)[0]


def test_smoothing_by_hand() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0, 0.25]])
    # s = 0.2, C = 4: positives 0.8, negatives 0.05, a quarter 0.25 x 0.8 + 0.75 x 0.05.
    expected = torch.tensor([[0.8, 0.05, 0.05, 0.2375]])
    torch.testing.assert_close(losses.smoothed(targets, 0.2), expected)


def test_no_smoothing_is_the_very_tensor() -> None:
    targets = torch.eye(3)
    assert losses.smoothed(targets, 0.0) is targets


def test_cross_entropy_by_hand() -> None:
    # softmax([0, ln 3]) = [1/4, 3/4].
    found = losses.hard_single(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 1.0]]))
    assert found.item() == pytest.approx(-math.log(0.75))


def test_cross_entropy_is_torchs_for_class_numbers() -> None:
    numbers = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    found = losses.hard_single(logits(0), F.one_hot(numbers, 5).double())
    torch.testing.assert_close(found, F.cross_entropy(logits(0), numbers))


def test_binary_cross_entropy_by_hand() -> None:
    # sigmoid(ln 3) = 3/4 for a positive, sigmoid(0) = 1/2 for a negative: mean of the two.
    found = losses.hard_multi(torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_softmax_kl_by_hand() -> None:
    # p_t = [1/2, 1/2], p_s = [1/4, 3/4]: KL = 1/2 ln 2 + 1/2 ln (2/3), summed over the classes.
    found = losses.soft_single(torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2))
    assert found.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_bernoulli_kl_by_hand() -> None:
    # p_t = 1/2, p_s = 3/4 and then equal: a mean over two classes.
    found = losses.soft_multi(torch.tensor([[math.log(3), 1.0]]), torch.tensor([[0.0, 1.0]]))
    one = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found.item() == pytest.approx(one / 2)


def test_softmax_kl_is_torchs() -> None:
    student, teacher = logits(1), logits(2)
    expected = F.kl_div(
        F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean"
    )  # fmt: skip
    torch.testing.assert_close(losses.soft_single(student, teacher), expected)


def test_bernoulli_kl_is_torchs_of_both_terms() -> None:
    student, teacher = logits(1), logits(2)
    own = torch.stack([F.logsigmoid(student), F.logsigmoid(-student)], -1)
    soft = torch.stack([torch.sigmoid(teacher), torch.sigmoid(-teacher)], -1)
    expected = F.kl_div(own, soft, reduction="sum") / student.numel()
    torch.testing.assert_close(losses.soft_multi(student, teacher), expected)


@pytest.mark.parametrize("tau", TAUS)
def test_gradient_of_softmax_kl(tau: float) -> None:
    student, teacher = logits(3), logits(4)
    expected = (F.softmax(student, -1) - F.softmax(teacher / tau, -1)) / len(student)
    found = gradient(losses.soft_single, student, teacher / tau)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tau", TAUS)
def test_gradient_of_bernoulli_kl_is_that_of_bce_on_soft_labels(tau: float) -> None:
    student, teacher = logits(3), logits(4) / tau
    found = gradient(losses.soft_multi, student, teacher)
    expected = (torch.sigmoid(student) - torch.sigmoid(teacher)) / student.numel()
    torch.testing.assert_close(found, expected)
    bce = gradient(F.binary_cross_entropy_with_logits, student, torch.sigmoid(teacher))
    torch.testing.assert_close(found, bce)


@pytest.mark.parametrize("soft", [losses.soft_single, losses.soft_multi])
@pytest.mark.parametrize("scale", [0.1, 3.0, 1e3, 1e30])
def test_equal_logits_give_exactly_zero(soft, scale: float) -> None:
    same = logits(5, scale).float()
    assert soft(same, same.clone()).item() == 0.0


@pytest.mark.parametrize("soft", [losses.soft_single, losses.soft_multi])
def test_huge_logits_stay_finite(soft) -> None:
    student, teacher = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    assert torch.isfinite(soft(student, teacher))
    assert torch.isfinite(gradient(soft, student, teacher)).all()
