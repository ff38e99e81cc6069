"""What would run and why, told from hand-made run folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd.plan import reruns
from cmkd.plan.agreement import Agreement
from cmkd.plan.suites import Job, Suite

Finish = Callable[..., Path]
RUNS = ("a", "b", "a@b", "b@a")


def why(suite: Suite, fold: int = 1) -> dict[str, str]:
    found = reruns.fates(Agreement(suite))
    return {job.run: fate.why for job, fate in found.items() if job.fold == fold}


@pytest.fixture
def done(bench: Any, finished: Finish) -> Any:
    suite = bench.load()
    for job in suite.jobs():
        finished(suite, job)
    return bench


def test_nothing_done_is_all_new(loaded: Any) -> None:
    suite = loaded()
    assert set(why(suite).values()) == {"new"}
    agreement = Agreement(suite)
    jobs = reruns.jobs(agreement, reruns.fates(agreement)).counts()
    assert jobs == {
        **{"prepare": 1, "stats": 3, "train": 6, "distill": 6, "evaluate": 12},
        **{"tables": 1, "track": 1},
    }
    assert not Path(".cmkd").exists()  # a plan writes nothing


def test_everything_done_is_up_to_date(done: Any) -> None:
    assert set(why(done.load()).values()) == {"done and up to date"}


def test_a_changed_rate_is_told_with_both_values_and_reaches_the_students(done: Any) -> None:
    done.recipes["datasets_families"]["birds"]["ast"]["training"]["lr"] = 0.002
    assert why(done.load()) == {
        "a": "done and up to date",
        "b": "its recipe has changed: training.lr 0.02 → 0.002",
        "a@b": "its teacher b runs again",
        "b@a": "its recipe has changed: training.lr 0.02 → 0.002",
    }


def test_values_that_come_and_go_are_told_by_their_neutral_ones(done: Any) -> None:
    done.recipes["datasets"]["birds"]["input"]["roll"] = 0
    done.recipes["defaults"]["training"]["warmup_steps"] = 5
    assert why(done.load())["a"] == (
        "its recipe has changed: input.roll 3 → 0, training.warmup_steps 0 → 5"
    )


def test_many_changes_are_counted(done: Any) -> None:
    done.recipes["defaults"]["training"] |= {"weight_decay": 1.0, "betas": [0.8, 0.9], "epochs": 3}
    done.recipes["datasets"]["birds"]["training"]["batch"] = 2
    assert why(done.load())["a"].endswith(" and 1 more")


def test_a_version_of_the_code_is_called_so(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reruns.__dict__["leaves"].__globals__["BEHAVIOUR"], "objective", 2)
    assert "the code's objective.behaviour 1 → 2" in why(done.load())["a"]


def test_a_lost_teacher_drags_its_student_alone(done: Any) -> None:
    suite = done.load()
    shutil.rmtree(suite.folder(Job("birds", "b", 1, 0)))
    assert why(suite)["b"] == "new"
    assert why(suite)["a@b"] == "its teacher b runs again"
    assert why(suite)["b@a"] == "done and up to date"
    assert set(why(suite, fold=2).values()) == {"done and up to date"}


def test_scores_alone_are_made_again(done: Any) -> None:
    suite = done.load()
    (suite.folder(Job("birds", "a", 1, 0)) / "metrics.json").unlink()
    agreement = Agreement(suite)
    found = reruns.fates(agreement)
    assert found[Job("birds", "a", 1, 0)] == ("evaluate", "trained, not scored yet")
    assert reruns.jobs(agreement, found).counts() == {"evaluate": 1, "tables": 1, "track": 1}


def test_newer_weights_of_a_teacher(done: Any) -> None:
    suite = done.load()
    os.utime(suite.folder(Job("birds", "b", 1, 0)) / "weights.safetensors")
    assert why(suite)["a@b"] == "the weights it was made from are newer"


def test_other_data(done: Any) -> None:
    done.datasets["birds"]["classes"] = ["wren", "rook"]
    assert "dataset.classes_digest" in why(done.load())["a"]
    done.datasets["birds"]["classes"] = ["wren", "robin"]
    manifest = done.load().prepared_folder("birds") / "manifest.csv.sha256"
    manifest.write_text("other")
    assert why(done.load())["a"] == "results/prepared/birds/manifest.csv has changed"


def test_suites_share_jobs() -> None:
    one = reruns.Jobs(*(frozenset({"x"}) for _ in range(8)))
    two = one._replace(train=frozenset({"x", "y"}), track=frozenset())
    assert reruns.joined([one, two]).counts() == dict.fromkeys(one._fields, 1) | {"train": 2}
