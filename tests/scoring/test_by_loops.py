"""The whole way from scores to an interval, by plain loops over docs/statistics.md."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from cmkd.scoring.influence import run_score
from cmkd.scoring.intervals import estimate

CLIPS, CLASSES = 18, 3
SEEDS = {1: 3, 2: 3, 3: 2, 4: 1, 5: 3}  # one fold has a single run, another two


def metric_of(name, logits, targets, rows, kept):
    """Return accuracy, or scikit-learn's mean average precision over the kept classes."""
    logits, targets = logits[rows], targets[rows]
    if name == "accuracy":
        return np.mean(logits.argmax(1) == targets.argmax(1))
    return np.mean([average_precision_score(targets[:, c], logits[:, c]) for c in kept])


def tables(generator, sources):
    """Return for each fold targets and sources, and two arms' logits for each of its seeds."""
    for fold, seeds in SEEDS.items():
        targets = np.eye(CLASSES)[generator.integers(1, CLASSES, CLIPS)]
        targets[0] = np.eye(CLASSES)[0]  # a class with one positive: left out of mAP
        where = np.array([f"{fold}-{n}" for n in generator.integers(0, sources, CLIPS)])
        shape = (2, seeds, CLIPS, CLASSES)
        yield fold, targets, where, targets + generator.normal(size=shape)


def spread(values, where):
    """Return Q / (Q - 1) times the sum over sources of (sum inside it)^2 / clips^2."""
    names = np.unique(where)
    total = sum(values[where == name].sum() ** 2 for name in names)
    return len(names) / (len(names) - 1) * total / CLIPS**2


def influence_of(name, arms, targets, kept):
    """Return the gain and each clip's centred influence, by leaving the clip out."""
    every = np.arange(CLIPS)

    def gain(rows):
        taught, alone = (metric_of(name, arm, targets, rows, kept) for arm in arms)
        return taught - alone

    if name == "accuracy":
        hit = [arm.argmax(1) == targets.argmax(1) for arm in arms]
        return gain(every), hit[0].astype(float) - hit[1] - gain(every)
    left = np.array([gain(np.delete(every, clip)) for clip in every])
    raw = (CLIPS - 1) * (gain(every) - left)
    return gain(every), raw - raw.mean()


@pytest.mark.parametrize("name", ["accuracy", "map"])
@pytest.mark.parametrize("sources", [8, 400])
def test_a_gain_with_unequal_seeds_and_sources(name, sources):
    ids, gains, v_clip, v_both, total = [f"c{n:02d}" for n in range(CLIPS)], [], 0.0, 0.0, 0
    arms = ({}, {})
    for fold, targets, where, logits in tables(np.random.default_rng(1), sources):
        kept = np.flatnonzero(targets.sum(0) >= 2)
        rows = []
        for seed in range(SEEDS[fold]):
            for arm, scores in zip(arms, logits[:, seed], strict=True):
                arm[fold, seed] = run_score(scores, targets, name, ids, where)
            rows.append(influence_of(name, logits[:, seed], targets, kept))
        gains.append(np.array([gain for gain, _ in rows]))
        u = np.array([influence for _, influence in rows])
        v_clip += spread(u.mean(0), where) / 25
        if len(u) > 1:
            apart = sum(spread(row, where) for row in u - u.mean(0))
            v_both += apart / ((len(u) - 1) * len(u)) / 25
        total += len(np.unique(where))
    nu = sum(len(row) - 1 for row in gains)
    pooled = sum(((row - row.mean()) ** 2).sum() for row in gains) / nu
    v_run = sum(pooled / len(row) for row in gains) / 25
    found = estimate([(1.0, arms[0]), (-1.0, arms[1])], list(SEEDS), 3)
    assert (found.label, found.nu, found.runs, found.sources) == ("runs+clips", nu, 12, total)
    assert found.value == pytest.approx(np.mean([row.mean() for row in gains]), abs=1e-12)
    expected = (v_run, v_clip, v_both)
    assert (found.v_run, found.v_clip, found.v_both) == pytest.approx(expected, rel=1e-9)
    run, clip = stats.t.ppf(0.975, nu), stats.t.ppf(0.975, total - 5)
    half = math.sqrt(run**2 * v_run + clip**2 * max(v_clip - v_both, 0.0))
    assert found.high - found.value == pytest.approx(half, rel=1e-9)
