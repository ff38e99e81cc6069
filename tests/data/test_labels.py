"""Compact labels against NumPy's own table."""

import numpy as np
import pytest

from cmkd.data.labels import Labels

TABLE = (np.random.default_rng(5).random((40, 300)) < 0.02).astype(np.uint8)
LABELS = Labels.of([np.flatnonzero(row).tolist() for row in TABLE], 300)


@pytest.mark.parametrize(
    "index",
    [3, -1, slice(None), slice(5, 30, 4), [7, 7, 0, -2], np.array([], dtype=np.int64),
     np.arange(40) % 3 == 0, np.int64(39)],
)  # fmt: skip
def test_any_index_gives_what_numpy_gives(index: object) -> None:
    found = LABELS[index]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, TABLE[index])


def test_sums_shape_and_the_whole_table() -> None:
    assert LABELS.shape == TABLE.shape and len(LABELS) == 40 and LABELS.dtype == TABLE.dtype
    for axis in (None, 0, 1):
        np.testing.assert_array_equal(LABELS.sum(axis=axis), TABLE.sum(axis=axis))
    np.testing.assert_array_equal(np.asarray(LABELS), TABLE)
    assert LABELS.tolist() == TABLE.tolist()
    assert Labels.of([], 4).sum(axis=0).tolist() == [0, 0, 0, 0]
    assert Labels.of([[], [2]], 4)[:].tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize("index", [40, [0, 40], -41])
def test_a_clip_that_is_not_there_is_an_error(index: object) -> None:
    with pytest.raises(IndexError, match="there are 40 clips"):
        LABELS[index]


def test_a_label_takes_two_bytes() -> None:
    assert LABELS._columns.dtype.itemsize == 2 and Labels.of([[1]], 200)._columns.itemsize == 1
