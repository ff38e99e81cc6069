"""`cmkd plan` against Snakemake's own plan: the same jobs by rule, whatever was changed."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from cmkd.plan import reruns, suites
from cmkd.plan.agreement import Agreement


def change_a_rate(clone: Any) -> None:
    clone.edit("models", "small_cnn", "recipe", "training", to={"lr": 0.5})


def lose_a_teacher(clone: Any) -> None:
    (clone.folder("small_ast", fold=2) / "weights.safetensors").unlink()


def lose_scores(clone: Any) -> None:
    (clone.folder("small_cnn@small_ast") / "metrics.json").unlink()


def lose_the_clips(clone: Any) -> None:
    shutil.rmtree(clone.root / "results" / "prepared")
    shutil.rmtree(clone.folder("small_cnn"))


def lose_the_tables(clone: Any) -> None:
    shutil.rmtree(clone.root / "results" / "tables")


def add_a_seed(clone: Any) -> None:
    clone.edit("suite", "seeds", to=[0, 1])


def leave_out_a_model(clone: Any) -> None:
    clone.edit("suite", "models", to=["small_cnn"])
    clone.edit("suite", "pairs", to=["alone", "self"])


def nothing(clone: Any) -> None:
    pass


CHANGES = (
    *(nothing, change_a_rate, lose_a_teacher, lose_scores, lose_the_clips, lose_the_tables),
    *(add_a_seed, leave_out_a_model),
)


def ours(clone: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.chdir(clone.root)
    agreement = Agreement(suites.load("config/suite.yaml"))
    return reruns.jobs(agreement, reruns.fates(agreement)).counts()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_after_a_change(
    finished: Any, count: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]
) -> None:
    change(finished)
    assert ours(finished, monkeypatch) == count(finished.plan())


def test_with_nothing_made(clean: Any, count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ours(clean, monkeypatch) == count(clean.plan())


@pytest.mark.slow
def test_halfway(clean: Any, count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that fails takes the runs below it with it; the next plan holds just those."""
    failed = clean.snakemake("--cores", "2", FAKE_FAIL="small_ast/fold-1")
    assert failed.returncode == 1
    assert ours(clean, monkeypatch) == count(clean.plan())
