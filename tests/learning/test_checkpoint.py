"""Checkpoints: rotation, checksums, and those that belong to something else."""

import json
from pathlib import Path

import pytest
import torch

from cmkd.learning.checkpoint import Checkpoints

MINE = {"recipe": "a" * 16, "seed": 0}


def saved(folder: Path, *numbers: float, identity: dict = MINE) -> Checkpoints:
    kept = Checkpoints(folder, identity)
    for number in numbers:
        kept.save({"x": torch.full((3,), number)}, {"step": number})
    return kept


def loaded(folder: Path, identity: dict = MINE) -> float | None:
    found = Checkpoints(folder, identity).load()
    if found is None:
        return None
    tensors, progress = found
    assert torch.equal(tensors["x"], torch.full((3,), progress["step"]))
    return progress["step"]


def test_the_newest_is_loaded_and_only_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1.0, 2.0, 3.0)
    assert loaded(tmp_path) == 3.0
    assert len(list(tmp_path.iterdir())) == 4


def test_nothing_there(tmp_path: Path) -> None:
    assert loaded(tmp_path / "state") is None


@pytest.mark.parametrize("end", ["safetensors", "json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_damaged_newest_falls_back_to_the_older(tmp_path: Path, end: str, harm: str) -> None:
    saved(tmp_path, 1.0, 2.0)
    path = tmp_path / f"checkpoint-0.{end}"
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert loaded(tmp_path) == 1.0


def test_a_changed_number_in_the_record_does_not_count(tmp_path: Path) -> None:
    saved(tmp_path, 1.0)
    path = tmp_path / "checkpoint-1.json"
    record = json.loads(path.read_text())
    record["progress"]["step"] = 7.0
    path.write_text(json.dumps(record))
    assert loaded(tmp_path) is None


def test_numbering_goes_on_after_loading(tmp_path: Path) -> None:
    saved(tmp_path, 1.0, 2.0)
    kept = Checkpoints(tmp_path, MINE)
    kept.load()
    kept.save({"x": torch.full((3,), 5.0)}, {"step": 5.0})
    assert loaded(tmp_path) == 5.0


def test_another_recipe_is_set_aside(tmp_path: Path) -> None:
    saved(tmp_path, 1.0, 2.0, identity={"recipe": "b" * 16, "seed": 0})
    assert loaded(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aside"]
    assert len(list((tmp_path / "aside").iterdir())) == 4


def test_numbers_come_back_to_the_bit(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    kept = Checkpoints(tmp_path, MINE)
    kept.save({"x": torch.tensor([1e-30, -0.0])}, {"sum": value})
    tensors, progress = Checkpoints(tmp_path, MINE).load()
    assert progress["sum"] == value
    assert torch.equal(
        tensors["x"].view(torch.int32), torch.tensor([1e-30, -0.0]).view(torch.int32)
    )


def test_when_it_is_due(tmp_path: Path) -> None:
    assert not Checkpoints(tmp_path, MINE, seconds=1000).due(3)
    assert Checkpoints(tmp_path, MINE, seconds=0).due(3)
    by_steps = Checkpoints(tmp_path, MINE, seconds=1000, steps=4)
    assert [by_steps.due(step) for step in (3, 4, 8)] == [False, True, True]
