"""Intervals over new models: by hand, and their coverage where models are drawn at random."""

import math

import numpy as np
import pytest
from scipy import stats

from cmkd.scoring.generalise import over_classes, over_pairs


def test_by_hand():
    """Rows differ, columns do not: only the students' term is left."""
    gains = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    low, high = over_pairs(gains, 0.0)
    half = stats.t.ppf(0.975, 2) * math.sqrt(1 / 3)
    assert (low, high) == pytest.approx((2 - half, 2 + half))
    turned = over_pairs(gains.T, 0.25)
    more = math.sqrt(half**2 + stats.norm.ppf(0.975) ** 2 * 0.25)
    assert turned == pytest.approx((2 - more, 2 + more))


def test_fewer_than_three_models_say_nothing():
    assert over_pairs(np.zeros((2, 5)), 0.0) is None
    assert over_pairs(np.zeros((5, 2)), 0.0) is None
    few = {"cnn": [1.0, 2.0, 3.0], "transformer": [1.0, 2.0]}
    assert over_classes(0.0, few, few, 0.0) is None


def test_classes_by_hand():
    students = {"cnn": [1.0, 2.0, 3.0], "transformer": [5.0, 5.0, 5.0]}
    teachers = {"cnn": [0.0, 0.0, 0.0], "transformer": [2.0, 2.0, 2.0]}
    low, high = over_classes(3.5, students, teachers, 0.0)
    half = stats.t.ppf(0.975, 4) * math.sqrt(2 / 4 / 6)
    assert (low, high) == pytest.approx((3.5 - half, 3.5 + half))


@pytest.mark.parametrize("spreads", [(1.0, 0.0, 0.2), (0.5, 1.0, 1.0), (0.0, 0.0, 1.0)])
def test_coverage_over_students_and_teachers(spreads):
    """Spread between students, between teachers, of single pairs."""
    generator, covered = np.random.default_rng(4), 0
    for _ in range(600):
        students, teachers = generator.normal(size=(5, 1)), generator.normal(size=(1, 4))
        rest = generator.normal(size=(5, 4))
        gains = spreads[0] * students + spreads[1] * teachers + spreads[2] * rest
        low, high = over_pairs(gains, 0.0)
        covered += low <= 0.0 <= high
    assert covered >= 0.93 * 600
