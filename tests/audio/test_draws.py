"""Draws: pure functions of (seed, fold, depth, epoch), one stream a purpose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmkd.audio import draws as module
from cmkd.audio.draws import (
    BANK_OFFSETS,
    Subset,
    balanced_weights,
    draws,
    noise_bank,
    stream,
)
from cmkd.errors import ConfigError, DataError

UNIFORM = {"sampling": "uniform", "mixup_alpha": 10.0}
WIDTHS = {
    "mixup": st.sampled_from([0.0, 0.3, 1.0]),
    "mixup_alpha": st.sampled_from([0.5, 1.0, 10.0]),
    "frequency_mask": st.integers(0, 48),
    "time_mask": st.integers(0, 192),
    "noise": st.sampled_from([0.0, 0.05, 0.1]),
    "roll": st.integers(0, 10),
    "sampling": st.sampled_from(["uniform", "balanced"]),
}
RECIPES = st.fixed_dictionaries(WIDTHS)


def flat(drawn) -> dict[str, np.ndarray]:
    """Return an epoch's arrays by name."""
    looks = {f"student.{k}": v for k, v in drawn.student._asdict().items()}
    looks |= {f"teacher.{k}": v for k, v in drawn.teacher._asdict().items()}
    rest = {k: v for k, v in drawn._asdict().items() if k not in ("student", "teacher")}
    return rest | looks


def subset(n: int) -> Subset:
    return Subset(n, np.arange(1.0, n + 1))


def test_uniform_order_is_a_permutation():
    drawn = draws(Subset(100), 0, 1, 0, 0, UNIFORM)
    assert sorted(drawn.order) == list(range(100))
    assert list(drawn.order) != list(range(100))


def test_the_same_place_gives_the_same_draws_in_any_order_of_asking():
    first = [flat(draws(Subset(50), 3, 1, 1, epoch, UNIFORM)) for epoch in (0, 1, 2)]
    again = [flat(draws(Subset(50), 3, 1, 1, epoch, UNIFORM)) for epoch in (2, 0, 1)]
    for one, other in zip(first, [again[1], again[2], again[0]], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("other", [(1, 1, 0, 0), (0, 2, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1)])
def test_seed_fold_depth_and_epoch_each_change_every_stream(other):
    here, there = (flat(draws(Subset(50), *p, UNIFORM)) for p in ((0, 1, 0, 0), other))
    assert not [name for name in here if np.array_equal(here[name], there[name])]


def test_each_purpose_has_exactly_one_stream(monkeypatch):
    asked = []

    def listening(seed, fold, depth, name, epoch=0):
        asked.append(name)
        return stream(seed, fold, depth, name, epoch)

    monkeypatch.setattr(module, "stream", listening)
    draws(Subset(5), 0, 1, 0, 0, UNIFORM)
    looks = ["fmask", "tmask", "noise", "roll"]
    purposes = ["order", "mix.if", "mix.who", "mix.lam", *looks]
    assert sorted(asked) == sorted(purposes + [f"teacher.{name}" for name in looks])


def test_no_two_arrays_of_uniforms_are_alike():
    drawn = flat(draws(Subset(4000), 0, 1, 0, 0, UNIFORM))
    columns = [drawn["mixes"], drawn["partner"] / 4000]
    for name in drawn:
        if "." in name:
            columns += list(drawn[name].reshape(4000, -1).T)
    correlations = np.corrcoef(columns)[np.triu_indices(len(columns), 1)]
    assert np.abs(correlations).max() < 0.07  # 4.4 standard errors of 1 / sqrt(4000)


def test_numbers_are_pinned():
    # Should a numpy change these, all results change: raise `behaviour` of the part input.
    drawn = draws(Subset(5), 0, 1, 0, 0, UNIFORM)
    assert drawn.order.tolist() == PINNED["order"]
    assert drawn.partner.tolist() == PINNED["partner"]
    assert drawn.coefficient.tolist() == pytest.approx(PINNED["coefficient"], abs=1e-7)
    assert drawn.student.roll.tolist() == pytest.approx(PINNED["roll"], abs=1e-7)
    assert noise_bank(0, 1, 0, 1)[:3].tolist() == pytest.approx(PINNED["bank"], abs=1e-7)


PINNED = {
    "order": [0, 4, 1, 3, 2],
    "partner": [0, 2, 3, 0, 4],
    "coefficient": [0.47240165, 0.64094549, 0.66409469, 0.59028411, 0.42400354],
    "roll": [0.01104021, 0.50034052, 0.51809937, 0.27306777, 0.35977691],
    "bank": [0.41138291, 0.20934814, 0.09228331],
}


@settings(max_examples=60, deadline=None)
@given(RECIPES, RECIPES, st.integers(0, 2**31), st.integers(1, 60))
def test_a_recipe_changes_only_order_and_coefficient(one, other, seed, n):
    first, second = (flat(draws(subset(n), seed, 2, 1, 4, part)) for part in (one, other))
    changed = {name for name in first if not np.array_equal(first[name], second[name])}
    allowed = set()
    if one["sampling"] != other["sampling"]:
        allowed.add("order")
    if one["mixup_alpha"] != other["mixup_alpha"]:
        allowed.add("coefficient")
    assert changed <= allowed


@settings(max_examples=30, deadline=None)
@given(RECIPES, st.integers(0, 5), st.integers(1, 60))
def test_draws_are_within_their_ranges(part, epoch, n):
    drawn = flat(draws(subset(n), 0, 0, 0, epoch, part))
    for name in ("order", "partner"):
        values = drawn.pop(name)
        assert values.shape == (n,)
        assert values.min() >= 0
        assert values.max() < n
    assert all(len(values) == n for values in drawn.values())
    assert all((values >= 0).all() and (values <= 1).all() for values in drawn.values())
    assert all((drawn[name] < 1).all() for name in drawn if name != "coefficient")


def test_uniforms_partners_and_coefficients_have_their_distributions():
    n = 20000
    drawn = flat(draws(Subset(n), 0, 1, 0, 0, UNIFORM))
    uniforms = [drawn["mixes"], (drawn["partner"] + 0.5) / n]
    uniforms += [values.ravel() for name, values in drawn.items() if "." in name]
    assert min(stats.kstest(values, "uniform").pvalue for values in uniforms) > 1e-4
    # psla, ast: the coefficient is Beta(10, 10).
    assert stats.kstest(drawn["coefficient"], stats.beta(10, 10).cdf).pvalue > 1e-4


def test_balanced_weights_by_hand():
    # psla, ast: sum over a clip's labels of 1000 / (class count + 0.01).
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=np.uint8)
    common, rare = 1000 / 3.01, 1000 / 1.01
    assert balanced_weights(labels) == pytest.approx([common, common, common + rare, 0.0])


def test_balanced_weights_in_pieces_are_those_of_the_whole_table(monkeypatch):
    labels = (np.random.default_rng(2).random((50, 7)) < 0.3).astype(np.uint8)
    rows = np.arange(0, 50, 3)
    present = labels[rows].astype(np.float64)
    # To the bit: a draw must not change because of how the weights were summed up.
    wanted = present @ (1000.0 / (present.sum(axis=0) + 0.01))
    assert np.array_equal(balanced_weights(labels, rows), wanted)
    monkeypatch.setattr(module, "CELLS", 28)
    assert balanced_weights(labels, rows) == pytest.approx(wanted, rel=1e-12)


def test_balanced_order_draws_by_weight_with_replacement():
    weights = np.array([1.0, 0.0, 2.0, 5.0] * 2500)
    order = draws(Subset(10000, weights), 0, 1, 0, 0, {"sampling": "balanced"}).order
    counts = np.bincount(order % 4, minlength=4)
    assert counts[1] == 0
    expected = np.array([1, 2, 5]) * 10000 / 8
    assert stats.chisquare(counts[[0, 2, 3]], expected).pvalue > 1e-4
    assert len(set(order)) < 10000


def test_balanced_without_weights_and_unknown_sampling_are_refused():
    with pytest.raises(ConfigError, match="needs the weight of each clip"):
        draws(Subset(3), 0, 1, 0, 0, {"sampling": "balanced"})
    with pytest.raises(ConfigError, match="'balance', did you mean 'balanced'"):
        draws(Subset(3), 0, 1, 0, 0, {"sampling": "balance"})


def test_a_longer_noise_bank_begins_with_the_shorter_one():
    short, long = noise_bank(0, 1, 0, 10), noise_bank(0, 1, 0, 5000)
    assert len(short) == BANK_OFFSETS + 10
    assert np.array_equal(short, long[: len(short)])
    assert stats.kstest(short[::64], "uniform").pvalue > 1e-4


def test_epochs_do_not_overlap():
    first = stream(0, 1, 0, "roll", 0).random(5000)
    second = stream(0, 1, 0, "roll", 1).random(5000)
    assert not np.intersect1d(first, second).size


def test_balanced_sampling_of_clips_without_labels_is_refused():
    with pytest.raises(DataError, match="no training clip has one"):
        draws(Subset(3, np.zeros(3)), 0, 1, 0, 0, {"sampling": "balanced"})
