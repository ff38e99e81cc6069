"""Records against what is wanted, on run folders written here."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from cmkd import files
from cmkd.plan import agreement, suites
from cmkd.plan.suites import Job

CONFIG = {
    "datasets": ["toy"],
    "models": ["small_cnn", "small_ast"],
    "pairs": ["alone", "cross"],
    "folds": [1],
}
TEACHER = Job("toy", "small_ast", 1, 0)
STUDENT = Job("toy", "small_cnn@small_ast", 1, 0)
LATER = 10  # seconds


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> suites.Suite:
    monkeypatch.chdir(tmp_path)
    return suites.Suite(CONFIG, "suite", files.checkout() / "config")


def prepare(suite: suites.Suite, text: str = "as published") -> None:
    """Write a prepared folder with the statistics of fold 1."""
    folder = suite.prepared_folder("toy")
    for name in ("manifest.csv", "clips.bin", "clips.csv"):
        files.write_text(folder / name, text)
        files.write_sidecar(folder / name)
    files.write_text(folder / "recipe.yaml", suite.data_recipe("toy").text)
    statistics = suite.statistics(TEACHER)
    files.write_json(statistics, {"manifest": files.sha256_text(text)})
    files.write_sidecar(statistics)


def finish(suite: suites.Suite, job: Job, age: float = 0.0) -> None:
    """Write a finished run folder, `age` seconds old."""
    folder = suite.folder(job)
    for name in (*agreement.TRAINED, *agreement.EVALUATED):
        files.write_text(folder / name, "{}")
    files.write_text(folder / "recipe.yaml", suite.recipe(job.dataset, job.run).text)
    hashes = {
        "manifest": read_hash(suite.prepared_folder("toy") / "manifest.csv"),
        "statistics": read_hash(suite.statistics(job)),
    }
    files.write_json(folder / "inputs.json", {"fold": job.fold, "seed": job.seed, **hashes})
    when = time.time() - age
    for path in folder.iterdir():
        set_time(path, when)


def read_hash(path: Path) -> str:
    return files.sidecar(path).read_text().strip()


def set_time(path: Path, when: float) -> None:
    os.utime(path, (when, when))


def both(suite: suites.Suite) -> agreement.Agreement:
    """Prepare and finish a teacher and its student, the teacher first."""
    prepare(suite)
    finish(suite, TEACHER, age=LATER)
    finish(suite, STUDENT)
    return agreement.Agreement(suite)


def test_a_finished_run_agrees_and_its_wanted_recipe_is_its_record(suite: suites.Suite) -> None:
    wanted = both(suite).wanted_recipe(STUDENT)
    assert wanted.agrees
    assert wanted.path.read_bytes() == (suite.folder(STUDENT) / "recipe.yaml").read_bytes()
    digest = suite.recipe("toy", STUDENT.run).digest
    assert wanted.path == Path(f".cmkd/wanted/toy/small_cnn@small_ast/{digest}.yaml")


def test_a_wanted_recipe_is_never_rewritten(suite: suites.Suite) -> None:
    path = both(suite).wanted_recipe(STUDENT).path
    before = path.stat()
    again = agreement.Agreement(suite).wanted_recipe(STUDENT).path
    assert (again.stat().st_ino, again.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda folder: (folder / "recipe.yaml").write_text("old"), "recipe has changed"),
        (lambda folder: (folder / "recipe.yaml").unlink(), "not trained yet"),
        (lambda folder: (folder / "recipe.yaml").write_bytes(b"\xff"), "not trained yet"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "training is missing"),
        (lambda folder: (folder / "inputs.json").write_text("[]"), "inputs.json is missing or"),
        (lambda folder: (folder / "inputs.json").write_text("{"), "inputs.json is missing or"),
        (
            lambda folder: (folder / "inputs.json").write_text('{"fold": 2, "seed": 0}'),
            "another fold or seed",
        ),
    ],
)
def test_a_record_that_differs_is_named_and_made_older_than_what_is_wanted(
    suite: suites.Suite, change: object, cause: str
) -> None:
    both(suite)
    folder = suite.folder(STUDENT)
    agreement.Agreement(suite).wanted_recipe(STUDENT)
    change(folder)  # type: ignore[operator]
    set_time(folder / "metrics.json", time.time() + 3600)
    now = agreement.Agreement(suite)
    assert cause in str(now.disagreement(STUDENT))
    wanted = now.wanted_recipe(STUDENT)
    assert not wanted.agrees
    assert wanted.path.stat().st_mtime > (folder / "metrics.json").stat().st_mtime
    assert not now.settled(STUDENT)


@pytest.mark.parametrize("which", ["manifest.csv", "statistics"])
def test_other_data_makes_a_run_stale_and_absent_data_does_not(
    suite: suites.Suite, which: str
) -> None:
    both(suite)
    statistics = suite.statistics(STUDENT)
    path = statistics if which == "statistics" else suite.prepared_folder("toy") / which
    files.sidecar(path).write_text("0" * 64 + "\n")
    now = agreement.Agreement(suite)
    assert now.disagreement(STUDENT) == f"{path} has changed"
    assert now.stale() == (TEACHER, STUDENT)
    files.sidecar(path).unlink()
    assert agreement.Agreement(suite).disagreement(STUDENT) is None


def test_the_users_own_weights_make_a_run_stale_once_they_change(suite: suites.Suite) -> None:
    parts = {"model": {"weights": "own.safetensors"}}
    config = CONFIG | {"set": parts, "results": "own"}
    warm = suites.Suite(config, "warm", suite.catalog)
    Path("own.safetensors").write_text("first")
    both(warm)
    folder = warm.folder(TEACHER)
    inputs = json.loads((folder / "inputs.json").read_text())
    files.write_json(folder / "inputs.json", inputs | {"initial": files.sha256_text("first")})
    assert agreement.Agreement(warm).own_weights(TEACHER) == Path("own.safetensors")
    assert agreement.Agreement(warm).disagreement(TEACHER) is None
    Path("own.safetensors").write_text("other")
    assert agreement.Agreement(warm).disagreement(TEACHER) == "own.safetensors has changed"
    Path("own.safetensors").unlink()
    assert agreement.Agreement(warm).disagreement(TEACHER) is None
    assert agreement.Agreement(suite).own_weights(TEACHER) is None


def test_a_run_is_settled_only_while_its_teacher_is_settled_and_not_newer(
    suite: suites.Suite,
) -> None:
    now = both(suite)
    assert now.settled(TEACHER) and now.settled(STUDENT) and now.scored(STUDENT)
    set_time(suite.folder(TEACHER) / "weights.safetensors", time.time() + LATER)
    later = agreement.Agreement(suite)
    assert later.settled(TEACHER) and not later.settled(STUDENT)
    (suite.folder(TEACHER) / "recipe.yaml").write_text("old")
    assert not agreement.Agreement(suite).settled(TEACHER)


def test_a_run_is_scored_only_while_its_metrics_are_not_older_than_its_weights(
    suite: suites.Suite,
) -> None:
    both(suite)
    set_time(suite.folder(TEACHER) / "metrics.json", time.time() - 2 * LATER)
    now = agreement.Agreement(suite)
    assert now.settled(TEACHER) and not now.scored(TEACHER)
    (suite.folder(TEACHER) / "metrics.json").unlink()
    assert not agreement.Agreement(suite).scored(TEACHER)


def test_prepared_data_are_sound_absent_or_of_another_recipe(suite: suites.Suite) -> None:
    assert agreement.Agreement(suite).prepared_state("toy") == "absent"
    prepare(suite)
    now = agreement.Agreement(suite)
    assert now.prepared_state("toy") == "sound"
    assert now.wanted_prepared("toy").agrees
    (suite.prepared_folder("toy") / "clips.csv").unlink()
    assert agreement.Agreement(suite).prepared_state("toy") == "absent"
    (suite.prepared_folder("toy") / "recipe.yaml").write_text("seed: 1\n")
    other = agreement.Agreement(suite)
    assert other.prepared_state("toy") == "other"
    wanted = other.wanted_prepared("toy")
    record = suite.prepared_folder("toy") / "recipe.yaml"
    assert not wanted.agrees
    assert wanted.path.stat().st_mtime_ns > record.stat().st_mtime_ns


def test_only_a_finished_job_does_without_absent_data(suite: suites.Suite) -> None:
    now = both(suite)
    assert not now.left_out(STUDENT, finished=True)
    suite.statistics(STUDENT).unlink()
    assert now.left_out(STUDENT, finished=True)
    assert not now.left_out(STUDENT, finished=False)


@pytest.mark.parametrize("lost", ["clips.bin", "statistics"])
def test_data_of_another_recipe_are_never_left_out(suite: suites.Suite, lost: str) -> None:
    both(suite)
    folder = suite.prepared_folder("toy")
    (folder / "recipe.yaml").write_text("seed: 1\n")
    (suite.statistics(STUDENT) if lost == "statistics" else folder / lost).unlink()
    assert not agreement.Agreement(suite).left_out(STUDENT, finished=True)


def test_statistics_belong_to_a_manifest(suite: suites.Suite) -> None:
    prepare(suite)
    path = suite.statistics(TEACHER)
    frontend = suite.frontend("toy", "small_ast").name
    now = agreement.Agreement(suite)
    assert now.statistics_agree(path, "toy")
    assert now.wanted_statistics("toy", frontend, 1) is None
    files.sidecar(suite.prepared_folder("toy") / "manifest.csv").write_text("0" * 64)
    later = agreement.Agreement(suite)
    assert not later.statistics_agree(path, "toy")
    wanted = later.wanted_statistics("toy", frontend, 1)
    assert wanted is not None
    assert wanted.path.stat().st_mtime_ns > path.stat().st_mtime_ns


def test_rows_agree_with_the_record_beside_the_tables(suite: suites.Suite) -> None:
    now = agreement.Agreement(suite)
    wanted = now.wanted_rows()
    assert not wanted.agrees
    files.write_text(now.rows_record(), wanted.path.read_text())
    assert now.wanted_rows().agrees
    more = suites.Suite(CONFIG | {"seeds": [0, 1]}, "suite", suite.catalog)
    assert not agreement.Agreement(more).wanted_rows().agrees


@pytest.mark.parametrize("name", ["claims.yaml", "paper.yaml"])
def test_tables_are_made_again_when_what_they_read_has_changed(
    suite: suites.Suite, tmp_path: Path, name: str
) -> None:
    own = tmp_path / "catalogue"
    shutil.copytree(suite.catalog, own)
    now = agreement.Agreement(suites.Suite(CONFIG, "suite", own))
    files.write_text(now.rows_record(), now.wanted_rows().path.read_text())
    assert now.wanted_rows().agrees
    with (own / name).open("a") as file:
        file.write("# a remark\n")
    assert not now.wanted_rows().agrees
    (own / name).unlink()
    assert not now.wanted_rows().agrees


def test_the_suite_file_is_read_back_as_an_equal_suite(suite: suites.Suite) -> None:
    path = agreement.Agreement(suite).suite_file()
    again = suites.load(path)
    assert again.text() == suite.text()
    assert agreement.Agreement(again).suite_file() == path


def test_the_execution_file_holds_the_execution_block(suite: suites.Suite) -> None:
    import yaml

    path = agreement.Agreement(suite).execution_file()
    assert yaml.safe_load(path.read_text()) == suite.execution


def test_nothing_is_written_beside_the_run_folders(suite: suites.Suite) -> None:
    now = both(suite)
    before = snapshot()
    now.wanted_recipe(STUDENT)
    now.wanted_prepared("toy")
    now.wanted_rows()
    assert snapshot() == before
    assert json.loads((suite.folder(STUDENT) / "inputs.json").read_text())["fold"] == 1


def snapshot() -> dict[str, int]:
    """Return the files under results/ with their times."""
    return {str(path): path.stat().st_mtime_ns for path in Path("results").rglob("*")}
