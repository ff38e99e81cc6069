"""Readouts made of the scores of epochs: `checkpoints` (their mean) and `peek` (the best of them).

checkpoints: the mean of the probabilities of the epochs in the range `average`, published as the
single-model checkpoint ensemble (psla). peek: the epoch with the best test score, first one on
ties: the published habit for ESC-50 and too good by construction, so it is marked wherever it is
shown, is never ranked and never a teacher. Neither has weights that could be a file of the run.

One pass over the epochs gives both. Their scores files say which training they are of; they are
kept where the epochs' weights are gone, which go once metrics.json is there.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cmkd import files
from cmkd.errors import RunError
from cmkd.scoring import epochs
from cmkd.scoring.combine import MeanProbabilities
from cmkd.scoring.epochs import EpochWeights
from cmkd.scoring.scores import read_npz, write_npz
from cmkd.scoring.splits import Logits, Recipe, Split

VALUES = "scores-epochs.npz"


def score(run: Path, recipe: Recipe, digest: str, split: Split, model: nn.Module) -> dict[str, Any]:
    """Write scores-READOUT.npz of the readouts by epoch, and return each one's numbers.

    Where `peek` is wanted, scores-epochs.npz holds the metric of every epoch. `model` is a model of
    the run's make, whose weights are replaced.

    Raises:
        RunError: the weights of the epochs are gone, and so is a scores file made of them.
    """
    training = recipe["training"]
    names = epochs.readouts(training)
    if not names:
        return {}
    identity = {"recipe": digest, **files.read_json(run / "inputs.json")}
    kept = EpochWeights(run, identity, training)
    made_from = _made_from(run, kept)
    if not kept.complete():
        return {name: _kept(run, name, split, made_from) for name in names}
    found = _one_pass(kept, model, split, training, names)
    numbers = {}
    for name, (logits, of) in found.chosen.items():
        further = {"epochs": np.array(of, dtype=np.int64), "made_from": np.array(made_from)}
        split.write(run / f"scores-{name}.npz", logits, further)
        numbers[name] = _numbers(split, logits, of)
    if "peek" in names:
        table = {"epochs": np.array(kept.epochs), "values": np.array(found.values)}
        write_npz(run / VALUES, table | {"made_from": np.array(made_from)})
    return numbers


class _Pass:
    """What one pass over the epochs gives: values in their order; logits and epochs by readout."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.values: list[float] = []
        self.chosen: dict[str, tuple[Logits, list[int]]] = {}


def _one_pass(
    kept: EpochWeights, model: nn.Module, split: Split, training: Recipe, names: tuple[str, ...]
) -> _Pass:
    """Score every epoch once, in order; keep no more than the mean and the best."""
    kind, found = split.recipe["dataset"], _Pass()
    mean = MeanProbabilities(kind["labels"])
    range_ = epochs.averaged(training) if "checkpoints" in names else range(0)
    for epoch, at_epoch in kept.models(model):
        logits = split.logits(at_epoch)
        if epoch in range_:
            mean.add(logits)
        if "peek" in names:
            value = float(split.values(logits)[kind["metric"]] or 0.0)
            if not found.values or value > max(found.values):
                found.chosen["peek"] = logits, [epoch]
            found.values.append(value)
    if "checkpoints" in names:
        found.chosen["checkpoints"] = mean.logits(), list(range_)
    return found


def _numbers(split: Split, logits: Logits, of: list[int]) -> dict[str, Any]:
    """Return a readout's numbers; there is no file of its weights, only the epochs behind it."""
    return {**split.numbers(logits), "weights": None, "epochs": of}


def _made_from(run: Path, kept: EpochWeights) -> str:
    """Return what names a training with its bits: its identity and its headline weights."""
    return files.sha256_text(f"{kept.training} {files.sha256_file(run / 'weights.safetensors')}")


def _kept(run: Path, name: str, split: Split, made_from: str) -> dict[str, Any]:
    """Return the numbers of the scores that an earlier evaluation made of this very training."""
    path = run / f"scores-{name}.npz"
    found = read_npz(path)
    if found is None or str(found.get("made_from")) != made_from:
        raise RunError(
            f"{run} no longer has the weights of its epochs, which readout {name} is made of, and "
            f"{path.name} is not there or of another training; remove {run / 'weights.safetensors'}"
            " and train this run again"
        )
    return _numbers(split, found["logits"], [int(epoch) for epoch in found["epochs"]])
