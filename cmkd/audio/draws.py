"""What chance decides in an epoch, drawn ahead as arrays indexed by position.

An epoch is a pure function of seed, fold, depth (number of teachers above the run) and epoch:
each purpose has a stream of its own, a Philox generator whose key is the sha256 of
(seed, fold, depth, stream) and whose counter is the epoch. All streams are always drawn, mostly as
uniforms in [0, 1); a recipe only scales and selects them, so switching one augmentation off, or
changing a width, leaves the draws of the others as they were. No model, batch size, worker or
device enters.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd.errors import ConfigError, DataError, nearest

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SAMPLINGS = ("uniform", "balanced")
STREAMS = ("order", "mix.if", "mix.who", "mix.lam", "fmask", "tmask", "noise", "roll")
TEACHER = "teacher."
BANK_OFFSETS = 1 << 22  # a clip's noise starts at one of so many places of the bank
CELLS = 1 << 23  # of labels as float64 that are in memory at a time (64 MB)


class Subset(NamedTuple):
    """The clips an epoch draws from: how many, and their sampling weights where balanced."""

    clips: int
    weights: NDArray[np.float64] | None = None


class Look(NamedTuple):
    """What is drawn for one look at each position's clip; uniforms, float32 in [0, 1).

    fmask, tmask [n, 2]: width and start of a mask. noise [n, 2]: offset into the bank and
    amplitude. roll [n]: shift in time.
    """

    fmask: Floats
    tmask: Floats
    noise: Floats
    roll: Floats


class Draws(NamedTuple):
    """An epoch's draws by position: clip, mixup, and the student's and the teacher's looks.

    order, partner int64 [n]: clips, as numbers within the subset. mixes float32 [n]: uniform, a
    position mixes where it is below the recipe's probability. coefficient float32 [n]: the first
    clip's share. `teacher` is read only when the teacher is taught apart (`independent`).
    """

    order: Indices
    mixes: Floats
    partner: Indices
    coefficient: Floats
    student: Look
    teacher: Look


def draws(
    subset: Subset, seed: int, fold: int, depth: int, epoch: int, input: Mapping[str, Any]
) -> Draws:
    """Return the draws of an epoch (0-based) over a subset, under a recipe's part `input`.

    Of `input` only `sampling` and `mixup_alpha` matter here. Raises ConfigError for a sampling
    that is not known and DataError for a balanced one where no clip has a label.
    """
    place = (seed, fold, depth)
    n = subset.clips
    alpha = float(input.get("mixup_alpha") or 1.0)
    return Draws(
        order=_order(subset, stream(*place, "order", epoch), input.get("sampling", "uniform")),
        mixes=stream(*place, "mix.if", epoch).random(n, np.float32),
        partner=(stream(*place, "mix.who", epoch).random(n) * n).astype(np.int64),
        coefficient=stream(*place, "mix.lam", epoch).beta(alpha, alpha, n).astype(np.float32),
        student=_look(place, "", epoch, n),
        teacher=_look(place, TEACHER, epoch, n),
    )


def stream(seed: int, fold: int, depth: int, name: str, epoch: int = 0) -> np.random.Generator:
    """Return the generator of one purpose and epoch.

    The epoch is the counter's highest word: epochs are 2^192 numbers apart and never meet.
    """
    digest = hashlib.sha256(f"{seed}/{fold}/{depth}/{name}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, epoch]))


def noise_bank(seed: int, fold: int, depth: int, cells: int) -> Floats:
    """Return the uniforms in [0, 1) that noise is cut from, so long that any offset has `cells`.

    A larger view lengthens the bank and changes none of its numbers. Two clips' slices may
    overlap: harmless, as their amplitudes and frames differ.
    """
    return stream(seed, fold, depth, "noise.bank").random(BANK_OFFSETS + cells, np.float32)


def balanced_weights(labels: Any, rows: Indices | None = None) -> NDArray[np.float64]:
    """Return sampling weights [n] of clips with labels [n, classes] (0 or 1), as PSLA has them.

    A clip weighs the sum over its labels of 1000 / (clips of that class + 0.01). `rows` are the
    clips meant, all without; `labels[rows]` is made in pieces.
    """
    rows = np.arange(len(labels)) if rows is None else rows
    size = max(CELLS // labels.shape[1], 1)
    pieces = [rows[start : start + size] for start in range(0, max(len(rows), 1), size)]
    counts = sum(np.asarray(labels[piece], dtype=np.float64).sum(axis=0) for piece in pieces)
    of_class = 1000.0 / (counts + 0.01)
    return np.concatenate([np.asarray(labels[p], dtype=np.float64) @ of_class for p in pieces])


def _order(subset: Subset, generator: np.random.Generator, sampling: str) -> Indices:
    """Return the clip of each position: a permutation, or by weight with replacement."""
    if sampling == "uniform":
        return generator.permutation(subset.clips).astype(np.int64)
    if sampling != "balanced":
        raise ConfigError(f"input: unknown sampling '{sampling}'{nearest(sampling, SAMPLINGS)}")
    if subset.weights is None:
        raise ConfigError("input: sampling 'balanced' needs the weight of each clip")
    reached = np.cumsum(subset.weights)
    if subset.clips and not reached[-1] > 0:
        raise DataError("sampling 'balanced' needs labels, and no training clip has one")
    places = generator.random(subset.clips) * reached[-1]
    found = np.searchsorted(reached, places, side="right")
    return np.minimum(found, subset.clips - 1).astype(np.int64)


def _look(place: tuple[int, int, int], prefix: str, epoch: int, n: int) -> Look:
    """Return the uniforms of one look at n positions, each purpose from its own stream."""

    def uniforms(name: str, *shape: int) -> Floats:
        return stream(*place, prefix + name, epoch).random(shape, np.float32)

    return Look(
        uniforms("fmask", n, 2),
        uniforms("tmask", n, 2),
        uniforms("noise", n, 2),
        uniforms("roll", n),
    )
