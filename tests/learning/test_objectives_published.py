"""Objectives beyond the paper against their published equations, written here in NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.learning import objectives
from cmkd.models.heads import Pair

CLASSES = [0, 1, 2, 3, 4, 0, 1]


def some(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(7, 5, generator=generator, dtype=torch.float64)


OWN, TEACHER = some(0), some(1)
TARGETS = torch.eye(5, dtype=torch.float64)[CLASSES]


def soft(name: str, own: Any = OWN, targets: Tensor = TARGETS, **chosen: Any) -> float:
    chosen = {"lambda": 0.5, "labels": "single"} | chosen
    return objectives.find(name)(own, TEACHER, targets, chosen).soft.item()


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def sigmoid(rows: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-rows))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * np.log(p / q)).sum())


def decoupled(tau: float) -> tuple[list[float], list[float], list[float]]:
    """Return TCKD, NCKD and the teacher's target probability of each clip (equations 2 to 6)."""
    target_part, other_part, confidence = [], [], []
    for own, theirs, target in zip(OWN.numpy() / tau, TEACHER.numpy() / tau, CLASSES, strict=True):
        p, q = softmax(theirs), softmax(own)
        rest = [k for k in range(5) if k != target]
        b = [np.array([x[target], x[rest].sum()]) for x in (p, q)]
        target_part.append(kl(*b))
        other_part.append(kl(p[rest] / p[rest].sum(), q[rest] / q[rest].sum()))
        confidence.append(p[target])
    return target_part, other_part, confidence


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("alpha, beta", [(1.0, 8.0), (0.5, 2.0)])
def test_dkd_is_equation_7(tau: float, alpha: float, beta: float) -> None:
    target_part, other_part, _ = decoupled(tau)
    expected = tau**2 * (alpha * np.mean(target_part) + beta * np.mean(other_part))
    assert soft("dkd", alpha=alpha, beta=beta, tau=tau) == pytest.approx(expected)


def test_dkds_parts_make_up_the_classical_loss() -> None:
    """KD = TCKD + (1 - p_target) NCKD, clip by clip (equation 6)."""
    whole = [kl(softmax(p), softmax(q)) for p, q in zip(TEACHER.numpy(), OWN.numpy(), strict=True)]
    target_part, other_part, confidence = map(np.array, decoupled(1.0))
    np.testing.assert_allclose(target_part + (1 - confidence) * other_part, whole)


def test_dkd_of_a_mixed_clip_has_the_larger_share_as_target() -> None:
    mixed = 0.7 * TARGETS + 0.3 * TARGETS.roll(1, dims=0)
    chosen = {"alpha": 1.0, "beta": 8.0, "tau": 1.0}
    assert soft("dkd", targets=mixed, **chosen) == soft("dkd", **chosen)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_logit_standardisation_is_kl_of_z_scores(tau: float) -> None:
    def z(row: np.ndarray) -> np.ndarray:
        return (row - row.mean()) / row.std(ddof=1) / tau

    rows = zip(TEACHER.numpy(), OWN.numpy(), strict=True)
    expected = tau**2 * np.mean([kl(softmax(z(p)), softmax(z(q))) for p, q in rows])
    assert soft("logit_std", tau=tau) == pytest.approx(expected, rel=1e-5)


def test_logit_standardisation_ignores_a_students_scale_and_shift() -> None:
    assert soft("logit_std", 7 * OWN - 3, tau=2.0) == pytest.approx(soft("logit_std", tau=2.0))


@pytest.mark.parametrize("labels", ["single", "multi"])
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_dist_is_numpys_correlation_over_classes_and_over_clips(labels: str, tau: float) -> None:
    own, theirs = OWN.numpy() / tau, TEACHER.numpy() / tau
    if labels == "multi":
        p, q = sigmoid(theirs), sigmoid(own)
    else:
        p, q = (np.stack([softmax(row) for row in rows]) for rows in (theirs, own))
    inter = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    found = soft("dist", labels=labels, beta=2.0, gamma=3.0, tau=tau)
    assert found == pytest.approx(tau**2 * (2 * inter + 3 * intra))


def test_mld_sums_yes_or_no_over_classes() -> None:
    p, q = sigmoid(TEACHER.numpy() / 2.0), sigmoid(OWN.numpy())
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert soft("mld", labels="multi", tau=2.0) == pytest.approx(each.sum(axis=1).mean())


def test_token_hard_teaches_decisions_to_the_second_head() -> None:
    label, distilled = some(2), some(3)
    found = soft("token_hard", Pair(label, distilled))
    assert found == pytest.approx(F.cross_entropy(distilled, TEACHER.argmax(dim=-1)).item())
    found = soft("token_hard", Pair(label, distilled), labels="multi")
    yes = (sigmoid(TEACHER.numpy()) > 0.5).astype(float)
    each = yes * np.log(sigmoid(distilled.numpy())) + (1 - yes) * np.log(
        sigmoid(-distilled.numpy())
    )
    assert found == pytest.approx(-each.mean())


@pytest.mark.parametrize("labels", ["single", "multi"])
def test_token_soft_is_the_papers_kl_on_the_second_head(labels: str) -> None:
    label, distilled = some(2), some(3)
    found = soft("token_soft", Pair(label, distilled), labels=labels, tau=2.0)
    assert found == soft("distill", distilled, labels=labels, tau=2.0)


@pytest.mark.parametrize("name", ["token_hard", "token_soft"])
def test_each_head_learns_from_its_own_part(name: str) -> None:
    pair = Pair(some(2).requires_grad_(), some(3).requires_grad_())
    chosen = {"lambda": 0.5, "labels": "single", "tau": 1.0}
    found = objectives.find(name)(pair, TEACHER, TARGETS, chosen)
    for part, own, other in ((found.hard, *pair), (found.soft, *reversed(pair))):
        gradients = torch.autograd.grad(part, (own, other), allow_unused=True)
        assert gradients[0].abs().sum() > 0 and gradients[1] is None
