"""One run's probe: everything that is asked of it, as one JSON value."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmkd import files
from cmkd.audio.fbank import samples_for
from cmkd.audio.views import Banks
from cmkd.data.clips import Clips
from cmkd.errors import DataError, RunError
from cmkd.models import weights
from cmkd.probing import FORMAT, freshness, outputs, perturb, similarity
from cmkd.scoring.metrics import all_metrics
from cmkd.scoring.predict import BATCH, predict

SHIFTS_MS = (0, 5, 10, 20, 50, 100, 200, 500)
SNRS_DB = (40, 30, 20, 10, 0)
LEVELS_DB = (-40, -20, -10, 10, 20)
CLIPS = 200
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """A trained run with what it was trained and is scored on.

    `folder` is its run folder, `indices` the test clips that are used, `teacher` its teacher's run
    folder where it has one, `statistics` the fold's file.
    """

    folder: Path
    recipe: dict[str, Any]
    model: nn.Module
    clips: Clips
    indices: NDArray[np.int64]
    statistics: Path
    teacher: Path | None
    device: torch.device

    @property
    def labels(self) -> str:
        """Return single or multi."""
        return str(self.recipe["dataset"]["labels"])

    @property
    def targets(self) -> NDArray[np.uint8]:
        """Return the labels of the clips used, [clips, classes]."""
        return np.asarray(self.clips.labels[self.indices])

    def batches(self, change: Callable[[int, Any], Any] | None = None) -> Iterator[Tensor]:
        """Yield filter banks of the clips used, each clip changed first if that is asked for."""
        rules = self.recipe["input"]
        longest = samples_for(rules["frames"], rules["sample_rate"], rules["shift_ms"])
        clips = self.clips if change is None else perturb.Perturbed(self.clips, change, longest)
        return Banks(clips, self.indices, rules, 0, self.device).batches(BATCH)

    def logits(self, change: Callable[[int, Any], Any] | None = None) -> Logits:
        """Return the model's logits for the clips used, each changed first if that is asked for."""
        return predict(self.model, self.batches(change), self.device)


def subject(
    folder: Path, prepared: Path, statistics: Path, teacher: Path | None, count: int, device: Any
) -> Subject:
    """Open a trained run and choose `count` of its test clips, evenly spaced.

    Raises RunError where it was trained on other clips, DataError where the fold has no test clip.
    """
    model, recipe = weights.load_run(folder)
    clips, inputs = Clips(prepared), files.read_json(folder / "inputs.json")
    if inputs["manifest"] != clips.manifest_sha256:
        raise RunError(f"{folder} was trained on other clips than {prepared} holds; train it again")
    test = clips.subset(int(inputs["fold"]), "test")
    if not len(test):
        raise DataError(f"fold {inputs['fold']} of {prepared} has no test clip: nothing to probe")
    chosen = test[np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(int)]
    model = model.to(device)
    return Subject(folder, recipe, model, clips, chosen, statistics, teacher, device)


def probe(of: Subject) -> dict[str, Any]:
    """Return all of a run's probe, as it is written to a JSON file."""
    plain = of.logits()
    moved = {ms: of.logits(perturb.shift(ms)) for ms in SHIFTS_MS}
    found = {
        "format": FORMAT,
        "run": of.recipe["run"],
        "dataset": of.recipe["dataset"]["name"],
        "labels": of.labels,
        "metric": of.recipe["dataset"]["metric"],
        "clips": len(of.indices),
        "weights": files.sha256_file(of.folder / "weights.safetensors"),
        "value": _value(of, plain),
        "shifts": [_shifted(of, plain, ms, logits) for ms, logits in moved.items()],
        "by_clip": _by_clip(of, plain, [logits for ms, logits in moved.items() if ms]),
        "noise": [
            {"snr_db": snr, "value": _value(of, of.logits(perturb.noise(snr)))} for snr in SNRS_DB
        ],
        "level": [
            {"gain_db": gain, "value": _value(of, of.logits(perturb.level(gain)))}
            for gain in LEVELS_DB
        ],
        "calibration": outputs.calibration(plain, of.targets, of.labels),
        "classes": list(of.clips.classes),
        "by_class": outputs.by_class(plain, of.targets, of.labels),
        "freshness": _freshness(of),
    }
    return found | (_against(of, plain, of.teacher) if of.teacher else {})


def _value(of: Subject, logits: Logits) -> float | None:
    """Return the dataset's metric."""
    return all_metrics(logits, of.targets, of.labels)[str(of.recipe["dataset"]["metric"])]


def _by_clip(of: Subject, plain: Logits, moved: Sequence[Logits]) -> dict[str, Any]:
    """Return each clip's stability: the mean correlation of its logits with the shifted ones'."""
    stable = np.mean([outputs.stability(plain, logits) for logits in moved], axis=0)
    return {
        "ids": of.clips.ids[of.indices].tolist(),
        "sources": of.clips.sources[of.indices].tolist(),
        "stability": stable.tolist(),
    }


def _shifted(of: Subject, plain: Logits, ms: float, moved: Logits) -> dict[str, Any]:
    """Return how the scores change when the clips are rolled by some milliseconds."""
    return {
        "ms": ms,
        "value": _value(of, moved),
        **outputs.change(plain, moved, of.labels),
        "stability": float(outputs.stability(plain, moved).mean()),
    }


def _freshness(of: Subject) -> dict[str, float]:
    """Return the run's loss on views it was trained on and on fresh ones."""
    inputs = files.read_json(of.folder / "inputs.json")
    place = (int(inputs["seed"]), int(inputs["fold"]))
    trained = of.clips.subset(place[1], "train")
    std = float(files.read_json(of.statistics)["std"])
    return freshness.freshness(of.model, of.clips, trained, of.recipe, place, std)


def _against(of: Subject, plain: Logits, teacher: Path) -> dict[str, Any]:
    """Return how the run agrees with its teacher: decisions, errors and layers."""
    model, recipe = weights.load_run(teacher)
    model = model.to(of.device)
    theirs = predict(model, of.batches(), of.device)
    layers = [similarity.features(one, of.batches()) for one in (of.model, model)]
    table = similarity.compare(layers[0], layers[1])
    return {
        "teacher": recipe["run"],
        "overlap": outputs.overlap(plain, theirs, of.targets, of.labels),
        "cka": table | {"by_depth": similarity.by_depth(table["values"])},
    }
