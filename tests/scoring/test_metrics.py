"""Metrics against scikit-learn's, ties included."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from cmkd.errors import DataError
from cmkd.scoring import metrics


@st.composite
def tables(draw):
    """Scores [clips, classes] with as many ties as `levels` makes, and targets."""
    clips, classes = draw(st.integers(2, 40)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 3, 10, 1000]))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    scores = (generator.integers(0, levels, (clips, classes)) / levels - 0.4).astype(dtype)
    share = draw(st.sampled_from([0.05, 0.3, 0.9]))
    return scores, (generator.random((clips, classes)) < share).astype(np.uint8)


def sklearn_by_class(function, scores, targets, skip):
    values = []
    for column in range(targets.shape[1]):
        wanted = targets[:, column]
        if skip(wanted):
            values.append(math.nan)
        else:
            values.append(function(wanted, scores[:, column].astype(np.float64)))
    return np.array(values)


@settings(max_examples=200, deadline=None)
@given(tables())
def test_areas_equal_scikit_learn(table):
    scores, targets = table
    precisions, rocs = metrics.areas(scores, targets)
    expected = sklearn_by_class(
        sk.average_precision_score, scores, targets, lambda wanted: not wanted.any()
    )
    np.testing.assert_allclose(precisions, expected, rtol=0, atol=1e-12)
    expected_rocs = sklearn_by_class(
        sk.roc_auc_score, scores, targets, lambda wanted: wanted.all() or not wanted.any()
    )
    np.testing.assert_allclose(rocs, expected_rocs, rtol=0, atol=1e-12)
    if not np.isnan(expected).all():
        mean = metrics.mean_average_precision(scores, targets)
        assert mean == pytest.approx(np.nanmean(expected), abs=1e-12)
    if not np.isnan(expected_rocs).all():
        auc = np.nanmean(expected_rocs)
        assert metrics.mean_auc(scores, targets) == pytest.approx(auc, abs=1e-12)
        if 0 < auc < 1:
            oracle = math.sqrt(2) * stats.norm.ppf(auc)
            assert metrics.d_prime(scores, targets) == pytest.approx(oracle, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_accuracy_equals_scikit_learn(clips, classes, seed, tied):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(clips, classes))
    logits = np.round(logits) if tied else logits
    wanted = generator.integers(0, classes, clips)
    oracle = sk.accuracy_score(wanted, logits.argmax(axis=1))
    assert metrics.accuracy(logits, np.eye(classes)[wanted]) == pytest.approx(oracle, abs=1e-12)
    assert metrics.accuracy(logits, wanted) == pytest.approx(oracle, abs=1e-12)


def test_macro_map_equals_scikit_learn_where_every_class_is_scored():
    generator = np.random.default_rng(3)
    scores = np.round(generator.normal(size=(200, 7)), 1)
    targets = (generator.random((200, 7)) < 0.2).astype(int)
    oracle = sk.average_precision_score(targets, scores, average="macro")
    assert metrics.mean_average_precision(scores, targets) == pytest.approx(oracle, abs=1e-12)
    oracle = sk.roc_auc_score(targets, scores, average="macro")
    assert metrics.mean_auc(scores, targets) == pytest.approx(oracle, abs=1e-12)


def test_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    assert metrics.mean_average_precision(scores, [[1], [0], [1], [0]]) == pytest.approx(5 / 6)
    assert metrics.mean_auc(scores, [[1], [0], [1], [0]]) == 0.75
    tied = np.array([[0.9], [0.5], [0.5], [0.1]])
    assert metrics.mean_average_precision(tied, [[0], [1], [0], [1]]) == pytest.approx(5 / 12)
    equal = np.zeros((5, 1))
    assert metrics.mean_average_precision(equal, [[1], [0], [0], [1], [0]]) == pytest.approx(0.4)


def test_a_class_without_positives_is_nan_and_out_of_the_mean():
    scores = np.array([[0.9, 0.1], [0.1, 0.3]], dtype=np.float32)
    targets = np.array([[1, 0], [0, 0]])
    assert np.isnan(metrics.average_precisions(scores, targets)).tolist() == [False, True]
    assert metrics.mean_average_precision(scores, targets) == 1.0
    assert metrics.classes_scored(targets) == 1


def test_no_class_left_is_an_error():
    with pytest.raises(DataError, match="none of 2 classes has a positive clip"):
        metrics.mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(DataError, match="a positive and a negative clip"):
        metrics.mean_auc(np.zeros((3, 2)), np.ones((3, 2)))


def test_d_prime_of_an_area():
    assert metrics.d_prime(0.5) == 0.0
    assert metrics.d_prime(0.975) == pytest.approx(math.sqrt(2) * 1.959963984540054, abs=1e-12)
    assert metrics.d_prime(1.0) == math.inf
    assert metrics.d_prime(0.0) == -math.inf
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.d_prime(1.5)


def test_all_metrics_of_single_and_multi_label():
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [0.2, 0.1]])
    targets = np.array([[1, 0], [0, 1], [0, 1]])
    single = metrics.all_metrics(logits, targets, "single")
    assert list(single) == ["accuracy", "map", "auc", "d_prime"]
    assert single["accuracy"] == pytest.approx(2 / 3)
    assert list(metrics.all_metrics(logits, targets, "multi")) == ["map", "auc", "d_prime"]


def test_undefined_metrics_are_none_so_that_json_can_hold_them():
    perfect = metrics.all_metrics([[1.0, 0.0], [0.0, 1.0]], [[1, 0], [0, 1]], "multi")
    assert perfect == {"map": 1.0, "auc": 1.0, "d_prime": None}
    empty = metrics.all_metrics([[1.0], [0.0]], [[0], [0]], "multi")
    assert empty == {"map": None, "auc": None, "d_prime": None}


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([[0.1, math.nan]], [[1, 0]], "row 0, class 1 is nan"),
        ([[0.1, 0.2], [math.inf, 0.0]], [[1, 0], [0, 1]], "row 1, class 0 is inf"),
        ([[0.1, 0.2]], [[1, 0, 0]], r"shape \(1, 2\) but targets \(1, 3\)"),
        ([[0.1, 0.2]], [[0.5, 0]], "row 0 holds a value other than 0 and 1"),
        (np.zeros((0, 2)), np.zeros((0, 2)), r"not \[clips, classes\]"),
        ([0.1, 0.2], [[1, 0]], r"not \[clips, classes\]"),
    ],
)
def test_wrong_arrays_are_named(scores, targets, message):
    with pytest.raises(DataError, match=message):
        metrics.areas(scores, targets)


def test_accuracy_needs_one_class_a_clip():
    with pytest.raises(DataError, match="row 1 has 2 classes"):
        metrics.accuracy([[0.1, 0.2], [0.3, 0.4]], [[1, 0], [1, 1]])
    with pytest.raises(DataError, match="1 clips have logits but 2 have targets"):
        metrics.accuracy([[0.1, 0.2]], [0, 1])


def test_no_warning_is_raised_on_empty_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.areas(np.zeros((3, 2)), np.zeros((3, 2)))
