"""Calibration, agreement and errors from scores, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, recall_score

from cmkd.probing import outputs

LOGITS = np.log(np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]))
TARGETS = np.eye(3, dtype=np.uint8)[[0, 1, 1, 2]]


def made(clips: int = 400, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and multi-label targets."""
    random = np.random.default_rng(0)
    targets = (random.random((clips, classes)) < 0.3).astype(np.uint8)
    return random.normal(size=(clips, classes)) * 2 + 2.0 * targets - 1, targets


def test_calibration_by_hand() -> None:
    # Confidences .8 .6 .7 .8, right 1 0 1 1: bins of .8 (two clips), .6 and .7 (one each).
    found = outputs.calibration(LOGITS, TARGETS, "single")
    assert found["ece"] == pytest.approx((2 * 0.2 + 0.6 + 0.3) / 4)
    assert [b["share"] for b in found["bins"]] == [0.25, 0.25, 0.5]
    assert [b["right"] for b in found["bins"]] == [0.0, 1.0, 1.0]


def test_bins_are_those_of_scikit_learn() -> None:
    logits, targets = made()
    found = outputs.calibration(logits, targets, "multi")
    chances = 1 / (1 + np.exp(-logits.ravel()))
    right, confidence = calibration_curve(targets.ravel(), chances, n_bins=outputs.BINS)
    assert [b["right"] for b in found["bins"]] == pytest.approx(right)
    assert [b["confidence"] for b in found["bins"]] == pytest.approx(confidence)
    shares = np.array([b["share"] for b in found["bins"]])
    assert shares.sum() == pytest.approx(1)
    assert found["ece"] == pytest.approx((shares * np.abs(right - confidence)).sum())


def test_certainty_that_is_right_has_no_error_and_huge_logits_stay_finite() -> None:
    found = outputs.calibration(1e5 * TARGETS.astype(float), TARGETS, "single")
    assert found["ece"] == 0.0
    assert outputs.calibration(-1e5 * TARGETS.astype(float), TARGETS, "multi")["ece"] > 0.5


def test_overlap_by_hand() -> None:
    student = 9.0 * np.eye(3)[[0, 0, 0, 2]]  # wrong: clips 1 and 2
    teacher = 9.0 * np.eye(3)[[0, 0, 1, 1]]  # wrong: clips 1 and 3
    found = outputs.overlap(student, teacher, TARGETS, "single")
    assert found == pytest.approx({
        "agreement": 0.5, "both_wrong": 0.25, "only_student_wrong": 0.25,
        "only_teacher_wrong": 0.25, "error_overlap": 1 / 3,
        "expected_overlap": 0.25 / 0.75,
    })  # fmt: skip


def test_two_models_without_an_error_have_no_overlap() -> None:
    right = 9.0 * TARGETS
    found = outputs.overlap(right, right, TARGETS, "single")
    assert found["error_overlap"] is None and found["expected_overlap"] is None


def test_change_is_total_variation_and_agreement() -> None:
    after = np.log(np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]))
    found = outputs.change(LOGITS, after, "single")
    assert found == pytest.approx({"agreement": 0.75, "distance": 0.3 / 4})
    assert outputs.change(LOGITS, LOGITS, "multi") == {"agreement": 1.0, "distance": 0.0}


def test_by_class_is_recall_or_average_precision() -> None:
    expected = recall_score([0, 1, 1, 2], LOGITS.argmax(axis=1), average=None)
    assert outputs.by_class(LOGITS, TARGETS, "single") == pytest.approx(expected)
    logits, targets = made()
    expected = average_precision_score(targets, logits, average=None)
    assert outputs.by_class(logits, targets, "multi") == pytest.approx(expected)


def test_a_class_without_clips_has_no_value() -> None:
    targets = TARGETS.copy()
    targets[3] = [0, 1, 0]
    assert outputs.by_class(LOGITS, targets, "single")[2] is None
    assert outputs.by_class(LOGITS, targets, "multi")[2] is None


def test_stability_is_pearsons_correlation_of_a_clips_logits() -> None:
    before, after = np.random.default_rng(1).normal(size=(2, 6, 9))
    expected = [np.corrcoef(one, two)[0, 1] for one, two in zip(before, after, strict=True)]
    assert outputs.stability(before, after) == pytest.approx(expected)


def test_less_certain_is_not_more_stable() -> None:
    before, after = np.random.default_rng(2).normal(size=(2, 6, 9))
    assert outputs.stability(before / 4 + 2, after / 4 + 2) == pytest.approx(
        outputs.stability(before, after)
    )


def test_logits_that_are_all_equal() -> None:
    flat, other = np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]])
    assert outputs.stability(flat, flat).tolist() == [1.0]
    assert outputs.stability(flat, other).tolist() == [0.0]
