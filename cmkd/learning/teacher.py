"""The teacher: a finished run, frozen, in eval mode, unchanged to the last bit."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmkd import files
from cmkd.errors import ConfigError, RunError
from cmkd.models import weights

FRONTEND = ("sample_rate", "mel_bins", "shift_ms", "frames")
DIGEST_LENGTH = 16


class Teacher:
    """A live teacher: logits of views [batch, frames, mel] without any gradient."""

    def __init__(self, model: nn.Module, name: str, device: torch.device) -> None:
        """Freeze the model on its device and remember its weights' hash."""
        self.model = model.to(device).eval().requires_grad_(False)
        self.name = name
        self.hash = fingerprint(self.model)

    @torch.no_grad()
    def logits(self, view: Tensor) -> Tensor:
        """Return float32 logits [batch, classes]."""
        found: Tensor = self.model(view)
        return found

    def check_unchanged(self) -> None:
        """Raise RunError if a weight or a buffer is no longer what it was."""
        if fingerprint(self.model) != self.hash:
            raise RunError(
                f"the teacher {self.name} was changed by its student's training; "
                "the student's weights must not be used, please report this as a bug"
            )


def fingerprint(model: nn.Module) -> str:
    """Return the sha256 of all weights and buffers, names included."""
    total = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        total.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def load(folder: Path | None, wanted: Mapping[str, Any], device: torch.device) -> Teacher | None:
    """Return the teacher that the student's recipe asks for, None where it asks for none.

    Raises:
        RunError: no folder given, or the run in it was made from another recipe.
        ConfigError: the teacher hears another front end than its student.
    """
    asked = wanted.get("teacher")
    if asked is None:
        if folder is not None:
            raise RunError(f"{wanted['run']} has no teacher, but {folder} was given as one")
        return None
    if folder is None:
        raise RunError(f"{wanted['run']} is taught by {asked['run']}: give its folder (--teacher)")
    _check_digest(Path(folder), asked, str(wanted["run"]))
    model, recipe = weights.load_run(Path(folder))
    check_frontend(wanted, recipe)
    return Teacher(model, str(asked["run"]), device)


def _check_digest(folder: Path, asked: Mapping[str, Any], student: str) -> None:
    """Raise RunError unless the folder's record has the digest that the student's recipe names."""
    record = folder / "recipe.yaml"
    if not record.exists():
        raise RunError(
            f"{folder} has no recipe.yaml: train the teacher {asked['run']} there before {student}"
        )
    found = files.sha256_file(record)[:DIGEST_LENGTH]
    if found != asked["recipe"]:
        raise RunError(
            f"{student} wants its teacher {asked['run']} of recipe {asked['recipe']}, but {folder} "
            f"holds recipe {found}; train the teacher again"
        )


def check_frontend(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming both runs, unless rate, mel bins, shift and frames are equal."""
    for key in FRONTEND:
        own, other = student["input"][key], teacher["input"][key]
        if own != other:
            raise ConfigError(
                f"input.{key} is {own} for {student['run']} and {other} for its teacher "
                f"{teacher['run']}; a teacher must hear what its student hears"
            )
