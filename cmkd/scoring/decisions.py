"""From p-values to decisions: Holm's rule, partial conjunction, moderated variances."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmkd.errors import InputError

PRIOR_CAP = 8.0  # pairs share runs, so their number overstates what they know of each other
FLOOR = 1e-3  # of the median variance


def holm(pvalues: Sequence[float], alpha: float) -> list[bool]:
    """Return, in the order given, which hypotheses Holm's step-down rule rejects at alpha."""
    return [p <= alpha for p in holm_adjusted(pvalues)]


def holm_adjusted(pvalues: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values in the order given, at most 1."""
    adjusted = [1.0] * len(pvalues)
    largest = 0.0
    for place, index in enumerate(_ordered(pvalues)):
        largest = max(largest, (len(pvalues) - place) * pvalues[index])
        adjusted[index] = min(largest, 1.0)
    return adjusted


def partial_conjunction(pvalues: Sequence[float], at_least: int) -> float:
    """Return the p-value of "at least u of the n hypotheses are true" (Simes form, at most 1).

    min over k >= u of (n - u + 1) / (k - u + 1) * p_(k), of Benjamini and Heller (2008).
    """
    count = len(pvalues)
    if not 1 <= at_least <= count:
        raise InputError(f"at least {at_least} of {count} hypotheses: choose from 1 to {count}")
    ordered = [pvalues[index] for index in _ordered(pvalues)]
    spare = count - at_least + 1
    return min(1.0, *(spare / (k + 1) * p for k, p in enumerate(ordered[at_least - 1 :])))


def _ordered(pvalues: Sequence[float]) -> list[int]:
    """Return the positions of the p-values, smallest first; refuse what is no p-value."""
    for p in pvalues:
        if not 0.0 <= p <= 1.0:
            raise InputError(f"a p-value lies between 0 and 1, not at {p}")
    return sorted(range(len(pvalues)), key=lambda index: pvalues[index])


@dataclass(frozen=True)
class Moderation:
    """Variances shrunk towards their common value.

    Attributes:
        variances: the shrunk variance of one run for each pair.
        nu: degrees of freedom of each, the prior's included.
        prior_nu: degrees of freedom of the prior (d0).
        prior: the prior's variance (s0).
        excess: variance of the log variances beyond what chance gives (v).
    """

    variances: tuple[float, ...]
    nu: float
    prior_nu: float
    prior: float
    excess: float


def moderate(variances: Sequence[float], nu: float, cap: float = PRIOR_CAP) -> Moderation:
    """Shrink per-run variances of many pairs as Smyth (2004) does, the prior's weight capped.

    Args:
        variances: variance of one run for each pair, with nu degrees of freedom each.
        nu: degrees of freedom of each variance.
        cap: most degrees of freedom the prior may have.

    Raises:
        InputError: fewer than two pairs, or all variances zero.
    """
    from scipy import special

    raw = np.asarray(variances, dtype=np.float64)
    if len(raw) < 2 or not np.median(raw) > 0:
        raise InputError("moderation needs at least two pairs and a median variance above zero")
    raw = np.maximum(raw, FLOOR * float(np.median(raw)))
    logs = np.log(raw) - float(special.digamma(nu / 2)) + math.log(nu / 2)
    excess = float(np.var(logs, ddof=1)) - _trigamma(nu / 2)
    prior_nu = _prior_nu(excess, cap)
    centre = float(logs.mean()) + float(special.digamma(prior_nu / 2)) - math.log(prior_nu / 2)
    prior = math.exp(centre)
    shrunk = (prior_nu * prior + nu * raw) / (prior_nu + nu)
    return Moderation(tuple(shrunk.tolist()), nu + prior_nu, prior_nu, prior, excess)


def _prior_nu(excess: float, cap: float) -> float:
    """Return the root d0 of trigamma(d0 / 2) = excess, at most the cap (bisection on its log)."""
    if excess <= _trigamma(cap / 2):
        return cap
    low, high = math.log(1e-12), math.log(cap / 2)  # trigamma falls as its argument grows
    for _ in range(100):
        middle = (low + high) / 2
        if _trigamma(math.exp(middle)) > excess:
            low = middle
        else:
            high = middle
    return 2 * math.exp(high)


def _trigamma(x: float) -> float:
    """Return the second derivative of log Gamma."""
    from scipy import special

    return float(special.polygamma(1, x))
