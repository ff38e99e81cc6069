"""How far a training is, in RUN/state/progress.json, for those who look on (docs/interfaces.md)."""

import time
from collections import deque
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.learning.fit import State

NAME = "progress.json"
EVERY = 10.0  # seconds between two files, but for one at each epoch's end
RECENT = 50  # steps whose speed is told


class Pace:
    """Writes the file as the training goes; called after every step and every epoch."""

    def __init__(self, run: Path, recipe: str, epochs: int) -> None:
        """Name the run's folder, its recipe's digest and its number of epochs."""
        self.path = Path(run) / "state" / NAME
        self.recipe, self.epochs = recipe, epochs
        self.began: tuple[float, int] | None = None  # time and step of the first call
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT)  # clips and seconds
        self.before = (0.0, 0.0)
        self.written = -EVERY

    def __call__(self, state: State, steps: int) -> None:
        """Note a step, or an epoch's end; `steps` are those of an epoch."""
        now = time.monotonic()
        self.began = self.began or (now, state.step)
        clips, seconds = state.sums["clips"], state.sums["seconds"]
        if clips > self.before[0]:
            self.recent.append((clips - self.before[0], seconds - self.before[1]))
        self.before = (clips, seconds)
        if now - self.written >= EVERY or not clips:
            self.written = now
            files.write_json(self.path, self.record(state, steps, now))

    def record(self, state: State, steps: int, now: float) -> dict[str, Any]:
        """Return the content of the file."""
        clips, seconds = (sum(pair[of] for pair in self.recent) for of in (0, 1))
        return {
            "format": 1,
            "stage": "train",
            "recipe": self.recipe,
            "epoch": min(state.epoch + 1, self.epochs),
            "epochs": self.epochs,
            "step": state.step,
            "steps": steps * self.epochs,
            "loss": state.rows[-1]["loss"] if state.rows else None,
            "clips_per_second": clips / seconds if seconds else 0.0,
            "seconds_left": self.left(state, steps, now),
            "time": time.time(),
        }

    def left(self, state: State, steps: int, now: float) -> float | None:
        """Return the seconds to the last step, None before two of them were seen.

        They go on as they went since this attempt began, validation and saving included.
        """
        began, first = self.began or (now, state.step)
        if state.step <= first:
            return None
        return (now - began) / (state.step - first) * (steps * self.epochs - state.step)
