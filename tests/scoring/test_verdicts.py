"""Every form on tables that support it, contradict it, and decide nothing; and its error rates."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cmkd.errors import InputError
from cmkd.scoring import verdicts
from cmkd.scoring.influence import RunScore
from cmkd.scoring.intervals import Estimate, estimate, holm, moderate_all
from cmkd.scoring.verdicts import ALPHA, Rule, of_contrast, of_pairs

ERROR = 0.004  # standard error of every made estimate, in fractions
NU = 10
HALF = float(stats.t.isf(0.025, NU)) * ERROR  # 0.0089


def known(value, label="runs+clips", conclusive=True):
    """An estimate of five folds and three seeds without clip noise."""
    none = label == "incomplete"
    low, high = (math.nan, math.nan) if none else (value - HALF, value + HALF)
    return Estimate(
        value, low, high, ERROR**2, 0.0, 0.0, NU, label, 15, 15, 5, 3, conclusive=conclusive
    )


def words(form, values, **rule):
    pairs = [None if value is None else known(value) for value in values]
    names = [f"pair {index}" for index in range(len(pairs))]
    return of_pairs(Rule(form, **rule), pairs, names)


# by hand: an estimate of 0.03 has p_up 1.3e-5; of 0.008, 0.037; -0.03 mirrors it
GOOD, WEAK, NULL, BAD = 0.03, 0.008, 0.0, -0.03


@pytest.mark.parametrize(
    ("form", "values", "word"),
    [
        ("one", [GOOD], "supported"),
        ("one", [BAD], "contradicted"),
        ("one", [WEAK], "inconclusive"),
        ("one", [None], "not run"),
        ("exists", [GOOD, NULL, BAD], "supported"),
        ("exists", [BAD, BAD, BAD], "contradicted"),
        ("exists", [WEAK, NULL], "inconclusive"),  # gains of a point are not ruled out
        ("exists", [GOOD, None, None], "supported"),
        ("exists", [BAD, None], "inconclusive"),  # the missing pair might gain
        ("all", [GOOD, GOOD, GOOD], "supported"),
        ("all", [GOOD, GOOD, BAD], "contradicted"),
        ("all", [GOOD, GOOD, WEAK], "inconclusive"),
        ("all", [GOOD, None], "not run"),
        ("all", [BAD, None], "contradicted"),
        ("majority", [GOOD, GOOD, BAD], "supported"),
        ("majority", [GOOD, BAD, BAD], "contradicted"),
        ("majority", [GOOD, NULL, NULL], "inconclusive"),
        ("majority", [GOOD, BAD], "contradicted"),  # half are proven not better
        ("majority", [GOOD, GOOD, None], "supported"),
        ("majority", [GOOD, None, None], "inconclusive"),
        ("majority", [None, None], "not run"),
    ],
)
def test_verdicts_on_pairs(form, values, word):
    assert words(form, values).word == word
    if form != "one":
        assert words(form, values[::-1]).word == word


@pytest.mark.parametrize(
    ("form", "value", "word", "rule"),
    [
        ("mean", GOOD, "supported", {}),
        ("mean", BAD, "contradicted", {}),
        ("mean", WEAK, "inconclusive", {}),
        ("comparison", GOOD, "supported", {}),
        ("comparison", BAD, "contradicted", {}),
        ("comparison", NULL, "inconclusive", {}),
        ("at_least", 0.04, "supported", {"margin": 0.03}),
        ("at_least", 0.02, "contradicted", {"margin": 0.03}),  # positive, but too small
        ("at_least", 0.03, "inconclusive", {"margin": 0.03}),
        ("no_gain", 0.0, "supported", {"delta": 0.01}),
        ("no_gain", 0.03, "contradicted", {"delta": 0.01}),
        ("no_gain", -0.03, "contradicted", {"delta": 0.01}),
        ("no_gain", 0.005, "inconclusive", {"delta": 0.01}),
        ("no_gain", 0.0, "inconclusive", {"delta": 0.008}),
    ],
)
def test_verdicts_on_a_contrast(form, value, word, rule):
    assert of_contrast(Rule(form, **rule), known(value)).word == word


def test_much_less_needs_a_reference_that_gains():
    rule = Rule("less_than_reference")
    assert of_contrast(rule, known(GOOD), known(GOOD)).word == "supported"
    lost = of_contrast(rule, known(GOOD), known(NULL))
    assert (lost.word, lost.reason) == ("inconclusive", "the reference gain itself is not proven")
    lost = of_contrast(rule, known(BAD), known(NULL), gain=known(GOOD))
    assert lost.word == "contradicted"


def test_a_reference_that_harms_does_not_contradict_much_less_or_nothing():
    """Its own gain is nothing: the contrast lies below zero by the reference alone."""
    rule = Rule("less_than_reference")
    found = of_contrast(rule, known(BAD), known(BAD), gain=known(NULL))
    assert (found.word, found.reason) == ("inconclusive", "the reference gain itself is not proven")
    assert of_contrast(rule, known(BAD), known(GOOD), gain=None).word == "inconclusive"


def test_the_p_value_is_that_of_the_verdict():
    """A small gain is proven, and that it is below delta more surely still."""
    rule, gain = Rule("exists", delta=0.04), known(GOOD / 2)
    found = of_pairs(rule, [gain], ["a"])
    assert found.p_contradicted < found.p_supported <= ALPHA
    assert (found.word, found.p) == ("supported", 2 * found.p_supported)


def test_p_values_by_scipy():
    t = stats.t(NU)
    found = of_contrast(Rule("mean"), known(WEAK))
    assert found.p == pytest.approx(2 * t.sf(WEAK / ERROR), rel=1e-6)
    no_gain = of_contrast(Rule("no_gain", delta=0.01), known(0.005))
    assert no_gain.p_supported == pytest.approx(t.sf(0.005 / ERROR), rel=1e-6)
    exists = words("exists", [GOOD, NULL, BAD])
    assert exists.p_supported == pytest.approx(3 * t.sf(GOOD / ERROR), rel=1e-6)
    every = words("all", [GOOD, WEAK])
    assert every.p_supported == pytest.approx(t.sf(WEAK / ERROR), rel=1e-6)


def test_equivalence_is_the_interval_inside_delta():
    for value in np.linspace(-0.006, 0.006, 25):
        found = known(value)
        inside = max(-found.low, found.high) < 0.01
        word = of_contrast(Rule("no_gain", delta=0.01), found).word
        assert (word == "supported") == inside


def test_two_seeds_on_a_fixed_split_support_nothing():
    sure = replace(known(GOOD), conclusive=False)
    for form in ("mean", "at_least", "comparison"):
        found = of_contrast(Rule(form), sure)
        assert found.word == "inconclusive"
        assert "three seeds" in found.reason
    still = replace(known(0.0), conclusive=False)
    assert of_contrast(Rule("no_gain"), still).word == "inconclusive"
    names = ["a", "b"]
    for form in ("exists", "all", "majority"):
        assert of_pairs(Rule(form), [sure, sure], names).word == "inconclusive"
    below = replace(known(BAD), conclusive=False)
    assert of_contrast(Rule("mean"), below).word == "contradicted"


@pytest.mark.parametrize("label", ["clips only", "one seed"])
def test_any_effect_without_training_again_stays_inconclusive(label):
    for value in (0.9, -0.9):
        blind = known(value, label, conclusive=False)
        assert of_contrast(Rule("mean"), blind).word == "inconclusive"
        assert of_contrast(Rule("no_gain"), blind).word == "inconclusive"
        for form in ("one", "exists", "all", "majority"):
            assert of_pairs(Rule(form), [blind], ["a"]).word == "inconclusive"


def test_a_missing_fold_is_not_run():
    assert of_contrast(Rule("mean"), known(GOOD, "incomplete")).word == "not run"
    assert of_pairs(Rule("exists"), [known(GOOD, "incomplete")], ["a"]).word == "not run"


def test_89_of_90_pairs():
    """Every pair at p = 1e-9 but one that was not run."""
    value = float(stats.t.isf(1e-9, NU)) * ERROR
    pairs = [value] * 89 + [None]
    assert words("all", pairs).word == "not run"
    majority = words("majority", pairs)
    assert (majority.word, words("exists", pairs).word) == ("supported", "supported")
    assert (majority.better, majority.worse, majority.named) == (89, 0, 90)


def test_a_premise_must_hold_for_the_same_pair():
    rule, names = Rule("exists", delta=0.01), ["a", "b"]
    apart = of_pairs(rule, [known(GOOD), known(NULL)], names, [known(NULL), known(GOOD)])
    assert apart.word == "inconclusive"
    same = of_pairs(rule, [known(GOOD), known(NULL)], names, [known(GOOD), known(NULL)])
    assert same.word == "supported"
    out = of_pairs(rule, [known(BAD), known(GOOD)], names, [known(GOOD), known(BAD)])
    assert out.word == "contradicted"  # the only pair whose premise holds does not gain
    idle = of_pairs(rule, [known(GOOD), known(GOOD)], names, [known(BAD), known(BAD)])
    assert (idle.word, idle.reason) == (
        "inconclusive",
        "the premise is not proven for any pair",
    )
    one = of_contrast(Rule("mean"), known(GOOD), premise=known(WEAK))
    assert (one.word, one.reason) == ("inconclusive", "the premise is not proven")
    assert of_contrast(Rule("mean"), known(BAD), premise=known(GOOD)).word == "contradicted"


def test_forms_that_do_not_fit_are_refused():
    for form, count in (("mean", 2), ("one", 2), ("all", 0)):
        with pytest.raises(InputError, match="does not fit"):
            of_pairs(Rule(form), [known(GOOD)] * count, ["a"] * count)


def test_several_datasets():
    assert verdicts.overall(["supported", "inconclusive", "not run"]) == "supported"
    assert verdicts.overall(["contradicted", "not run"]) == "contradicted"
    assert verdicts.overall(["supported", "contradicted"]) == "inconclusive (mixed)"
    assert verdicts.overall(["inconclusive", "not run"]) == "inconclusive"
    assert verdicts.overall(["not run"]) == "not run"


def test_holm_over_all_claims_counts_those_that_were_judged():
    sure, near, none = words("one", [GOOD]), words("one", [WEAK + 0.001]), words("one", [None])
    assert near.word == "supported" and near.p > 0.025
    assert verdicts.surviving([sure, near, none]) == [True, True, False]  # 2 p, then p
    assert verdicts.surviving([sure, near, near, none]) == [True, False, False, False]


def test_the_smallest_margin_is_the_farther_end():
    assert verdicts.provable(known(0.01)) == pytest.approx(0.01 + HALF)
    assert verdicts.provable(known(-0.01)) == pytest.approx(0.01 + HALF)
    assert verdicts.provable(known(0.01, "incomplete")) is None
    assert verdicts.provable(None) is None


# ------------------------------------------------------------------------------------ simulations


def system(generator, folds, seeds, clips, spread, hard):
    """Runs of one system at a common level, with a spread between trainings and hard clips."""
    grid = {}
    for fold in range(folds):
        for seed in range(seeds):
            level = 0.2 + spread * generator.normal()
            right = (hard[fold] + generator.normal(size=clips) < level).astype(float)
            ids = np.array([f"{fold}-{clip:03d}" for clip in range(clips)])
            grid[fold, seed] = RunScore(right.mean(), right - right.mean(), ids, None, "", "")
    return grid


def null_pairs(generator, models, folds, seeds, clips):
    """All gains of `models` students with the other models as teachers, none of them real."""
    spreads = 0.1 * np.exp(0.35 * generator.normal(size=(models, models)))
    hard = generator.normal(size=(folds, clips))
    systems = [
        [system(generator, folds, seeds, clips, spread, hard) for spread in row] for row in spreads
    ]
    return [
        estimate([(1.0, systems[s][t]), (-1.0, systems[s][s])], range(folds), seeds)
        for s in range(models)
        for t in range(models)
        if s != t
    ]


def false_rejections(replications, models, moderated):
    generator = np.random.default_rng(90)
    count = 0
    for _ in range(replications):
        found = null_pairs(generator, models, 3, 3, 60)
        found = moderate_all(found) if moderated else found
        count += any(holm([pair.p_two() for pair in found], 0.05))
    return count


def test_family_wise_error_of_null_pairs_with_shared_baselines():
    """5 models, 20 pairs: 5 % of 40 tables are 2; 6 or more happen by chance in 1.4 %."""
    assert false_rejections(40, 5, moderated=True) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("moderated", [False, True])
def test_family_wise_error_over_90_null_pairs(moderated):
    """10 students x 9 teachers; 5 % of 150 are 7.5, 14 are more than two errors above."""
    assert false_rejections(150, 10, moderated) <= 14


def false_majorities(replications):
    """Half of 20 pairs sure, half null: "most" is false, at its boundary."""
    generator, count = np.random.default_rng(7), 0
    for _ in range(replications):
        shift = np.where(np.arange(20) < 10, 0.1, 0.0)
        values = shift + ERROR * stats.t(NU).rvs(20, random_state=generator)
        count += words("majority", values.tolist()).word == "supported"
    return count


def test_a_majority_at_its_boundary_is_rarely_supported():
    """2.5 % of 80 are 2; 7 or more happen by chance in 0.4 %."""
    assert false_majorities(80) <= 6


@pytest.mark.slow
def test_a_majority_at_its_boundary_at_length():
    """2.5 % of 600 are 15, 26 are three errors above."""
    assert false_majorities(600) <= 26


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 4.0])
def test_coverage_whatever_the_ratio_of_seeds_to_clips(seeds, ratio):
    """300 tables of a fixed split, 150 clips; nominal 95 %, 3.5 points are two errors and more."""
    generator, covered = np.random.default_rng(15), 0
    clips = 150
    for _ in range(300):
        hard = generator.normal(size=(1, clips))
        spread = ratio * 0.12 / math.sqrt(2)
        arms = [system(generator, 1, seeds, clips, spread, hard) for _ in range(2)]
        found = estimate([(1.0, arms[0]), (-1.0, arms[1])], (0,), seeds)
        covered += found.low <= 0.0 <= found.high
    assert covered >= 0.915 * 300
