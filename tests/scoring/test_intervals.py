"""The interval against numbers worked by hand, and its symmetries."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmkd.errors import InputError, RunError
from cmkd.scoring.influence import RunScore, run_score
from cmkd.scoring.intervals import (
    Estimate,
    estimate,
    holm,
    holm_adjusted,
    moderate,
    moderate_all,
    p_value,
    partial_conjunction,
    quantile,
    rank_intervals,
)


def run(values, name="", sources=None, ids=None, labels="same"):
    """A run whose metric is the mean of values by clip (d of a gain, correctness of a score)."""
    values = np.asarray(values, dtype=np.float64)
    ids = np.array([f"c{i:04d}" for i in range(len(values))] if ids is None else ids)
    where = None if sources is None else np.asarray(sources, str)
    return RunScore(values.mean(), values - values.mean(), ids, where, name, labels)


def fixed(rows, **options):
    """Seeds x clips on a fixed split."""
    return {(0, seed): run(row, **options) for seed, row in enumerate(rows)}


def valued(grid):
    """Runs with given gains [folds][seeds] and no clip variance."""
    ids = np.array(["a", "b"])
    return {
        (fold, seed): RunScore(value, np.zeros(2), ids, None, "", "")
        for fold, row in enumerate(grid)
        for seed, value in enumerate(row)
    }


def of(arm, folds=(0,), seeds=3, **options):
    return estimate([(1.0, arm)], folds, seeds, **options)


def test_two_seeds_four_clips():
    result = of(fixed([[1, 0, 0, 1], [1, 0, -1, 0]]), seeds=2)
    assert result.value == pytest.approx(0.25)
    assert result.v_run == pytest.approx(0.0625)
    assert result.v_clip == pytest.approx(0.10417, abs=5e-6)
    assert result.v_both == pytest.approx(0.020833, abs=5e-7)
    assert result.half_width() == pytest.approx(3.2265, abs=5e-5)
    assert result.high - result.value == pytest.approx(3.2265, abs=5e-5)
    assert (result.label, result.nu, result.runs, result.planned) == ("runs+clips", 1, 2, 2)
    assert not result.conclusive


def test_three_seeds_five_clips():
    result = of(fixed([[1, 0, 0, 0, 1], [1, 0, 0, -1, 1], [0, 0, 1, 0, 1]]))
    assert result.value == pytest.approx(0.33333, abs=5e-6)
    assert result.v_run == pytest.approx(0.004444, abs=5e-7)
    assert result.v_clip == pytest.approx(0.055556, abs=5e-7)
    assert result.v_both == pytest.approx(0.015556, abs=5e-7)
    assert result.half_width() == pytest.approx(0.4857, abs=5e-5)
    assert result.conclusive


def test_two_folds_three_seeds():
    result = of(valued([[0.10, 0.04, 0.07], [0.02, 0.06, 0.01]]), folds=(0, 1))
    assert result.value == pytest.approx(0.05)
    assert result.v_run == pytest.approx(1.3333e-4, abs=5e-9)
    assert result.nu == 4
    assert result.half_width() == pytest.approx(0.03206, abs=5e-6)


FIVE = [0.03, 0.05, 0.01, 0.02, 0.04]


def test_fold_t_with_one_run_per_fold():
    result = of(valued([[value] for value in FIVE]), folds=range(5), seeds=1)
    assert result.label == "one run per fold"
    assert result.value == pytest.approx(0.03)
    assert result.half_width() == pytest.approx(0.01963, abs=5e-6)
    assert result.conclusive


def test_clip_noise_enters_the_fold_t_only_through_the_folds():
    runs = {
        (fold, 0): run(row) for fold, row in enumerate([[1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 0]])
    }
    result = of(runs, folds=range(3), seeds=1)
    gains = [0.5, 0.25, 0.75]
    half = stats.t.ppf(0.975, 2) * np.std(gains, ddof=1) / math.sqrt(3)
    assert result.half_width() == pytest.approx(half)
    assert result.v_clip > 0


def test_fixed_split_runs_are_never_taken_as_folds():
    with pytest.raises(InputError, match="a fixed split has one fold, not 5"):
        of(valued([[value] for value in FIVE]), folds=range(5), seeds=1, fixed_split=True)
    result = of(valued([FIVE]), seeds=5, fixed_split=True)
    assert (result.label, result.nu) == ("runs+clips", 4)


def test_p_inversion():
    assert p_value(0.03, 1e-4, 2) == pytest.approx(0.09547, abs=5e-6)
    assert p_value(0.03, 0.0, 2, clip=1e-4) == pytest.approx(0.0027, abs=5e-5)
    assert p_value(0.03, 1e-4, 4, clip=1e-4) == pytest.approx(0.07368, abs=5e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-12, 0.9999), st.floats(1, 300))
def test_quantiles_and_their_inverse_equal_scipy(a, nu):
    oracle = stats.t.isf(a / 2, nu)
    assert quantile(a, nu) == pytest.approx(oracle, rel=1e-6, abs=1e-9)
    assert quantile(a, math.inf) == pytest.approx(stats.norm.isf(a / 2), rel=1e-9, abs=1e-12)
    assert p_value(oracle, 1.0, nu) == pytest.approx(a, rel=1e-5)


def test_p_of_the_interval_end_is_the_level():
    result = of(fixed([[1, 0, 0, 0, 1], [1, 0, 0, -1, 1], [0, 0, 1, 0, 1]]))
    assert result.p_two(result.low) == pytest.approx(0.05, abs=1e-9)
    assert result.p_up(result.low) == pytest.approx(0.025, abs=1e-9)
    assert result.p_down(result.high) == pytest.approx(0.025, abs=1e-9)


def two_arms(seed, folds=3, seeds=3, clips=12):
    generator = np.random.default_rng(seed)

    def arm():
        return {
            (fold, s): run((generator.random(clips) < 0.6).astype(float), f"{generator.random()}")
            for fold in range(folds)
            for s in range(seeds)
        }

    return arm(), arm()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_swapping_arms_negates(seed):
    taught, alone = two_arms(seed)
    one = estimate([(1.0, taught), (-1.0, alone)], range(3), 3)
    other = estimate([(1.0, alone), (-1.0, taught)], range(3), 3)
    assert one.value == pytest.approx(-other.value, abs=1e-15)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_up() == pytest.approx(other.p_down())
    assert one.p_down() == pytest.approx(other.p_up())
    assert one.p_up(0.01) == pytest.approx(other.p_down(-0.01))


def test_shuffled_clips_and_renamed_seeds_change_nothing():
    generator = np.random.default_rng(5)
    targets = np.eye(3)[generator.integers(0, 3, 20)]
    logits = [generator.normal(size=(20, 3)) for _ in range(3)]
    ids, order = np.array([f"c{i:02d}" for i in range(20)]), generator.permutation(20)
    plain = {(0, s): run_score(values, targets, "accuracy", ids) for s, values in enumerate(logits)}
    moved = {
        (0, 7 - s): run_score(values[order], targets[order], "accuracy", ids[order])
        for s, values in enumerate(logits)
    }
    one, other = of(plain), of(moved)
    for field in dataclasses.fields(Estimate):
        assert getattr(one, field.name) == pytest.approx(getattr(other, field.name)), field.name


def test_a_contrast_carries_shared_arms():
    taught, alone = two_arms(3)
    other, _ = two_arms(4)
    mean = estimate([(0.5, taught), (-0.5, alone), (0.5, other), (-0.5, alone)], range(3), 3)
    merged = estimate([(0.5, taught), (0.5, other), (-1.0, alone)], range(3), 3)
    assert mean.value == pytest.approx(merged.value)
    assert (mean.v_run, mean.v_clip, mean.v_both) == pytest.approx(
        (merged.v_run, merged.v_clip, merged.v_both)
    )
    nothing = estimate([(1.0, taught), (-1.0, taught)], range(3), 3)
    assert (nothing.low, nothing.high) == (0.0, 0.0)


def test_identical_arms_have_no_gain_and_no_doubt():
    taught, _ = two_arms(1)
    result = estimate([(1.0, taught), (-1.0, taught)], range(3), 3)
    assert (result.value, result.low, result.high) == (0.0, 0.0, 0.0)
    assert (result.p_two(), result.p_up(), result.p_down()) == (1.0, 0.5, 0.5)
    assert "zero variance" in result.note


def test_zero_variance_proves_something_only_with_three_seeds():
    sure = of(fixed([[1, 1, 1]] * 3))
    assert (sure.v_run, sure.v_clip, sure.p_two()) == (0.0, 0.0, 0.0)
    assert sure.note == "zero variance"
    few = of(fixed([[1, 1, 1]] * 2), seeds=2)
    assert (few.p_two(), few.p_up(), few.p_down()) == (1.0, 0.5, 0.5)


def test_clips_only_says_nothing_about_training():
    result = of(fixed([[1, 1, 1, 1, 1, 1, 1, 0]]), seeds=1)
    assert result.label == "clips only"
    d = np.array([1, 1, 1, 1, 1, 1, 1, 0])
    assert result.half_width() == pytest.approx(1.959964 * d.std(ddof=1) / math.sqrt(8), rel=1e-6)
    assert (result.p_two(), result.p_up(), result.p_down()) == (1.0, 1.0, 1.0)
    assert not result.conclusive


def test_clip_term_is_never_negative():
    rows = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1]]
    result = of(fixed(rows))
    assert result.v_clip < result.v_both
    assert result.clip == 0.0
    assert result.half_width() == pytest.approx(quantile(0.05, 2) * math.sqrt(result.v_run))
    assert math.isfinite(result.p_two())


def test_a_seed_missing_in_one_arm_drops_that_run():
    taught, alone = two_arms(2)
    lacking = {key: value for key, value in alone.items() if key != (1, 2)}
    result = estimate([(1.0, taught), (-1.0, lacking)], range(3), 3)
    assert (result.runs, result.planned, result.nu) == (8, 9, 5)
    gains = [
        [taught[f, s].value - lacking[f, s].value for s in range(3) if (f, s) in lacking]
        for f in range(3)
    ]
    pooled = sum(np.var(row, ddof=1) * (len(row) - 1) for row in gains) / 5
    assert result.v_run == pytest.approx(sum(pooled / len(row) for row in gains) / 9)
    assert result.value == pytest.approx(np.mean([np.mean(row) for row in gains]))


def test_a_fold_with_one_seed_adds_to_clips_but_not_to_the_interaction():
    rows = {(0, 0): run([1, 0, 0, 1]), (0, 1): run([1, 0, -1, 0]), (1, 0): run([1, 0, 1, 0])}
    result = of(rows, folds=(0, 1), seeds=2)
    assert (result.label, result.nu) == ("runs+clips", 1)
    assert result.v_run == pytest.approx((0.125 / 2 + 0.125) / 4)
    assert result.v_clip == pytest.approx((0.104167 + 0.25 / 3) / 4, rel=1e-5)
    assert result.v_both == pytest.approx(0.0208333 / 4, rel=1e-5)


def test_a_missing_fold_is_incomplete():
    taught, alone = two_arms(2)
    lacking = {key: value for key, value in alone.items() if key[0] != 1}
    result = estimate([(1.0, taught), (-1.0, lacking)], range(3), 3)
    assert result.label == "incomplete"
    assert math.isnan(result.low) and math.isnan(result.high)
    assert math.isfinite(result.value)
    assert (result.p_up(), result.p_down(), result.runs) == (1.0, 1.0, 6)
    assert "no complete run of fold 1" in result.note
    nothing = estimate([(1.0, {})], range(3), 3)
    assert math.isnan(nothing.value) and nothing.runs == 0


def test_arms_on_other_clips_or_labels_are_refused():
    one = {(0, 0): run([1, 0, 1])}
    moved = {(0, 0): run([1, 0, 1], ids=["c0000", "c0001", "c0009"])}
    with pytest.raises(RunError, match=r"fold 0: .* different clips \(2 differ, such as 'c0002'\)"):
        estimate([(1.0, one), (-1.0, moved)], (0,), 1)
    with pytest.raises(RunError, match="different labels"):
        estimate([(1.0, one), (-1.0, {(0, 0): run([1, 0, 1], labels="x")})], (0,), 1)


def test_one_stream_for_all_folds_uses_seed_means():
    grid = [[0.1, 0.3], [0.2, 0.6], [0.3, 0.6]]
    result = of(valued(grid), folds=range(3), seeds=2, rng_per_fold=False)
    assert (result.label, result.nu) == ("seed means", 1)
    assert result.v_run == pytest.approx(np.var([0.2, 0.5], ddof=1) / 2)
    assert not result.conclusive
    three = of(valued([[1, 2, 3]] * 3), folds=range(3), rng_per_fold=False)
    assert three.conclusive


def test_seed_means_need_seeds_that_every_fold_has():
    runs = valued([[0.1, 0.3], [0.2, 0.6], [0.3, 0.6]])
    runs[0, 5] = runs[0, 0]
    result = of(runs, folds=range(3), rng_per_fold=False)
    assert (result.label, result.runs) == ("seed means", 6)
    assert "seed 5 not in every fold" in result.note
    alone = of(valued([[0.1], [0.2], [0.4]]), folds=range(3), seeds=1, rng_per_fold=False)
    assert (alone.label, alone.conclusive) == ("one seed", False)
    folds = np.array([0.1, 0.2, 0.4])
    expected = stats.t.ppf(0.975, 2) * folds.std(ddof=1) / math.sqrt(3)
    assert alone.half_width() == pytest.approx(expected)


def test_clips_of_one_source_are_clustered():
    rows = np.array([[1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 1, 1], [0, 0, 1, 0, 1, 1]], float)
    sources = ["a", "a", "b", "b", "c", "c"]
    result = of(fixed(rows, sources=sources))
    apart = rows - rows.mean(axis=1, keepdims=True)
    mean = apart.mean(axis=0)
    clip = 3 / 2 * sum(mean[i : i + 2].sum() ** 2 for i in (0, 2, 4)) / 36
    rest = apart - mean
    both = 3 / 2 * sum((row[i : i + 2].sum()) ** 2 for row in rest for i in (0, 2, 4)) / 36 / 6
    assert result.v_clip == pytest.approx(clip)
    assert result.v_both == pytest.approx(both)
    assert (result.sources, result.clip_nu) == (3, 2)
    assert result.half_width() == pytest.approx(
        math.sqrt(
            stats.t.ppf(0.975, 2) ** 2 * result.v_run
            + stats.t.ppf(0.975, 2) ** 2 * max(clip - both, 0)
        )
    )


def test_sources_of_one_clip_each_equal_no_sources():
    rows = [[1, 0, 0, 0, 1], [1, 0, 0, -1, 1], [0, 0, 1, 0, 1]]
    plain, clustered = of(fixed(rows)), of(fixed(rows, sources=list("abcde")))
    assert clustered.v_clip == pytest.approx(plain.v_clip)
    assert clustered.v_both == pytest.approx(plain.v_both)
    many = of(fixed(np.eye(3, 250), sources=[f"s{i}" for i in range(250)]))
    assert (many.sources, many.clip_nu) == (250, math.inf)
    single = of(fixed(rows, sources=["x"] * 5))
    assert single.sources is None and "single source" in single.note


def test_identical_predictions_of_two_seeds_count_once():
    rows = fixed([[1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 1]])
    same = {
        key: dataclasses.replace(value, hash="x" if key[1] in (0, 2) else "y")
        for key, value in rows.items()
    }
    result = of(same)
    assert (result.runs, result.planned, result.nu) == (2, 3, 1)
    assert "seeds 0 and 2 made identical predictions, seed 2 left out" in result.note


def test_named_seeds_leave_out_others():
    runs = fixed([[1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]])
    assert of(runs, seeds=(0, 2)).runs == 2


def test_holm_and_partial_conjunction():
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        p = [[0.001, 0.004, 0.02, 0.3][i] for i in order]
        assert sum(holm(p, 0.025)) == 2
        assert partial_conjunction(p, 2) == pytest.approx(0.012)
        assert partial_conjunction(p, 3) == pytest.approx(0.04)
    assert holm([0.3, 0.001, 0.02, 0.004], 0.025) == [False, True, False, True]
    assert holm_adjusted([0.02, 0.01]) == pytest.approx([0.02, 0.02])
    assert holm([], 0.05) == []
    with pytest.raises(InputError, match="choose from 1 to 2"):
        partial_conjunction([0.1, 0.2], 3)
    with pytest.raises(InputError, match="p-value"):
        holm([math.nan], 0.05)


def test_moderation_by_hand():
    result = moderate([1, 2, 4, 8], 2)
    assert result.excess == pytest.approx(-0.8442, abs=5e-5)
    assert (result.prior_nu, result.nu) == (8, 10)
    assert result.variances == pytest.approx([3.7382, 3.9382, 4.3382, 5.1382], abs=5e-5)
    result = moderate([1, 2, 400, 0.01, 8], 2)
    assert result.excess == pytest.approx(12.9677, abs=5e-5)
    assert result.prior_nu == pytest.approx(0.5817, abs=5e-5)
    assert result.variances[2] == pytest.approx(309.96, abs=5e-3)
    with pytest.raises(InputError, match="at least two pairs"):
        moderate([0.0, 0.0], 2)


def test_moderated_estimates_keep_their_clip_term():
    generator = np.random.default_rng(0)
    plain = [of(fixed(generator.random((3, 30)) < 0.5)) for _ in range(12)]
    other = of(fixed(generator.random((2, 30)) < 0.5), seeds=2)
    changed = moderate_all([*plain, other])
    shrunk = moderate([e.v_run * 3 for e in plain], 2)
    for before, after, variance in zip(plain, changed, shrunk.variances, strict=False):
        assert after.v_run == pytest.approx(variance / 3)
        assert (after.nu, after.clip, after.value) == (shrunk.nu, before.clip, before.value)
        assert after.high - after.value == pytest.approx(after.half_width())
    assert changed[-1] == other
    assert moderate_all(plain[:9]) == plain[:9]


def test_ranks_by_hand():
    def level(value):
        return valued([[value - 0.001, value, value + 0.001]])

    systems = {"low": level(0.2), "high": level(0.8), "middle": level(0.5)}
    assert rank_intervals(systems, (0,), 3) == {"low": (3, 3), "high": (1, 1), "middle": (2, 2)}
    close = {"a": level(0.5), "b": valued([[0.502, 0.4991, 0.5]]), "c": level(0.9)}
    assert rank_intervals(close, (0,), 3) == {"a": (2, 3), "b": (2, 3), "c": (1, 1)}
    unsure = {"a": valued([[0.1, 0.1]]), "b": valued([[0.9, 0.9001]])}
    assert rank_intervals(unsure, (0,), 2) == {"a": (1, 2), "b": (1, 2)}
    assert rank_intervals({"a": level(0.3)}, (0,), 3) == {"a": (1, 1)}


def test_coverage_where_seeds_and_clips_vary_alike():
    generator = np.random.default_rng(15)
    clips, tables, covered = 400, 200, 0
    base, gain = 0.6, 0.05
    clip_error = math.sqrt(2 * base * (1 - base) / clips)
    for _ in range(tables):
        hard = generator.normal(size=clips)  # difficulty shared by arms and seeds

        def arm(centre, hard=hard):
            rows = []
            for _ in range(3):
                level = centre + generator.normal() * clip_error / math.sqrt(2)
                noise = (hard + generator.normal(size=clips)) / math.sqrt(2)
                rows.append((noise < stats.norm.ppf(np.clip(level, 0.01, 0.99))).astype(float))
            return fixed(rows)

        result = estimate([(1.0, arm(base + gain)), (-1.0, arm(base))], (0,), 3)
        covered += result.low <= gain <= result.high
    assert 0.92 * tables <= covered <= tables
