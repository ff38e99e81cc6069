"""How much each test clip moves a run's metric: the ingredient of every interval.

For accuracy the influence of a clip is its correctness minus the accuracy. For mAP it is the
exact delete-one jackknife, (n - 1) * (mAP - mAP without the clip), in O(n log n) a class. Both
are centred and linear in systems: the influence on a gain is the difference of two of them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cmkd.errors import ConfigError, DataError, nearest
from cmkd.scoring.metrics import Areas, Floats, Mask, checked, correct

POSITIVES_NEEDED = 2  # with fewer, a class has no average precision once a clip is left out
POSITIVES_FEW = 5

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class RunScore:
    """One run's metric on its test clips, with the clips in the order of their ids.

    Attributes:
        value: the metric, a fraction; mAP is over classes with at least two positive clips.
        influence: centred influence of each clip [clips].
        ids: clip ids [clips], sorted.
        sources: the recording each clip comes from [clips], or None where none is known.
        hash: sha256 of the predictions; two seeds with one hash are one run.
        labels: sha256 of the targets, so that two arms can be seen to be scored on the same.
        left_out: classes with fewer than two positive clips, left out of mAP.
        few: scored classes with fewer than five positive clips.
    """

    value: float
    influence: Areas
    ids: Texts
    sources: Texts | None
    hash: str
    labels: str = ""
    left_out: tuple[str, ...] = ()
    few: tuple[str, ...] = ()


def run_score(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    metric: str,
    ids: Sequence[str] | Texts,
    sources: Sequence[str] | Texts | None = None,
    classes: Sequence[str] | Texts | None = None,
) -> RunScore:
    """Return the metric of one run and the influence of each clip on it.

    Args:
        logits: [clips, classes], finite.
        targets: [clips, classes], 0 or 1.
        metric: `accuracy` or `map`.
        ids: clip ids, each once, in any order.
        sources: source recording of each clip; "" is unknown and stands for itself.
        classes: class names, for what is left out; numbers without them.

    Raises:
        DataError: arrays that do not fit, a clip twice, fewer than two clips, no class scored.
        ConfigError: an unknown metric.
    """
    if metric not in ("accuracy", "map"):
        known = nearest(metric, ("accuracy", "map"))
        raise ConfigError(f"metric '{metric}' has no interval{known}")
    scores, mask = checked(logits, targets)
    names = _names(ids, len(scores))
    order = np.argsort(names)
    scores, mask = scores[order], mask[order]
    left_out: tuple[str, ...] = ()
    few: tuple[str, ...] = ()
    if metric == "accuracy":
        value, influence = _accuracy(scores, mask)
    else:
        value, influence = _map(scores, mask)
        left_out, few = _rare(mask, classes)
    origin = None if sources is None else _sources(np.asarray(sources, str)[order], names[order])
    return RunScore(
        value=value,
        influence=influence,
        ids=names[order],
        sources=origin,
        hash=_digest(scores),
        labels=_digest(mask),
        left_out=left_out,
        few=few,
    )


def mean_score(
    values: npt.ArrayLike, ids: Sequence[str] | Texts, sources: Sequence[str] | Texts | None = None
) -> RunScore:
    """Return a number that is a mean over clips, such as a probe's, as one run's score.

    Args:
        values: one for each clip [clips].
        ids: clip ids, each once, in any order.
        sources: source recording of each clip; "" is unknown and stands for itself.

    Raises:
        DataError: arrays that do not fit, a clip twice, fewer than two clips.
    """
    numbers = np.asarray(values, dtype=np.float64)
    names = _names(ids, len(numbers))
    order = np.argsort(names)
    numbers, names = numbers[order], names[order]
    origin = None if sources is None else _sources(np.asarray(sources, str)[order], names)
    value = float(numbers.mean())
    return RunScore(value, numbers - value, names, origin, _digest(numbers))


def jackknife(scores: Floats, positive: Mask) -> tuple[float, Areas]:
    """Return the average precision of one class and the one without each clip [clips].

    A clip without positives at its score moves the ranks below it by one; a positive one also
    the count of hits. Sums over the tie groups with positives, above and below each clip,
    give every case at once (docs/statistics.md). Needs at least two positive clips.
    """
    values, count = np.unique(scores[positive], return_counts=True)  # ascending
    hits = np.cumsum(count[::-1])[::-1]  # positives at this score or above
    rank = len(scores) - np.searchsorted(np.sort(scores), values, "left")
    shorter = np.maximum(rank - 1, 1)  # rank 1 has no hits beside itself: its terms are 0
    above = np.append(np.cumsum((count * hits / rank)[::-1])[::-1], 0.0)
    below_negative = _cumulated(np.where(rank > 1, count * hits / shorter, 0.0))
    below_positive = _cumulated(count * (hits - 1) / shorter)
    own = (hits - 1) / shorter
    group = np.searchsorted(values, scores, "right")  # groups at or below each clip's score
    total = int(count.sum())
    without = (above[group] + below_negative[group]) / total
    at = group[positive]
    without[positive] = (above[at] + below_positive[at] - own[at - 1]) / (total - 1)
    return float(above[0]) / total, without


def _cumulated(terms: Areas) -> Areas:
    """Return sums of the first 0, 1, 2, ... terms."""
    return np.append(0.0, np.cumsum(terms))


def _accuracy(logits: Floats, mask: Mask) -> tuple[float, Areas]:
    """Return accuracy and each clip's influence on it."""
    hit = correct(logits, mask).astype(np.float64)
    return float(hit.mean()), hit - hit.mean()


def _map(scores: Floats, mask: Mask) -> tuple[float, Areas]:
    """Return mAP over the classes with two positive clips and each clip's influence on it."""
    scored = np.flatnonzero(mask.sum(axis=0) >= POSITIVES_NEEDED)
    if not len(scored):
        raise DataError("no class has two positive test clips, so mAP has no interval")
    value, without = 0.0, np.zeros(len(scores))
    by_class, positive = np.ascontiguousarray(scores.T), np.ascontiguousarray(mask.T)
    for index in scored:
        precision, left = jackknife(by_class[index], positive[index])
        value += precision / len(scored)
        without += left / len(scored)
    influence = (len(scores) - 1) * (value - without)
    return value, influence - influence.mean()


def _names(ids: Sequence[str] | Texts, clips: int) -> Texts:
    """Return the ids as an array of text, one for each clip and each once."""
    names = np.asarray(ids, str)
    if len(names) != clips:
        raise DataError(f"{clips} clips have scores but {len(names)} have ids")
    if clips < 2:
        raise DataError("an interval needs at least two test clips")
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) != clips:
        raise DataError(f"clip '{unique[int(counts.argmax())]}' is scored more than once")
    return names


def _sources(sources: Texts, ids: Texts) -> Texts | None:
    """Return the sources, an unknown one replaced by its clip; None where all are unknown."""
    known = sources != ""
    if not known.any():
        return None
    return np.where(known, sources, np.char.add("clip ", ids))


def _rare(
    mask: Mask, classes: Sequence[str] | Texts | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes left out, and of those scored with few positive clips."""
    names = [str(name) for name in (range(mask.shape[1]) if classes is None else classes)]
    counts = mask.sum(axis=0)
    pairs = list(zip(names, counts, strict=True))
    left_out = tuple(name for name, count in pairs if count < POSITIVES_NEEDED)
    few = tuple(name for name, count in pairs if POSITIVES_NEEDED <= count < POSITIVES_FEW)
    return left_out, few


def _digest(array: npt.NDArray[Any]) -> str:
    """Return the sha256 of an array's shape, type and bytes."""
    head = f"{array.dtype.str} {array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
