"""Means of probabilities, kept as logits: checkpoint ensembles and ensembles of runs.

A mean p is stored such that the usual function gives it back: for several labels a clip
log p - log(1 - p), whose sigmoid is p; for one label a clip log p, whose softmax is p, since the
mean of distributions is one. Sums are taken of logarithms in float64 (p and 1 - p apart), so that
no probability is rounded to 0 or 1 on the way: nothing needs clipping, saturated scores keep their
order, and every result is finite.
"""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cmkd.errors import DataError

Labels = Literal["single", "multi"]
Logs = npt.NDArray[np.float64]


class MeanProbabilities:
    """The mean of the probabilities of systems, added one after the other."""

    def __init__(self, labels: Labels) -> None:
        """Take what the logits are of: softmax for `single`, sigmoids for `multi`."""
        self.labels = labels
        self.count = 0
        self._logs: list[Logs] = []

    def add(self, logits: npt.NDArray[Any]) -> None:
        """Add one system's logits [clips, classes]; DataError where the shapes differ."""
        new = _logs(logits, self.labels)
        if self._logs and self._logs[0].shape != new[0].shape:
            raise DataError(
                f"scores have shape {new[0].shape} and {self._logs[0].shape}: they are of other "
                "clips or classes"
            )
        old = self._logs or [np.full_like(part, -np.inf) for part in new]
        self._logs = [np.logaddexp(*pair) for pair in zip(old, new, strict=True)]
        self.count += 1

    def logits(self) -> npt.NDArray[np.float32]:
        """Return the mean as logits float32 [clips, classes]."""
        if not self._logs:
            raise DataError("a mean of probabilities needs at least one system")
        less = np.log(self.count) if self.labels == "single" else self._logs[1]
        return np.asarray(self._logs[0] - less, dtype=np.float32)


def mean_probabilities(
    systems: Iterable[npt.NDArray[Any]], labels: Labels
) -> npt.NDArray[np.float32]:
    """Return the mean of the systems' probabilities as logits float32 [clips, classes]."""
    mean = MeanProbabilities(labels)
    for logits in systems:
        mean.add(logits)
    return mean.logits()


def _logs(logits: npt.NDArray[Any], labels: Labels) -> list[Logs]:
    """Return log p, and for several labels log(1 - p) too; each [clips, classes]."""
    values = np.asarray(logits, dtype=np.float64)
    if labels == "single":
        return [values - np.logaddexp.reduce(values, axis=1, keepdims=True)]
    return [-np.logaddexp(0.0, -values), -np.logaddexp(0.0, values)]
