"""What each change would run again, shown by dry runs of a finished suite (6 runs, 2 folds)."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from cmkd.plan import suites
from cmkd.reports import runs

RUNS = {
    *("small_cnn", "small_ast", "small_cnn@small_ast", "small_ast@small_cnn"),
    *("small_cnn@small_cnn", "small_ast@small_ast"),
}
VIEWS = [("tables",), ("track",)]


def jobs_of(*names: str, folds: tuple[str, ...] = ("1", "2")) -> list[tuple[str, ...]]:
    """Return the jobs that make runs: training and evaluation on each fold, then the views."""
    rules = [("distill" if "@" in run else "train", run) for run in names]
    made = [(rule, run, fold) for rule, run in rules for fold in folds]
    return sorted(made + [("evaluate", run, fold) for _, run, fold in made] + VIEWS)


def data(*folds: str) -> list[tuple[str, ...]]:
    """Return the jobs that prepare the toy dataset."""
    return [("prepare", "toy"), *[("stats", "toy", fold) for fold in folds]]


def test_a_clean_clone_without_data_plans_everything(clean: Any) -> None:
    assert clean.plan() == sorted(jobs_of(*RUNS) + data("1", "2"))
    assert not (clean.root / "results").exists()


def test_a_finished_suite_plans_nothing_even_without_its_state(finished: Any) -> None:
    assert finished.plan() == []
    shutil.rmtree(finished.root / ".snakemake")
    shutil.rmtree(finished.root / ".cmkd")
    assert finished.plan() == []


def test_a_learning_rate_makes_its_runs_and_their_students_stale_until_put_back(
    finished: Any,
) -> None:
    models = finished.root / "config" / "models.yaml"
    before = models.read_text()
    finished.edit("models", "small_cnn", "recipe", "training", "lr", to=1.0e-2)
    assert finished.plan() == jobs_of(*RUNS - {"small_ast", "small_ast@small_ast"})
    models.write_text(before)
    assert finished.plan() == []


def test_a_new_model_plans_only_its_own_runs(finished: Any) -> None:
    finished.edit("suite", "models", to=["small_cnn", "small_ast", "small_cnn_att"])
    new = ("small_cnn_att", "small_cnn_att@small_cnn_att")
    taught = ("small_ast@small_cnn_att", "small_cnn_att@small_ast")
    assert finished.plan() == jobs_of(*new, *taught)


def test_a_new_key_at_its_neutral_value_plans_nothing(finished: Any) -> None:
    finished.edit("recipes", "defaults", "model", "dropout", to=0.0)
    finished.edit("recipes", "defaults", "objective", "teaching", to="consistent")
    finished.edit("recipes", "defaults", "training", "readouts", to=[])
    assert finished.plan() == []


def test_edits_of_code_rules_and_comments_plan_nothing(finished: Any) -> None:
    tables_show = ("claims.yaml", "paper.yaml")
    config = [f for f in (finished.root / "config").rglob("*.yaml") if f.name not in tables_show]
    for path in [*(finished.root / "cmkd").rglob("*.py"), *config]:
        path.write_text(path.read_text() + "\n# edited\n")
    rule = finished.root / "workflow" / "rules" / "train.smk"
    rule.write_text(rule.read_text().replace('"cmkd train', '"nice cmkd train'))
    assert finished.plan() == []


def test_a_fresh_checkout_beside_copied_results_plans_nothing_and_sees_edits(
    clean: Any, finished: Any
) -> None:
    for path in clean.root.rglob("*"):
        os.utime(path, follow_symlinks=False)
    shutil.copytree(finished.root / "results", clean.root / "results")
    assert clean.plan() == []
    clean.edit("models", "small_ast", "recipe", "training", "lr", to=1.0e-2)
    assert clean.plan() == jobs_of(*RUNS - {"small_cnn", "small_cnn@small_cnn"})


def test_without_prepared_data_only_what_is_new_is_prepared_for(finished: Any) -> None:
    shutil.rmtree(finished.root / "results" / "prepared")
    assert finished.plan() == []
    finished.edit("suite", "pairs", to=["alone", "cross", "self", "small_cnn+tau2@small_ast"])
    new = jobs_of("small_cnn+tau2@small_ast")
    assert finished.plan() == sorted(new + data("1", "2"))


@pytest.mark.parametrize("lost", ["clips.csv", "recipe.yaml"])
def test_half_a_prepared_folder_hides_no_stale_run(finished: Any, lost: str) -> None:
    (finished.root / "results" / "prepared" / "toy" / lost).unlink()
    finished.edit("variants", "tau2", to={"objective": {"tau": 2.0}})
    finished.folder("small_ast@small_ast", fold=2).joinpath("recipe.yaml").write_text("old\n")
    stale = jobs_of("small_ast@small_ast", folds=("2",))
    planned = finished.plan()
    assert set(stale) <= set(planned)
    assert {job[0] for job in set(planned) - set(stale)} <= {"prepare", "stats"}


def test_weights_that_were_written_again_make_their_students_stale(finished: Any) -> None:
    weights = finished.folder("small_cnn") / "weights.safetensors"
    weights.write_bytes(weights.read_bytes())
    students = jobs_of("small_ast@small_cnn", "small_cnn@small_cnn", folds=("1",))
    assert finished.plan() == sorted([*students, ("evaluate", "small_cnn", "1")])


def test_a_run_taken_out_of_the_suite_makes_the_tables_again(finished: Any) -> None:
    finished.edit("suite", "pairs", to=["alone", "cross"])
    assert finished.plan() == [("tables",)]
    finished.run()
    assert finished.plan() == []


@pytest.mark.parametrize("lost", ["figures/suite/gains-toy.svg", "tables/suite/leaderboard.md"])
def test_a_lost_figure_or_table_is_made_again(finished: Any, lost: str) -> None:
    path = finished.root / "results" / lost
    path.unlink()
    assert finished.plan() == [("tables",)]


def test_the_users_own_weights_count_by_their_content(finished: Any) -> None:
    own = finished.root / "my weights.safetensors"
    own.write_text("first")
    finished.edit("variants", "warm", to={"model": {"weights": own.name}})
    finished.edit("suite", "pairs", to=["alone", "cross", "self", "small_ast@small_cnn+warm"])
    finished.run()
    call = next(call for call in finished.calls("train") if "small_cnn+warm/fold-1" in call[3])
    assert call[call.index("--initial") + 1] == own.name
    own.write_text("first")
    assert finished.plan() == []
    own.write_text("other")
    os.utime(own, (1e9, 1e9))
    assert finished.plan() == jobs_of("small_cnn+warm", "small_ast@small_cnn+warm")
    own.unlink()
    assert finished.plan() == []
    finished.edit("suite", "seeds", to=[1])
    refused = finished.snakemake("-n", "--cores", "1")
    assert refused.returncode == 1
    assert "Missing input files for rule train" in refused.stdout
    assert own.name in refused.stdout


@pytest.mark.slow
def test_copies_without_times_are_blessed_by_touch_and_still_see_edits(finished: Any) -> None:
    shutil.rmtree(finished.root / ".snakemake")
    shutil.rmtree(finished.root / ".cmkd")
    paths = sorted(path for path in (finished.root / "results").rglob("*") if path.is_file())
    for number, path in enumerate(paths):
        os.utime(path, (1.7e9 + number * 7919 % 100_000,) * 2)
    assert finished.plan() != []
    finished.run("--touch")
    assert finished.plan() == []
    finished.edit("models", "small_ast", "recipe", "training", "lr", to=1.0e-2)
    assert finished.plan() == jobs_of(*RUNS - {"small_cnn", "small_cnn@small_cnn"})


@pytest.mark.slow
def test_records_from_the_future_do_not_hide_an_edit(finished: Any) -> None:
    tomorrow = time.time() + 86400
    for path in (finished.root / "results").rglob("*"):
        os.utime(path, (tomorrow, tomorrow))
    finished.edit("models", "small_ast", "recipe", "training", "lr", to=1.0e-2)
    assert finished.plan() == jobs_of(*RUNS - {"small_cnn", "small_cnn@small_cnn"})


@pytest.mark.slow
def test_an_edited_dataset_is_prepared_again_and_so_are_its_runs(finished: Any) -> None:
    finished.edit("datasets", "toy", "title", to="Another title")
    assert finished.plan() == []
    finished.edit("datasets", "toy", "seed", to=1)
    assert finished.plan() == sorted(jobs_of(*RUNS) + data("1", "2"))


@pytest.mark.slow
def test_statistics_of_another_manifest_run_again_whatever_their_times(finished: Any) -> None:
    prepared = finished.root / "results" / "prepared" / "toy"
    times = {path: path.stat().st_mtime for path in prepared.rglob("*")}
    recipe = shutil.copy2(prepared / "recipe.yaml", finished.root / "recipe.yaml")
    finished.cmkd("prepare", recipe, "--prepared", prepared, FAKE_DATA="other recordings")
    for path, when in times.items():
        os.utime(path, (when, when))
    assert finished.plan() == sorted(jobs_of(*RUNS) + data("1", "2")[1:])


@pytest.mark.slow
def test_initial_weights_of_another_dataset_are_trained_first(finished: Any) -> None:
    finished.edit("variants", "warm", to={"model": {"weights": "run:toy_multi/small_cnn"}})
    finished.edit("suite", "pairs", to=["alone", "cross", "self", "small_cnn+warm"])
    planned = finished.plan()
    first = [("prepare", "toy_multi"), ("stats", "toy_multi", "0")]
    source = [("train", "small_cnn", "0"), ("evaluate", "small_cnn", "0")]
    assert planned == sorted(jobs_of("small_cnn+warm") + first + source)
    finished.run()
    call = next(call for call in finished.calls("train") if "--initial" in call)
    given = call[call.index("--initial") + 1]
    assert given == "results/runs/toy_multi/small_cnn/fold-0/seed-0/weights.safetensors"


def test_data_prepared_anew_with_other_clips_are_said_and_run_next_time(finished: Any) -> None:
    shutil.rmtree(finished.root / "results" / "prepared")
    finished.edit("suite", "pairs", to=["alone", "cross", "self", "small_cnn+tau2@small_ast"])
    said = finished.run(FAKE_DATA="other recordings")
    assert "12 run(s) have become stale" in said
    assert "run the same command again" in said
    assert finished.plan() == jobs_of(*RUNS, "small_cnn+tau2@small_ast")


def test_an_edit_and_a_dry_run_during_a_run_change_nothing_in_it(finished: Any) -> None:
    finished.edit("suite", "pairs", to=["alone", "cross", "self", "small_cnn+tau2@small_ast"])
    before = recipes(finished)
    running = finished.start("--cores", "1", FAKE_PAUSE="6")
    wait_for(lambda: len(finished.calls("train")) == 13)
    finished.edit("variants", "tau2", "objective", "tau", to=7.0)
    during = finished.snakemake("-n", "--cores", "1")
    assert during.returncode == 0, during.stdout
    said, _ = running.communicate(timeout=200)
    assert running.returncode == 0, said
    assert recipes(finished) == before
    for fold in (1, 2):
        record = finished.folder("small_cnn+tau2@small_ast", fold) / "recipe.yaml"
        assert "tau: 2.0" in record.read_text()
    assert finished.plan() == jobs_of("small_cnn+tau2@small_ast")


def recipes(clone: Any) -> dict[str, str]:
    """Return the records of all runs that were there before the variant."""
    found = (clone.root / "results").rglob("seed-0/recipe.yaml")
    return {str(path): path.read_text() for path in found if "+tau2" not in str(path)}


def wait_for(condition: Any, seconds: float = 120) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.1)


def test_a_failed_retrain_never_shows_old_numbers_as_new(
    finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished.edit("models", "small_ast", "recipe", "training", "lr", to=1.0e-2)
    before = len(finished.calls("tables"))
    failing = "toy/small_ast/fold-1"
    failed = finished.snakemake("--cores", "2", FAKE_FAIL=failing, CUDA_VISIBLE_DEVICES="0,1")
    assert failed.returncode == 1
    assert "this training was told to fail" in failed.stdout
    assert 'Provided resources: gpu=Resource("gpu", 2)' in failed.stdout
    # The partial leaderboard is made by onerror.
    assert len(finished.calls("tables")) == before + 1
    monkeypatch.chdir(finished.root)
    states = runs.collect(suites.load(Path("config/suite.yaml")))
    broken = {"small_ast", "small_ast@small_ast", "small_cnn@small_ast", "small_ast@small_cnn"}
    not_done = {(job.run, job.fold) for job, state in states.items() if not state.done}
    students = broken - {"small_ast@small_cnn"}
    assert not_done == {(run, 1) for run in students}
    assert (finished.folder("small_ast") / "metrics.json").exists()
    assert finished.plan() == jobs_of(*students, folds=("1",))


def test_a_cluster_job_touches_only_its_own_wanted_files(finished: Any) -> None:
    shutil.rmtree(finished.root / ".cmkd")
    target = "distill:dataset=toy,link=small_cnn,teacher=small_ast,fold=1,seed=0"
    finished.run(
        *("--target-jobs", target, "--allowed-rules", "distill", "--force", "--nolock"),
        *("--mode", "subprocess", "--no-hooks"),
    )
    wanted = finished.root / ".cmkd" / "wanted"
    made = {path.parent.name for path in wanted.rglob("*.yaml")}
    assert "small_cnn@small_ast" in made
    assert made <= {"small_cnn@small_ast", "small_ast", "prepared"}
    assert json.loads((finished.folder("small_cnn@small_ast") / "inputs.json").read_text())[
        "teacher"
    ]
