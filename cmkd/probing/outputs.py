"""What scores alone tell: calibration, agreement of two models and of a model with itself.

Logits and targets are [clips, classes]; `labels` is single (softmax) or multi (sigmoid, a decision
at 0.5 for every clip and class).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.scoring.metrics import average_precisions

Floats = NDArray[np.float64]
BINS = 15


def probabilities(logits: NDArray[Any], labels: str) -> Floats:
    """Return softmax or sigmoid of logits in float64."""
    values = np.asarray(logits, dtype=np.float64)
    if labels == "multi":
        return np.exp(-np.logaddexp(0.0, -values))
    shifted = values - values.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def decisions(logits: NDArray[Any], labels: str) -> NDArray[Any]:
    """Return each clip's class number [clips], or each clip and class's yes or no."""
    values = np.asarray(logits)
    return values > 0 if labels == "multi" else values.argmax(axis=1)


def right(logits: NDArray[Any], targets: NDArray[Any], labels: str) -> NDArray[np.bool_]:
    """Return which decisions are right: a value a clip, or a clip and class (flat)."""
    truth = np.asarray(targets).astype(bool) if labels == "multi" else targets.argmax(axis=1)
    return np.asarray(decisions(logits, labels) == truth).ravel()


def calibration(logits: NDArray[Any], targets: NDArray[Any], labels: str) -> dict[str, Any]:
    """Return the expected calibration error in 15 bins of equal width, and the bins.

    Single label: confidence is the highest probability, against whether that class is right (Guo et
    al. 2017, arXiv 1706.04599). Multi-label: every clip and class's probability against its label.
    """
    chances = probabilities(logits, labels)
    if labels == "multi":
        confidence, hit = chances.ravel(), np.asarray(targets, dtype=np.float64).ravel()
    else:
        confidence = chances.max(axis=1)
        hit = right(logits, targets, labels).astype(np.float64)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = [np.bincount(place, weights=w, minlength=BINS) for w in (confidence, hit)]
    error = float(np.abs(sums[0] - sums[1]).sum() / len(confidence))
    bins = [
        {"share": float(n / len(confidence)), "confidence": float(c / n), "right": float(h / n)}
        for n, c, h in zip(counts, *sums, strict=True)
        if n
    ]
    return {"ece": error, "bins": bins}


def change(before: NDArray[Any], after: NDArray[Any], labels: str) -> dict[str, float]:
    """Return how much scores moved: share of equal decisions, mean distance of probabilities.

    The distance is the total variation (single label) or the mean absolute difference (multi).
    """
    same = decisions(before, labels) == decisions(after, labels)
    apart = np.abs(probabilities(before, labels) - probabilities(after, labels))
    distance = apart.mean() if labels == "multi" else apart.sum(axis=1).mean() / 2
    return {"agreement": float(same.mean()), "distance": float(distance)}


def stability(before: NDArray[Any], after: NDArray[Any]) -> Floats:
    """Return each clip's correlation [clips] of its logits over classes before and after.

    Scale and offset of the logits change nothing, so a model is no more stable for being less
    certain. Where all logits of a clip are equal it is 1 if both are, else 0.
    """
    centred = [np.asarray(v, dtype=np.float64) - np.mean(v, axis=1, keepdims=True)
               for v in (before, after)]  # fmt: skip
    norms = [np.linalg.norm(values, axis=1) for values in centred]
    product = norms[0] * norms[1]
    flat = (norms[0] == norms[1]).astype(np.float64)
    found = np.divide((centred[0] * centred[1]).sum(axis=1), product, out=flat, where=product > 0)
    return np.asarray(found)


def overlap(
    student: NDArray[Any], teacher: NDArray[Any], targets: NDArray[Any], labels: str
) -> dict[str, float | None]:
    """Return how two models agree and whether they err together.

    agreement: share of equal decisions; both_wrong, only_student_wrong, only_teacher_wrong: shares
    of all decisions; error_overlap: both wrong over at least one wrong, None where nobody errs;
    expected_overlap: the same if errors fell independently.
    """
    wrong = [~right(logits, targets, labels) for logits in (student, teacher)]
    both, either = (wrong[0] & wrong[1]).mean(), (wrong[0] | wrong[1]).mean()
    shares = [float(errors.mean()) for errors in wrong]
    chance = shares[0] * shares[1]
    same = decisions(student, labels) == decisions(teacher, labels)
    expected = sum(shares) - chance
    return {
        "agreement": float(same.mean()),
        "both_wrong": float(both),
        "only_student_wrong": shares[0] - float(both),
        "only_teacher_wrong": shares[1] - float(both),
        "error_overlap": float(both / either) if either else None,
        "expected_overlap": chance / expected if expected else None,
    }


def by_class(logits: NDArray[Any], targets: NDArray[Any], labels: str) -> list[float | None]:
    """Return each class's recall (single) or average precision (multi); None without clips."""
    mask = np.asarray(targets).astype(bool)
    if labels == "multi":
        found = average_precisions(logits, targets)
        return [None if np.isnan(value) else float(value) for value in found]
    hit = right(logits, targets, labels)
    return [float(hit[column].mean()) if column.any() else None for column in mask.T]
