"""A contract that finds every objective and soft form by itself, and the paper's own objective."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmkd.errors import ConfigError, RunError
from cmkd.learning import losses, objectives
from cmkd.models.heads import Pair
from cmkd.plan.objectives import UNTAUGHT, known

LABELS = ("single", "multi")
# Cross-entropies hold the teacher's entropy; a hard decision is not the teacher's probability.
NEVER_ZERO = {"bce", "token_hard"}
alone, distill = objectives.find("alone"), objectives.find("distill")


def options(**changes: Any) -> dict[str, Any]:
    common = {"lambda": 0.5, "tau": 1.0, "smoothing": 0.1, "labels": "single"}
    return common | {"soft": "kl"} | changes


def some(seed: int, rows: int = 6) -> Tensor:
    return 3 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


TARGETS = torch.eye(4)[[0, 1, 2, 3, 0, 1]]


def every() -> Iterator[Any]:
    """Yield (objective, options) for each objective, choice and kind of labels that it has."""
    for name, one in known().items():
        for labels in (labels for labels in LABELS if labels not in one.refuses):
            chosen = options(labels=labels) | one.defaults
            choices = {k: v for k, v in one.options.items() if isinstance(v, tuple)}
            for key, value in [(k, v) for k, vs in choices.items() for v in vs] or [("", "")]:
                changed = chosen | ({key: value} if key else {})
                yield pytest.param(name, changed, id=f"{name}-{value or 'own'}-{labels}")


CASES = list(every())
TAUGHT = [case for case in CASES if case.values[0] != UNTAUGHT]


def student(name: str, logits: Tensor) -> Any:
    """Return logits as the objective gets them: a pair where it needs a model with two heads."""
    return Pair(logits, logits.clone()) if known()[name].needs.get("token") else logits


def parts(name: str, chosen: dict[str, Any], own: Tensor, teacher: Tensor | None, rows: int = 6):
    return objectives.find(name)(student(name, own), teacher, TARGETS[:rows], chosen)


@pytest.mark.parametrize("name, chosen", CASES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("rows", [6, 1])
def test_losses_and_gradients_are_finite(name, chosen, scale: float, rows: int) -> None:
    own, teacher = (scale * some(0, rows)).requires_grad_(), -scale * some(1, rows)
    found = parts(name, chosen, own, teacher, rows)
    (gradient,) = torch.autograd.grad(found.total, own)
    assert all(torch.isfinite(loss) and loss.ndim == 0 for loss in found if loss is not None)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name, chosen", TAUGHT)
def test_the_gradient_flows_to_the_student_only(name, chosen) -> None:
    own, teacher = some(0).requires_grad_(), some(1).requires_grad_()
    before = teacher.detach().clone()
    found = parts(name, chosen, own, teacher)
    found.soft.backward()
    assert own.grad.abs().sum() > 0
    assert teacher.grad is None or not teacher.grad.any()
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("name, chosen", TAUGHT)
@pytest.mark.parametrize("rows", [6, 1])
def test_equal_logits_have_no_soft_loss_at_tau_1(name, chosen, rows: int) -> None:
    found = parts(name, chosen, some(0, rows), some(0, rows), rows)
    if {name, chosen["soft"]} & NEVER_ZERO:
        assert found.soft > 0
    else:
        assert found.soft.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name, chosen", TAUGHT)
def test_lambda_mixes_the_parts_and_is_training_alone_at_1(name, chosen) -> None:
    found = parts(name, chosen | {"lambda": 0.25}, some(0), some(1))
    torch.testing.assert_close(found.total, 0.25 * found.hard + 0.75 * found.soft)
    hard = losses.HARD[chosen["labels"]](some(0), losses.smoothed(TARGETS, 0.1))
    assert found.hard.item() == hard.item()
    assert parts(name, chosen | {"lambda": 1.0}, some(0), some(1)).total.item() == hard.item()
    assert parts(name, chosen | {"lambda": 0.0}, some(0), some(1)).total.item() == found.soft.item()


@pytest.mark.parametrize("name, chosen", TAUGHT)
def test_every_key_matters_but_those_it_ignores(name, chosen) -> None:
    plain = parts(name, chosen, some(0), some(1)).total
    for key in ("lambda", "tau", "smoothing"):
        changed = parts(name, chosen | {key: 0.7 * chosen[key]}, some(0), some(1)).total
        assert (changed == plain) == (key in known()[name].ignores), key
    for key, default in known()[name].defaults.items():
        if isinstance(default, float):
            changed = parts(name, chosen | {key: 2 * default}, some(0), some(1)).total
            assert changed != plain, key


@pytest.mark.parametrize("name, chosen", TAUGHT)
def test_missing_soft_targets_are_an_error(name, chosen) -> None:
    with pytest.raises(RunError, match="soft targets are missing"):
        parts(name, chosen, some(0), None)


def test_configuration_and_code_know_the_same_forms() -> None:
    assert known()["distill"].options["soft"] == tuple(losses.SOFT)
    assert {len(forms) for forms in losses.SOFT.values()} == {len(LABELS)}


def test_unknown_names_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'distill'"):
        objectives.find("distil")
    with pytest.raises(ConfigError, match=r"objective.soft 'kll' is not known, did you mean 'kl'"):
        distill(some(0), some(1), TARGETS, options(soft="kll"))


# ------------------------------------------------------------------------------ the paper's own


def test_temperature_divides_the_teacher_only_and_nothing_is_rescaled() -> None:
    found = distill(some(0), some(1), TARGETS, options(tau=4.0))
    expected = F.kl_div(
        F.log_softmax(some(0), -1), F.softmax(some(1) / 4, -1), reduction="batchmean"
    )  # fmt: skip
    torch.testing.assert_close(found.soft, expected)


@pytest.mark.parametrize("labels", LABELS)
def test_smoothing_leaves_the_soft_part_alone(labels: str) -> None:
    plain = distill(some(0), some(1), TARGETS, options(labels=labels, smoothing=0.0))
    smooth = distill(some(0), some(1), TARGETS, options(labels=labels, smoothing=0.3))
    assert smooth.soft.item() == plain.soft.item()
    assert smooth.hard.item() != plain.hard.item()


@pytest.mark.parametrize("labels", LABELS)
def test_lambda_one_is_training_alone_to_the_bit(labels: str) -> None:
    chosen = options(labels=labels) | {"lambda": 1.0}
    gradients = []
    for objective, teacher in ((alone, None), (distill, some(1))):
        own = some(0).requires_grad_()
        found = objective(own, teacher, TARGETS, chosen)
        gradients.append((found.total.item(), *torch.autograd.grad(found.total, own)))
    assert gradients[0][0] == gradients[1][0]
    assert torch.equal(gradients[0][1], gradients[1][1])


@pytest.mark.parametrize("labels", LABELS)
def test_soft_forms_are_torchs_own(labels: str) -> None:
    own, teacher = some(0), some(1) / 2.0
    softmaxes = F.log_softmax(own, -1), F.softmax(teacher, -1)
    expected = {
        "softmax_kl": F.kl_div(*softmaxes, reduction="batchmean"),  # DASS, whatever the labels
        "softmax_kl_mean": F.kl_div(*softmaxes, reduction="none").mean(),
        "bce": F.cross_entropy(own, softmaxes[1])
        if labels == "single"
        else F.binary_cross_entropy(torch.sigmoid(own), torch.sigmoid(teacher)),
    }
    for form, value in expected.items():
        found = distill(own, some(1), TARGETS, options(labels=labels, soft=form, tau=2.0))
        torch.testing.assert_close(found.soft, value)


@pytest.mark.parametrize("labels", LABELS)
def test_bce_has_the_gradient_of_kl(labels: str) -> None:
    gradients = []
    for form in ("kl", "bce"):
        own = some(0).requires_grad_()
        found = distill(own, some(1), TARGETS, options(labels=labels, soft=form, tau=2.0))
        gradients += torch.autograd.grad(found.soft, own)
    torch.testing.assert_close(*gradients)


def test_gradients_keep_their_last_bits() -> None:
    """Sums of gradients follow the order of the terms: hard first, as finished runs were made."""
    options = {"labels": "multi", "lambda": 0.5, "tau": 1.0, "smoothing": 0.1, "soft": "kl"}
    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(32, 24, generator=random) for _ in range(2))
    targets = (torch.rand(32, 24, generator=random) < 0.2).float()
    mine, theirs = (student.clone().requires_grad_() for _ in range(2))
    objectives.find("distill")(mine, teacher, targets, options).total.backward()
    hard = losses.hard_multi(theirs, losses.smoothed(targets, 0.1))
    soft = losses.soft_multi(theirs, teacher / 1.0)
    (0.5 * hard + (1 - 0.5) * soft).backward()
    assert torch.equal(mine.grad, theirs.grad)
