"""The exact delete-one jackknife against recomputation without each clip."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cmkd.errors import ConfigError, DataError
from cmkd.scoring.influence import jackknife, mean_score, run_score


def names(count):
    return [f"clip-{number:03d}" for number in range(count)]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(3, 30),
    st.sampled_from([1, 2, 4, 1000]),
    st.sampled_from([0.2, 0.6, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_jackknife_equals_recomputation(clips, levels, share, seed):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, clips) / levels
    positive = generator.random(clips) < share
    positive[:2] = True
    value, without = jackknife(scores, positive)
    assert value == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    for clip in range(clips):
        rest = np.delete(np.arange(clips), clip)
        expected = average_precision_score(positive[rest], scores[rest])
        assert without[clip] == pytest.approx(expected, abs=1e-12)


def test_leave_one_out_by_hand():
    value, without = jackknife(np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0], bool))
    assert value == pytest.approx(0.83333, abs=5e-6)
    np.testing.assert_allclose(without, [0.5, 1, 1, 0.83333], atol=5e-6)
    value, without = jackknife(np.array([0.9, 0.5, 0.5, 0.1]), np.array([0, 1, 0, 1], bool))
    assert value == pytest.approx(0.41667, abs=5e-6)
    np.testing.assert_allclose(without, [0.58333, 0.33333, 0.58333, 0.33333], atol=5e-6)


def test_map_influence_over_classes_equals_recomputation():
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=(25, 4)), 1).astype(np.float32)
    targets = generator.random((25, 4)) < 0.3
    targets[:, 3] = False
    targets[0, 3] = True  # one positive: left out
    run = run_score(scores, targets, "map", names(25), classes=["a", "b", "c", "rare"])
    assert run.left_out == ("rare",)
    kept = [0, 1, 2]

    def mean_ap(rows):
        return np.mean([average_precision_score(targets[rows, c], scores[rows, c]) for c in kept])

    every = np.arange(25)
    assert run.value == pytest.approx(mean_ap(every), abs=1e-12)
    raw = np.array([24 * (mean_ap(every) - mean_ap(np.delete(every, c))) for c in every])
    np.testing.assert_allclose(run.influence, raw - raw.mean(), atol=1e-11)


def test_accuracy_influence_is_centred_correctness():
    logits = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    targets = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
    run = run_score(logits, targets, "accuracy", names(4))
    assert run.value == 0.75
    np.testing.assert_allclose(run.influence, [0.25, -0.75, 0.25, 0.25])
    assert run.sources is None


def test_order_of_clips_does_not_matter():
    generator = np.random.default_rng(1)
    logits, targets = generator.normal(size=(9, 3)), np.eye(3)[generator.integers(0, 3, 9)]
    order = generator.permutation(9)
    ids = np.array(names(9))
    sources = np.array(list("aabbccdde"))
    one = run_score(logits, targets, "accuracy", ids, sources)
    other = run_score(logits[order], targets[order], "accuracy", ids[order], sources[order])
    assert (one.value, one.hash, one.labels) == (other.value, other.hash, other.labels)
    np.testing.assert_array_equal(one.influence, other.influence)
    np.testing.assert_array_equal(one.sources, other.sources)


def test_hash_tells_predictions_apart_and_labels_targets():
    logits, targets = np.eye(3), np.eye(3)
    one = run_score(logits, targets, "accuracy", names(3))
    moved = run_score(logits + [[1e-9, 0, 0]] * 3, targets, "accuracy", names(3))
    assert one.hash != moved.hash
    assert one.labels == moved.labels
    assert run_score(logits, targets[::-1], "accuracy", names(3)).labels != one.labels


def test_unknown_sources_stand_for_themselves():
    run = run_score(np.eye(3), np.eye(3), "accuracy", names(3), ["", "", "rain"])
    assert run.sources.tolist() == ["clip clip-000", "clip clip-001", "rain"]
    assert run_score(np.eye(3), np.eye(3), "accuracy", names(3), ["", "", ""]).sources is None


def test_classes_with_few_positives_are_flagged():
    targets = np.zeros((12, 3))
    targets[:1, 0], targets[:4, 1], targets[:5, 2] = 1, 1, 1
    run = run_score(np.zeros((12, 3)), targets, "map", names(12), classes=["x", "y", "z"])
    assert (run.left_out, run.few) == (("x",), ("y",))
    assert run.value == pytest.approx((4 / 12 + 5 / 12) / 2)  # all tied: prevalence


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"metric": "acuracy"}, ConfigError, "did you mean 'accuracy'"),
        ({"ids": names(2)}, DataError, "3 clips have scores but 2 have ids"),
        ({"ids": ["a", "b", "a"]}, DataError, "clip 'a' is scored more than once"),
        ({"metric": "map"}, DataError, "no class has two positive test clips"),
    ],
)
def test_wrong_input_is_named(change, error, message):
    arguments = {"logits": np.eye(3), "targets": np.eye(3), "metric": "accuracy", "ids": names(3)}
    with pytest.raises(error, match=message):
        run_score(**{**arguments, **change})


def test_one_clip_has_no_interval():
    with pytest.raises(DataError, match="at least two test clips"):
        run_score([[1.0, 0.0]], [[1, 0]], "accuracy", ["a"])


def test_a_mean_over_clips_has_the_influence_of_accuracy() -> None:
    right, ids = np.array([1.0, 0.0, 1.0, 1.0]), ["d", "a", "c", "b"]
    logits = np.where(right[:, None] == 1, [[2.0, 1.0]], [[1.0, 2.0]])
    targets = np.tile([1, 0], (4, 1))
    expected = run_score(logits, targets, "accuracy", ids, ["x", "", "x", "y"])
    found = mean_score(right, ids, ["x", "", "x", "y"])
    assert found.value == expected.value
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.influence.tolist() == expected.influence.tolist()
    assert found.sources.tolist() == expected.sources.tolist()
