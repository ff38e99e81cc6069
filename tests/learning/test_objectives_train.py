"""Whole trainings with objectives beyond the paper, cut and gone on with: the same bytes."""

import csv
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cmkd.errors import ConfigError, Stopped
from cmkd.learning import fit
from cmkd.models.weights import load_run
from cmkd.scoring.evaluate import evaluate

EPOCHS = {"training.epochs": 2}


def cut(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Send SIGTERM after that step."""
    step = fit._step

    def stopped(task: Any, state: Any, *rest: Any) -> None:
        step(task, state, *rest)
        if state.step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit, "_step", stopped)


def whole_and_cut(trained: Any, recipe: Path, at: int, **given: Any) -> Path:
    """Train once whole and once cut after a step; return the folder after comparing the bytes."""
    whole = trained(recipe, "whole", **given)
    with pytest.MonkeyPatch.context() as patch:
        cut(patch, at)
        with pytest.raises(Stopped, match=f"after step {at}"):
            trained(recipe, "cut", **given)
    again = trained(recipe, "cut", **given)
    name = "weights.safetensors"
    assert (again / name).read_bytes() == (whole / name).read_bytes()
    return again


def soft_losses(run: Path) -> list[float]:
    rows = csv.DictReader((run / "history.csv").read_text().splitlines())
    return [float(row["loss_soft"]) for row in rows]


def test_dkd_single_label(trained, wanted, taught) -> None:
    teacher = trained(wanted("teacher", **EPOCHS), "teacher")
    objective = {"objective": taught(teacher)["objective"] | {"name": "dkd", "tau": 4.0}}
    recipe = wanted("student", **taught(teacher) | objective | EPOCHS)
    run = whole_and_cut(trained, recipe, 3, teacher=teacher)
    assert len(soft_losses(run)) == 2 and all(value > 0 for value in soft_losses(run))


@pytest.mark.parametrize("name", ["token_soft", "token_hard"])
def test_attention_distillation_multi_label(
    trained, wanted, taught, multi, data: SimpleNamespace, name: str
) -> None:
    teacher = trained(wanted("teacher", **multi, **EPOCHS), "teacher", prepared=data.multi)
    changes = taught(teacher) | multi | EPOCHS
    changes["objective"] = changes["objective"] | {"name": name}
    changes["model"] = changes["model"] | {"token": "two_heads"}
    recipe = wanted("student", **changes)
    run = whole_and_cut(trained, recipe, 7, teacher=teacher, prepared=data.multi)
    assert all(value > 0 for value in soft_losses(run))
    evaluate(run, data.multi, {"device": "cpu"})
    model, _ = load_run(run)
    assert not model.training and {"label", "distilled"} == {
        n for n, _ in model.model.head.named_children()
    }


def test_a_student_of_a_two_headed_teacher_sees_one_set_of_logits(
    trained, wanted, taught, data: SimpleNamespace
) -> None:
    small = trained(wanted("small", **EPOCHS), "small")
    changes = taught(small) | EPOCHS
    changes["objective"] = changes["objective"] | {"name": "token_hard"}
    changes["model"] = changes["model"] | {"token": "two_heads"}
    teacher = trained(wanted("teacher", **changes), "teacher", teacher=small)
    run = trained(wanted("student", **taught(teacher) | EPOCHS), "student", teacher=teacher)
    assert len(soft_losses(run)) == 2


def test_an_objective_that_is_not_there_is_named(trained, wanted, taught) -> None:
    teacher = trained(wanted("teacher", **EPOCHS), "teacher")
    objective = {"objective": taught(teacher)["objective"] | {"name": "dkdd"}}
    with pytest.raises(ConfigError, match="'dkdd' is not known, did you mean 'dkd'"):
        trained(wanted("student", **taught(teacher) | objective), teacher=teacher)
