"""Accuracy, average precision, AUC and d' of clip scores, equal to scikit-learn's, ties included.

Scores and targets are arrays [clips, classes]; targets are 0 or 1. Only the order of the scores
matters for average precision and AUC, so logits serve as well as probabilities, and better:
saturated sigmoids make ties. A class without a positive clip has no average precision and, as
one without a negative clip, no AUC: it is NaN and stays out of the mean.
"""

import math
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cmkd.errors import DataError

Floats = npt.NDArray[np.floating[Any]]
Areas = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def accuracy(logits: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return the share of clips whose highest logit is that of their class.

    `targets` is one-hot [clips, classes] or class numbers [clips]; of tied logits the first counts.
    """
    return float(np.mean(correct(logits, targets)))


def correct(logits: npt.ArrayLike, targets: npt.ArrayLike) -> Mask:
    """Return for each clip whether its highest logit is that of its class.

    Raises:
        DataError: shapes that differ, logits that are not finite, a clip with several classes.
    """
    if np.ndim(targets) == 1:
        scores, wanted = _scores(logits), np.asarray(targets)
        if len(wanted) != len(scores):
            raise DataError(f"{len(scores)} clips have logits but {len(wanted)} have targets")
    else:
        scores, mask = checked(logits, targets)
        counts = mask.sum(axis=1)
        if (counts != 1).any():
            row = int(np.argmax(counts != 1))
            raise DataError(
                f"targets: row {row} has {counts[row]} classes; accuracy needs one class a clip"
            )
        wanted = mask.argmax(axis=1)
    return np.asarray(scores.argmax(axis=1) == wanted)


def mean_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return the mean average precision over the classes with a positive clip (macro mAP).

    Raises:
        DataError: wrong shapes or values, or no class with a positive clip.
    """
    return _mean(average_precisions(scores, targets), "a positive clip: no average precision")


def mean_auc(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Return the mean area under the ROC curve over the classes with both kinds of clip.

    Raises:
        DataError: wrong shapes or values, or no class with a positive and a negative clip.
    """
    return _mean(areas(scores, targets)[1], "a positive and a negative clip: no AUC")


def d_prime(auc: npt.ArrayLike, targets: npt.ArrayLike | None = None) -> float:
    """Return d' = sqrt(2) times the normal quantile of an AUC (AudioSet's separation measure).

    With `targets`, the first argument is scores [clips, classes] and their mean AUC is taken.
    """
    area = float(np.asarray(auc)) if targets is None else mean_auc(auc, targets)
    if not 0.0 <= area <= 1.0:
        raise DataError(f"an AUC lies between 0 and 1, not at {area}")
    if area in (0.0, 1.0):
        return math.inf if area else -math.inf
    return math.sqrt(2.0) * NormalDist().inv_cdf(area)


def average_precisions(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Areas:
    """Return the average precision of each class [classes]; NaN without a positive clip."""
    return areas(scores, targets)[0]


def areas(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Areas, Areas]:
    """Return average precision and ROC area of each class, each [classes], from one sort.

    Only values are sorted (fastest in float32); positives find their ranks by bisection.
    """
    checked_scores, mask = checked(scores, targets)
    by_class = np.ascontiguousarray(checked_scores.T)
    positive = np.ascontiguousarray(mask.T)
    ordered = np.sort(by_class, axis=1)
    precisions = np.full(len(by_class), np.nan)
    rocs = np.full(len(by_class), np.nan)
    for index, (values, chosen) in enumerate(zip(by_class, positive, strict=True)):
        hits = np.sort(values[chosen])
        precisions[index], rocs[index] = _class_areas(ordered[index], hits)
    return precisions, rocs


def _class_areas(ordered: Floats, hits: Floats) -> tuple[float, float]:
    """Return (average precision, ROC area) from all scores and the positives', both ascending."""
    clips, positives = len(ordered), len(hits)
    if not positives:
        return math.nan, math.nan
    below = np.searchsorted(ordered, hits, "left")
    below_hits = np.searchsorted(hits, hits, "left")
    precision = float(np.mean((positives - below_hits) / (clips - below)))
    negatives = clips - positives
    if not negatives:
        return precision, math.nan
    not_above = np.searchsorted(ordered, hits, "right") - np.searchsorted(hits, hits, "right")
    # Twice the wins plus the ties, in whole numbers: (below) + (below or tied).
    twice = int((below - below_hits).sum()) + int(not_above.sum())
    return precision, twice / (2 * positives * negatives)


def all_metrics(
    logits: npt.ArrayLike, targets: npt.ArrayLike, labels: Literal["single", "multi"]
) -> dict[str, float | None]:
    """Return accuracy (single label only), map, auc and d_prime; None where one is undefined.

    JSON has no infinity, so the d' of a perfect AUC is None too.
    """
    precisions, rocs = areas(logits, targets)
    auc = _mean_or_none(rocs)
    separation = None if auc is None else d_prime(auc)
    values: dict[str, float | None] = {}
    if labels == "single":
        values["accuracy"] = accuracy(logits, targets)
    values["map"] = _mean_or_none(precisions)
    values["auc"] = auc
    finite = separation is not None and math.isfinite(separation)
    values["d_prime"] = separation if finite else None
    return values


def classes_scored(targets: npt.ArrayLike) -> int:
    """Return how many classes have a positive clip: those that macro mAP averages over."""
    return int(np.asarray(targets).astype(bool).any(axis=0).sum())


def checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Floats, Mask]:
    """Return finite scores and boolean targets of one shape [clips, classes].

    Raises:
        DataError: shapes that differ, no clip, scores that are not finite, targets not 0 or 1.
    """
    values, wanted = _scores(scores), np.asarray(targets)
    if values.shape != wanted.shape:
        raise DataError(f"scores have shape {values.shape} but targets {wanted.shape}")
    if wanted.dtype == np.bool_:
        return values, wanted
    mask = wanted.astype(bool)
    if not np.array_equal(mask, wanted):
        row = int(np.argmax((mask != wanted).any(axis=1)))
        raise DataError(f"targets: row {row} holds a value other than 0 and 1")
    return values, mask


def _scores(scores: npt.ArrayLike) -> Floats:
    """Return scores as float32 or float64 [clips, classes], all finite."""
    values = np.asarray(scores)
    if values.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    if values.ndim != 2 or not values.size:
        raise DataError(f"scores have shape {values.shape}, not [clips, classes]")
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise DataError(f"scores: row {row}, class {column} is {values[row, column]}, not a number")
    return values


def _mean(values: Areas, missing: str) -> float:
    """Return the mean of the numbers that are not NaN, or say what no class has."""
    mean = _mean_or_none(values)
    if mean is None:
        raise DataError(f"none of {len(values)} classes has {missing}")
    return mean


def _mean_or_none(values: Areas) -> float | None:
    """Return the mean of the numbers that are not NaN, or None without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
