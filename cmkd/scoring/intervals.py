"""The quadrature interval of scores, gains and contrasts, over training runs and test clips.

The run variance and the clip variance each get a quantile of their own (Banerjee 1960), so the
coverage is never below nominal whatever their ratio:

    H(a) = sqrt(t(1 - a/2; nu)^2 * V_R + z(1 - a/2)^2 * max(V_C - V_E, 0))

V_E, the interaction of runs and clips, lies in both and is taken away once. The interval is
value +- H(0.05); a p-value is the a at which H(a) equals the distance from the margin.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmkd.errors import InputError
from cmkd.scoring.decisions import (
    Moderation,
    holm,
    holm_adjusted,
    moderate,
    partial_conjunction,
)
from cmkd.scoring.grids import Arm, Contrast, contrast
from cmkd.scoring.influence import RunScore

__all__ = [
    "Estimate",
    "Moderation",
    "estimate",
    "holm",
    "holm_adjusted",
    "moderate",
    "moderate_all",
    "p_value",
    "partial_conjunction",
    "quantile",
    "rank_intervals",
]

LEVEL = 0.05
SOURCES_FOR_NORMAL = 200  # with fewer sources, t with (sources - folds) instead of z
NO_VARIANCE = 1e-20  # below: rounding of runs that are equal
LOG_SMALLEST = math.log(1e-300)
BISECTIONS = 80

RUNS_AND_CLIPS = "runs+clips"
SEED_MEANS = "seed means"
ONE_RUN_PER_FOLD = "one run per fold"
ONE_SEED = "one seed"
CLIPS_ONLY = "clips only"
INCOMPLETE = "incomplete"
MODERATED = (RUNS_AND_CLIPS, SEED_MEANS, ONE_RUN_PER_FOLD)
PAIRS_FOR_MODERATION = 10


@dataclass(frozen=True)
class Estimate:
    """A score, gain or contrast with its interval; all in fractions.

    Attributes:
        value: mean over folds of the mean over seeds; NaN without any run.
        low, high: the 95 % interval; NaN where the label allows none.
        v_run, v_clip, v_both: V_R, V_C and V_E of the formula; NaN where not estimated.
        nu: degrees of freedom of V_R.
        label: the rule that was used.
        runs, planned: complete (fold, seed) pairs, and how many were planned.
        folds, seeds: planned folds; fewest seeds of a fold.
        sources: source recordings behind V_C where they are known, else None.
        note: warnings, joined by "; ".
        clip: the clip variance that entered H.
        clip_nu: degrees of freedom of the clip term (infinite: normal).
        conclusive: whether the design may support a verdict (three seeds, or three folds with
            random streams of their own).
    """

    value: float
    low: float
    high: float
    v_run: float
    v_clip: float
    v_both: float
    nu: float
    label: str
    runs: int
    planned: int
    folds: int
    seeds: int
    sources: int | None = None
    note: str = ""
    clip: float = 0.0
    clip_nu: float = math.inf
    conclusive: bool = False

    def half_width(self, level: float = LEVEL) -> float:
        """Return H(level), half the width of the interval at 1 - level."""
        return _half_width(level, _known(self.v_run), self.nu, self.clip, self.clip_nu)

    def p_two(self, margin: float = 0.0) -> float:
        """Return the two-sided p-value of `value == margin`; 1 where training was not sampled."""
        distance = abs(self.value - margin)
        if self.label in (CLIPS_ONLY, INCOMPLETE) or not distance > 0.0:
            return 1.0
        if _known(self.v_run) + self.clip == 0.0:
            return 0.0 if self.seeds >= 3 else 1.0
        return p_value(distance, _known(self.v_run), self.nu, self.clip, self.clip_nu)

    def p_up(self, margin: float = 0.0) -> float:
        """Return the p-value against "the value is at most the margin"."""
        return self._one_sided(margin, 1.0)

    def p_down(self, margin: float = 0.0) -> float:
        """Return the p-value against "the value is at least the margin"."""
        return self._one_sided(margin, -1.0)

    def _one_sided(self, margin: float, sign: float) -> float:
        """Return half the two-sided p-value in the direction of the sign, 1 - half against it."""
        if self.label in (CLIPS_ONLY, INCOMPLETE):
            return 1.0
        half = self.p_two(margin) / 2
        return half if sign * (self.value - margin) > 0 else 1 - half

    @property
    def run_variance(self) -> float:
        """Return the variance of one run, V_R * folds * seeds: what `moderate` shrinks."""
        return self.v_run * self.folds * self.seeds

    def with_run_variance(self, variance: float, nu: float) -> "Estimate":
        """Return this estimate with another variance of one run (moderated, say) and its nu."""
        v_run = variance / (self.folds * self.seeds)
        changed = replace(self, v_run=v_run, nu=nu)
        return _with_limits(changed)


def estimate(
    arms: Sequence[tuple[float, Mapping[tuple[int, int], RunScore]]],
    folds: Sequence[int],
    seeds_planned: int | Sequence[int],
    rng_per_fold: bool = True,
    fixed_split: bool = False,
) -> Estimate:
    """Return the weighted sum of arms with its interval.

    A score is one arm of weight 1, a gain is (1, taught) and (-1, reference), a mean over pairs
    or a difference of gains any longer sum: runs and clips that arms share are accounted for.

    Args:
        arms: weight and runs by (fold, seed); only pairs that every arm has are used.
        folds: the planned folds; one for a fixed split.
        seeds_planned: how many seeds were planned, or which (others are then left out).
        rng_per_fold: whether random streams differ between folds.
        fixed_split: whether the dataset has one split; then runs of it are never taken as folds.

    Raises:
        RunError: arms scored on different clips or labels.
        InputError: no arm, no fold, or a fixed split with several folds.
    """
    if not arms or not folds:
        raise InputError("an estimate needs at least one arm and one fold")
    if fixed_split and len(folds) != 1:
        raise InputError(f"a fixed split has one fold, not {len(folds)}")
    grid = contrast(arms, folds, seeds_planned)
    count = seeds_planned if isinstance(seeds_planned, int) else len(seeds_planned)
    return _of_contrast(grid, len(folds) * count, rng_per_fold)


def _of_contrast(grid: Contrast, planned: int, rng_per_fold: bool) -> Estimate:
    """Choose the rule by the design (the table of docs/statistics.md) and apply it."""
    if any(not seeds for seeds in grid.seeds):
        return _incomplete(grid, planned)
    if not rng_per_fold and len(grid.folds) > 1:
        grid = grid.common()
    label = _label(grid, rng_per_fold)
    v_run, nu = _run_variance(grid, label)
    v_clip, v_both, sources = grid.clip_variances()
    alone = label in (ONE_RUN_PER_FOLD, ONE_SEED)  # clip noise is already inside
    clip = 0.0 if alone else max(v_clip - (0.0 if math.isnan(v_both) else v_both), 0.0)
    clip = 0.0 if clip < NO_VARIANCE else clip
    result = Estimate(
        value=grid.value,
        low=math.nan,
        high=math.nan,
        v_run=v_run,
        v_clip=v_clip,
        v_both=v_both,
        nu=nu,
        label=label,
        runs=grid.runs,
        planned=planned,
        folds=len(grid.folds),
        seeds=min(map(len, grid.seeds)),
        sources=sources,
        clip=clip,
        clip_nu=_clip_nu(sources, len(grid.folds)),
        conclusive=_conclusive(grid, label, rng_per_fold),
    )
    flat = ("zero variance",) if _known(v_run) + clip == 0.0 else ()
    return replace(_with_limits(result), note="; ".join(grid.notes + flat))


def _incomplete(grid: Contrast, planned: int) -> Estimate:
    """Return the mean of the folds there are, without an interval."""
    missing = [str(fold) for fold, seeds in zip(grid.folds, grid.seeds, strict=True) if not seeds]
    note = f"no complete run of fold {', '.join(missing)}"
    none = math.nan
    return Estimate(
        value=grid.value,
        low=none,
        high=none,
        v_run=none,
        v_clip=none,
        v_both=none,
        nu=none,
        label=INCOMPLETE,
        runs=grid.runs,
        planned=planned,
        folds=len(grid.folds),
        seeds=0,
        note="; ".join((*grid.notes, note)),
    )


def _label(grid: Contrast, rng_per_fold: bool) -> str:
    """Return the rule that the design calls for."""
    several_seeds = any(len(seeds) > 1 for seeds in grid.seeds)
    if len(grid.folds) == 1:
        return RUNS_AND_CLIPS if several_seeds else CLIPS_ONLY
    if rng_per_fold:
        return RUNS_AND_CLIPS if several_seeds else ONE_RUN_PER_FOLD
    return SEED_MEANS if several_seeds and grid.is_full else ONE_SEED


def _run_variance(grid: Contrast, label: str) -> tuple[float, float]:
    """Return V_R and its degrees of freedom under the rule; NaN for `clips only`."""
    folds = len(grid.folds)
    if label == CLIPS_ONLY:
        return math.nan, math.nan
    if label == SEED_MEANS:
        means = np.mean(np.stack(grid.gains), axis=0)
        return _settled(float(np.var(means, ddof=1)) / len(means)), len(means) - 1
    if label in (ONE_RUN_PER_FOLD, ONE_SEED):
        means = np.array([gains.mean() for gains in grid.gains])
        return _settled(float(np.var(means, ddof=1)) / folds), folds - 1
    nu = sum(len(gains) - 1 for gains in grid.gains)
    pooled = sum(float(np.sum((gains - gains.mean()) ** 2)) for gains in grid.gains) / nu
    return _settled(sum(pooled / len(gains) for gains in grid.gains) / folds**2), nu


def _settled(variance: float) -> float:
    """Return 0 for the rounding left between equal runs."""
    return 0.0 if variance < NO_VARIANCE else variance


def _conclusive(grid: Contrast, label: str, rng_per_fold: bool) -> bool:
    """Return whether the design may support a verdict (docs/statistics.md)."""
    if label in (CLIPS_ONLY, ONE_SEED):
        return False
    return min(map(len, grid.seeds)) >= 3 or (len(grid.folds) >= 3 and rng_per_fold)


def _clip_nu(sources: int | None, folds: int) -> float:
    """Return the degrees of freedom of the clip term: few sources need t, not z."""
    if sources is None or sources >= SOURCES_FOR_NORMAL:
        return math.inf
    return float(max(sources - folds, 1))


def _with_limits(result: Estimate) -> Estimate:
    """Return the estimate with low and high at 95 %."""
    half = result.half_width()
    return replace(result, low=result.value - half, high=result.value + half)


def _known(variance: float) -> float:
    """Return the variance, 0 where it was not estimated."""
    return 0.0 if math.isnan(variance) else variance


def _half_width(a: float, v_run: float, nu: float, clip: float, clip_nu: float) -> float:
    """Return H(a); a term without variance takes no quantile."""
    run = quantile(a, nu) ** 2 * v_run if v_run else 0.0
    return math.sqrt(run + (quantile(a, clip_nu) ** 2 * clip if clip else 0.0))


def quantile(a: float, nu: float) -> float:
    """Return the upper a/2 quantile of t with nu degrees of freedom (infinite: normal)."""
    from scipy import special

    return -float(special.ndtri(a / 2) if math.isinf(nu) else special.stdtrit(nu, a / 2))


def p_value(
    distance: float, v_run: float, nu: float, clip: float = 0.0, clip_nu: float = math.inf
) -> float:
    """Return the a at which H(a) equals the distance, by bisection on log a (1e-300 at least)."""
    low, high = LOG_SMALLEST, 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _half_width(math.exp(middle), v_run, nu, clip, clip_nu) > distance:
            low = middle
        else:
            high = middle
    return math.exp(high)


def rank_intervals(
    systems: Mapping[str, Arm],
    folds: Sequence[int],
    seeds_planned: int | Sequence[int],
    rng_per_fold: bool = True,
    fixed_split: bool = False,
    level: float = LEVEL,
) -> dict[str, tuple[int, int]]:
    """Return for each system the ranks it may have: [1 + proven better, N - proven worse].

    Each system's N - 1 differences to the others are tested together by Holm's rule; a
    difference whose design cannot support a verdict proves nothing.
    """
    names = list(systems)
    tests: dict[tuple[str, str], tuple[float, bool]] = {}
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            arms = [(1.0, systems[one]), (-1.0, systems[other])]
            gap = estimate(arms, folds, seeds_planned, rng_per_fold, fixed_split)
            p = gap.p_two() if gap.conclusive else 1.0
            tests[one, other] = p, gap.value > 0
            tests[other, one] = p, gap.value < 0
    ranks: dict[str, tuple[int, int]] = {}
    for one in names:
        mine = [tests[one, other] for other in names if other != one]
        proven = holm([p for p, _ in mine], level)
        wins = sum(sure and above for sure, (_, above) in zip(proven, mine, strict=True))
        losses = sum(proven) - wins
        ranks[one] = 1 + losses, len(names) - wins
    return ranks


def moderate_all(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Return the estimates with moderated run variances, in the same order.

    Only estimates of the commonest design (label, folds, seeds, degrees of freedom) are shrunk,
    and only where there are ten or more; the others are returned as they are. The caller sees to
    it that they are of one dataset and metric and of at least four students.
    """
    designs = [(e.label, e.folds, e.seeds, e.nu) for e in estimates if e.label in MODERATED]
    if not designs:
        return list(estimates)
    common = max(sorted(set(designs)), key=designs.count)
    chosen = [
        index for index, e in enumerate(estimates) if (e.label, e.folds, e.seeds, e.nu) == common
    ]
    result = list(estimates)
    if len(chosen) < PAIRS_FOR_MODERATION:
        return result
    variances = sorted(estimates[index].run_variance for index in chosen)
    if variances[len(chosen) // 2 - 1] == 0.0:
        return result  # half the pairs without any variance: nothing to learn from
    shrunk = moderate([estimates[index].run_variance for index in chosen], common[3])
    for index, variance in zip(chosen, shrunk.variances, strict=True):
        result[index] = estimates[index].with_run_variance(variance, shrunk.nu)
    return result
