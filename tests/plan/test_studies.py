"""config/studies: what each one says of itself is so, and runs are shared by name."""

import re
from functools import cache
from pathlib import Path

import pytest

from cmkd.plan import catalog, costs, suites
from cmkd.plan.forecast import forecasts
from cmkd.plan.preview import render
from cmkd.plan.suites import Job, Suite

CONFIG = catalog.find()
STUDIES = sorted(path.stem for path in (CONFIG / "studies").glob("*.yaml"))
SHARED = re.compile(r"(\d+) of them shared with (\w+)|all shared with (\w+)")


@cache
def load(name: str) -> Suite:
    path = CONFIG / "config.yaml" if name == "default" else CONFIG / "studies" / f"{name}.yaml"
    return suites.load(path)


@cache
def recipes(name: str) -> dict[Job, str]:
    suite = load(name)
    return {job: suite.recipe(job.dataset, job.run).digest for job in suite.jobs()}


def head(name: str) -> str:
    text = (CONFIG / "studies" / f"{name}.yaml").read_text(encoding="utf-8")
    return text.split("\ndatasets:")[0]


def line(name: str, word: str) -> str:
    return next(row for row in head(name).splitlines() if row.startswith(f"# {word} "))


def test_these_studies_are_there() -> None:
    assert set(STUDIES) >= {
        *("matrix", "iterative", "lambda", "tau", "soft_loss", "teaching", "epochs"),
        *("teacher_size", "averaging", "pretraining", "attention_distillation", "selection"),
    }


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_shares_the_default_results(name: str) -> None:
    suite = load(name)
    assert "set" not in suite.config and "results" not in suite.config
    assert suite.seeds == (0, 1, 2)


def test_one_name_is_one_recipe_in_all_studies() -> None:
    """So a training that any of them has made is never planned again by another."""
    union: dict[Job, str] = {}
    for name in ("default", *STUDIES):
        for job, digest in recipes(name).items():
            assert union.setdefault(job, digest) == digest, (name, job)
    assert len(union) < sum(len(recipes(name)) for name in ("default", *STUDIES))
    teachers = {load(n).teacher_of(job) for n in STUDIES for job in recipes(n)} - {None}
    assert teachers <= set(union)


@pytest.mark.parametrize("name", STUDIES)
def test_the_head_says_what_the_plan_says(name: str) -> None:
    suite, found = load(name), costs.estimate(load(name))
    printed = render(forecasts([suite]))
    assert found.unknown == ()
    jobs = line(name, "jobs")
    assert f" {found.jobs} trainings" in jobs
    assert line(name, "hours").startswith(f"# hours      {costs.hours(found.hours)}")
    assert line(name, "disk").startswith(f"# disk       {costs.size(found.disk)}, ")
    for text in (str(found.jobs), costs.hours(found.hours), costs.size(found.disk)):
        assert text in printed
    shared = SHARED.search(jobs)
    if shared:
        partner = shared.group(2) or shared.group(3)
        common = recipes(name).items() & recipes(partner).items()
        assert len(common) == int(shared.group(1) or found.jobs)
        left = costs.estimate(suite, sorted(set(recipes(name)) - {job for job, _ in common}))
        rest = f"{costs.hours(left.hours)} without"
        assert left.jobs == 0 or rest in line(name, "hours")


def test_the_default_suite_says_what_its_plan_says() -> None:
    text = (CONFIG / "config.yaml").read_text(encoding="utf-8")
    found = costs.estimate(load("default"))
    assert f"{costs.hours(found.hours)} for {found.jobs} trainings" in text
    assert f"# disk       {costs.size(found.disk)}: " in text


@pytest.mark.parametrize("name", STUDIES)
def test_every_head_is_whole(name: str) -> None:
    for word in ("claims", "command", "hardware", "jobs", "hours", "disk", "result"):
        assert line(name, word)
    assert f"config/studies/{name}.yaml" in line(name, "command")


def test_every_claim_has_a_study() -> None:
    named = {claim for name in STUDIES for claim in re.findall(r"\bC\d+", line(name, "claims"))}
    assert named == {f"C{number}" for number in range(1, 21)}


def test_rounds_of_iterative_distillation_stand_on_each_other() -> None:
    suite = load("iterative")
    depths = sorted(run.depth for run in suite.runs("fsd50k"))
    assert depths == [0, 0, 1, 1, 2, 2, 3, 3]
    third = Job("fsd50k", "ast_tiny@effnet_b0@ast_tiny@effnet_b0", 0, 1)
    assert suite.teacher_of(third) == third._replace(run="effnet_b0@ast_tiny@effnet_b0")


def test_pretrained_models_start_from_their_own_run_on_audioset() -> None:
    suite = load("pretraining")
    expected = {
        "ast_tiny+from_audioset+lr10u": "ast_tiny",
        "effnet_b0+from_audioset+lr100u": "effnet_b0",
        "ast_tiny+from_audioset_cnn+lr10u": "ast_tiny@effnet_b0",
        "effnet_b0+from_audioset_ast+lr100u": "effnet_b0@ast_tiny",
    }
    for run, source in expected.items():
        initial = suite.initial_of(Job("esc50", run, 4, 2))
        assert initial == Job("audioset_balanced", source, 0, 2)
        assert suite.folder(initial) == Path(
            f"results/runs/audioset_balanced/{source}/fold-0/seed-2"
        )
