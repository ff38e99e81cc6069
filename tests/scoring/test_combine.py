"""Means of probabilities against values by hand, torch and 50-digit arithmetic."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch

from cmkd.errors import DataError
from cmkd.scoring.combine import MeanProbabilities, mean_probabilities


def test_sigmoids_by_hand() -> None:
    # Probabilities 0.9 and 0.5 have the mean 0.7, 0.2 and 0.4 the mean 0.3.
    one = np.log(np.array([[9.0, 0.25]]))
    other = np.log(np.array([[1.0, 2 / 3]]))
    found = mean_probabilities([one, other], "multi")
    assert found.dtype == np.float32
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), [[0.7, 0.3]], rtol=1e-6)


def test_softmax_by_hand() -> None:
    one, other = np.log([[0.6, 0.3, 0.1]]) + 5.0, np.log([[0.2, 0.1, 0.7]])
    found = mean_probabilities([one, other], "single")
    np.testing.assert_allclose(found, np.log([[0.4, 0.2, 0.4]]), rtol=1e-6)


@pytest.mark.parametrize("labels", ["single", "multi"])
def test_many_systems_are_torchs_mean(labels: str) -> None:
    logits = torch.randn(5, 40, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turn = (lambda x: x.softmax(-1)) if labels == "single" else torch.sigmoid
    found = mean_probabilities([system.numpy() for system in 3 * logits], labels)
    expected = turn(3 * logits).mean(0)
    np.testing.assert_allclose(turn(torch.from_numpy(found)).numpy(), expected, rtol=2e-6)


def test_saturated_scores_keep_their_order_and_stay_finite() -> None:
    # Sigmoids of 40 and 41 are both 1 in float64, and 1 - sigmoid(800) is 0.
    getcontext().prec = 50
    systems = [np.array([[40.0, 41.0, 800.0, -800.0]]), np.array([[40.0, 40.0, 800.0, -800.0]])]
    found = mean_probabilities(systems, "multi")[0]
    assert found[0] < found[1] < found[2]
    assert np.isfinite(found).all() and found[2] == -found[3] == pytest.approx(800.0)
    away = sum((-Decimal(x)).exp() / (1 + (-Decimal(x)).exp()) for x in (41, 40)) / 2
    assert found[1] == pytest.approx(float(((1 - away) / away).ln()), rel=1e-6)
    single = mean_probabilities([np.array([[0.0, 900.0]]), np.array([[0.0, 901.0]])], "single")
    assert np.isfinite(single).all()


@pytest.mark.parametrize("labels", ["single", "multi"])
def test_one_system_is_itself_and_copies_change_nothing(labels: str) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True)) if labels == "single" else 0
    for count in (1, 3):
        found = mean_probabilities([logits] * count, labels)
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-6)


def test_no_system_and_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="at least one system"):
        MeanProbabilities("multi").logits()
    with pytest.raises(DataError, match="other clips or classes"):
        mean_probabilities([np.zeros((2, 3)), np.zeros((3, 3))], "multi")
