"""Which classes each clip has, as numbers of columns: two bytes a label instead of one a class.

Two million clips of 527 classes would be 1 GB as a table of 0 and 1, and are 24 MB here.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 15  # rows that are spread out at a time where all are asked for


class Labels:
    """Labels [clips, classes]; `labels[indices]` is an ordinary uint8 array of 0 and 1.

    Any index of a NumPy array's rows will do: a number, a slice, numbers or a mask. `shape`,
    `dtype`, `len`, `sum(axis)`, `tolist()` and np.asarray are those of the whole table.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, columns: Sequence[int] | NDArray[Any], counts: Any, classes: int) -> None:
        """Take the columns of all labels, clip after clip, and how many each clip has."""
        self._columns = np.asarray(columns, dtype=np.min_scalar_type(max(classes - 1, 0)))
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.shape = (len(self._starts) - 1, classes)

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], classes: int) -> "Labels":
        """Return the labels of rows of column numbers."""
        counts, columns = array("L"), array("L")
        for row in rows:
            counts.append(len(row))
            columns.extend(row)
        return cls(columns, counts, classes)

    def __len__(self) -> int:
        """Return the number of clips."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return 1 where a clip has a class, uint8 [classes] or [clips asked for, classes]."""
        rows = self._rows(index)
        chosen = np.atleast_1d(rows)
        table = np.zeros((len(chosen), self.shape[1]), dtype=np.uint8)
        counts = self._starts[chosen + 1] - self._starts[chosen]
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(self._starts[chosen] - first, counts)
        table[np.repeat(np.arange(len(chosen)), counts), self._columns[places]] = 1
        return table if np.ndim(rows) else table[0]

    def _rows(self, index: Any) -> NDArray[np.int64]:
        """Return the numbers of the rows that an index means; IndexError beyond the last."""
        if isinstance(index, slice):
            return np.arange(len(self))[index]
        numbers = np.asarray(index)
        if numbers.dtype == np.bool_:
            return np.arange(len(self))[numbers]
        numbers = numbers.astype(np.int64)
        if numbers.size and not (-len(self) <= numbers.min() <= numbers.max() < len(self)):
            raise IndexError(f"there are {len(self)} clips, not one of number {index}")
        return np.where(numbers < 0, numbers + len(self), numbers)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the whole table."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def tolist(self) -> list[list[int]]:
        """Return the whole table as lists of 0 and 1."""
        return self[:].tolist()

    def sum(self, axis: int | None = None) -> Any:
        """Return the number of labels: of each class (0), of each clip (1) or of all."""
        if axis is None:
            return len(self._columns)
        if axis == 1:
            return np.diff(self._starts)
        pieces = range(0, len(self), PIECE)
        counts = [self[start : start + PIECE].sum(axis=0, dtype=np.int64) for start in pieces]
        return np.sum(counts, axis=0, dtype=np.int64) if counts else np.zeros(self.shape[1], int)
