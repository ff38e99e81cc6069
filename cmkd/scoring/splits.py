"""One split of a fold, to be scored by any number of models: its logits, its numbers, its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from cmkd.audio.views import Banks
from cmkd.data.clips import Clips
from cmkd.errors import DataError
from cmkd.scoring import metrics
from cmkd.scoring.predict import BATCH, predict
from cmkd.scoring.scores import ids_hash, write_scores

Logits = npt.NDArray[np.float32]
Recipe = Mapping[str, Any]


class Split:
    """The test or validation clips of a fold; their filter banks are made once, if they fit."""

    def __init__(
        self,
        clips: Clips,
        fold: int,
        role: str,
        recipe: Recipe,
        cache_bytes: int = 0,
    ) -> None:
        """Take prepared clips, the fold, `test` or `val`, a run's recipe, memory for the banks."""
        self.clips, self.fold, self.recipe = clips, fold, recipe
        self.indices = clips.subset(fold, role)
        self.targets = clips.labels[self.indices]
        self.scored = 0  # clips, over all models
        self._room = cache_bytes
        self._banks: Banks | None = None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.indices)

    def logits(self, model: nn.Module) -> Logits:
        """Return a model's logits [clips, classes]; DataError where one is not finite."""
        device = next(model.parameters()).device
        if self._banks is None:
            self._banks = Banks(self.clips, self.indices, self.recipe["input"], self._room, device)
        found = predict(model, self._banks.batches(BATCH), device)
        self.scored += len(self)
        if not np.isfinite(found).all():
            bad = self.clips.ids[self.indices][~np.isfinite(found).all(axis=1)][0]
            raise DataError(f"clip {bad} has scores that are not finite; look at its samples")
        return found

    def values(self, logits: Logits) -> dict[str, float | None]:
        """Return every metric; DataError where the dataset's own is undefined."""
        kind = self.recipe["dataset"]
        found = metrics.all_metrics(logits, self.targets, kind["labels"])
        if found[kind["metric"]] is None:
            raise DataError(
                f"fold {self.fold} of {self.clips.folder} has no test clip with a label, so that "
                f"its {kind['metric']} is undefined; look at the labels in manifest.csv"
            )
        return found

    def numbers(self, logits: Logits) -> dict[str, Any]:
        """Return the metrics, and which clips and how many classes they are about."""
        values = self.values(logits)
        return {
            "value": values[self.recipe["dataset"]["metric"]],
            "metrics": values,
            "n": len(self),
            "classes_scored": metrics.classes_scored(self.targets),
            "ids_hash": ids_hash(self.clips.ids[self.indices]),
        }

    def write(
        self, path: Path, logits: Logits, further: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> None:
        """Write the scores file; `further` arrays stand beside the usual ones."""
        clips, rows = self.clips, self.indices
        write_scores(
            path,
            clips.ids[rows],
            clips.classes,
            logits,
            self.targets,
            clips.sources[rows],
            further,
        )
