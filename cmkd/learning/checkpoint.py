"""Two rotating, checksummed checkpoints: a kill at any moment costs at most one interval.

A slot is `checkpoint-K.safetensors` and, written after it, `checkpoint-K.json` with the tensors'
sha256 and its own. A slot that does not check out is passed over and the other one is taken.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from cmkd import files

SLOTS = (0, 1)


class Checkpoints:
    """The checkpoints of one run: `identity` says what they belong to (recipe and inputs)."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        seconds: float = 60.0,
        steps: int | None = None,
    ) -> None:
        """Keep them in `folder`; due every `seconds`, and every `steps` steps where given."""
        self.folder = Path(folder)
        self.identity = dict(identity)
        self.seconds, self.steps = seconds, steps
        self.number = 0
        self.saved_at = time.monotonic()

    def due(self, step: int) -> bool:
        """Say whether the state should be saved now."""
        late = time.monotonic() - self.saved_at >= self.seconds
        return late or (self.steps is not None and step % self.steps == 0)

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Write a checkpoint over the older of the two."""
        self.number += 1
        data, record = self._paths(self.number % 2)
        # The record goes first: until the new one is there, this slot does not count.
        record.unlink(missing_ok=True)
        with files.replacing(data) as temporary:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                      temporary)  # fmt: skip
        body = {
            "format": 1,
            "identity": self.identity,
            "number": self.number,
            "tensors": files.sha256_file(data),
            "progress": dict(progress),
        }
        files.write_json(record, {"checksum": _checksum(body), **body})
        self.saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and progress of the newest sound checkpoint, or None.

        Checkpoints of another recipe or other inputs are set aside, never used.
        """
        records = [body for slot in SLOTS if (body := self._record(slot))]
        if any(body["identity"] != self.identity for body in records):
            self._set_aside()
            return None
        for body in sorted(records, key=lambda body: -body["number"]):
            data, _ = self._paths(body["number"] % 2)
            if files.sha256_file(data) == body["tensors"]:
                self.number = body["number"]
                return load_file(data), body["progress"]
        return None

    def _paths(self, slot: int) -> tuple[Path, Path]:
        """Return the two files of a slot."""
        name = f"checkpoint-{slot}"
        return self.folder / f"{name}.safetensors", self.folder / f"{name}.json"

    def _record(self, slot: int) -> dict[str, Any] | None:
        """Return a slot's record if it is whole and its tensors are there."""
        data, record = self._paths(slot)
        if not (data.exists() and record.exists()):
            return None
        with contextlib.suppress(ValueError, TypeError, KeyError):
            body: dict[str, Any] = files.read_json(record)
            if body.pop("checksum") == _checksum(body) and body["number"] % 2 == slot:
                return body
        return None

    def _set_aside(self) -> None:
        """Move everything in the folder into `aside/`, in place of what was there before."""
        aside = self.folder / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for slot in SLOTS:
            for path in self._paths(slot):
                if path.exists():
                    path.rename(aside / path.name)


def _checksum(body: Mapping[str, Any]) -> str:
    """Return the sha256 of a record's canonical JSON."""
    return files.sha256_text(json.dumps(body, sort_keys=True))
