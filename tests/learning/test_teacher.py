"""The teacher: frozen, of the right recipe, with its student's front end."""

from pathlib import Path

import pytest
import torch
from torch import nn

from cmkd.errors import ConfigError, RunError
from cmkd.learning import teacher
from cmkd.learning.teacher import Teacher

CPU = torch.device("cpu")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_logits_have_no_gradient_and_no_randomness() -> None:
    found, view = Teacher(net(), "t", CPU), torch.randn(5, 2, 3)
    assert torch.equal(found.logits(view), found.logits(view))
    assert not found.logits(view).requires_grad
    assert not found.model.training
    found.check_unchanged()


@pytest.mark.parametrize("what", ["weight", "running_mean"])
def test_a_changed_teacher_is_noticed(what: str) -> None:
    found = Teacher(net(), "small", CPU)
    with torch.no_grad():
        getattr(found.model[2], what)[0] += 1e-6
    with pytest.raises(RunError, match="teacher small was changed"):
        found.check_unchanged()


def test_no_teacher_wanted() -> None:
    assert teacher.load(None, {"run": "a"}, CPU) is None
    with pytest.raises(RunError, match="a has no teacher, but x was given"):
        teacher.load(Path("x"), {"run": "a"}, CPU)


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    asked = {"run": "a@b", "teacher": {"run": "b", "recipe": "1" * 16}}
    with pytest.raises(RunError, match="a@b is taught by b: give its folder"):
        teacher.load(None, asked, CPU)
    with pytest.raises(RunError, match="train the teacher b there before a@b"):
        teacher.load(tmp_path, asked, CPU)


def test_another_recipe_names_both_digests(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{}\n")
    asked = {"run": "a@b", "teacher": {"run": "b", "recipe": "1" * 16}}
    with pytest.raises(RunError, match=f"recipe {'1' * 16}, but .* holds recipe ca3d163bab055381"):
        teacher.load(tmp_path, asked, CPU)


@pytest.mark.parametrize("key", ["sample_rate", "mel_bins", "shift_ms", "frames"])
def test_another_front_end_names_both(key: str) -> None:
    own = {"sample_rate": 16000, "mel_bins": 64, "shift_ms": 10.0, "frames": 100}
    student, other = {"run": "a@b", "input": own}, {"run": "b", "input": {**own, key: 1}}
    teacher.check_frontend(student, {"run": "b", "input": dict(own)})
    with pytest.raises(ConfigError, match=f"input.{key} is {own[key]} for a@b and 1 for .* b"):
        teacher.check_frontend(student, other)
