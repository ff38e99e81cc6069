"""The whole probe on toy runs: files, tables, figures, and what it must not do."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cmkd import files
from cmkd.audio.statistics import write_statistics
from cmkd.audio.views import Views
from cmkd.cli import main
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.learning.train import train
from cmkd.models import weights
from cmkd.operations import probes
from cmkd.plan import suites
from cmkd.plan.suites import Suite
from cmkd.probing import freshness
from cmkd.reports import probes as reports
from cmkd.scoring.evaluate import evaluate

FRONTEND = {"sample_rate": 16000, "mel_bins": 64, "shift_ms": 20.0, "frames": 40}
CPU = {"device": "cpu", "threads": 1, "checkpoint_seconds": 1000}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Return a suite of a CNN and a transformer it teaches, trained for two epochs."""
    root = tmp_path_factory.mktemp("probe")
    catalog = root / "config"
    catalog.mkdir()
    shipped = files.checkout() / "config"
    for name in ("models", "variants"):
        (catalog / f"{name}.yaml").write_bytes((shipped / f"{name}.yaml").read_bytes())
    toy = yaml.safe_load((shipped / "datasets.yaml").read_text(encoding="utf-8"))["toy"]
    entries = {"toy": toy | {"clips_per_class": 15, "seconds": 0.8}}
    recipes = yaml.safe_load((shipped / "recipes.yaml").read_text(encoding="utf-8"))
    recipes = {key: recipes[key] for key in ("defaults", "families")}
    (catalog / "recipes.yaml").write_text(yaml.safe_dump(recipes), encoding="utf-8")
    (catalog / "datasets.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    config = {
        "datasets": ["toy"], "models": ["small_cnn", "small_ast"],
        "pairs": ["alone", "small_ast@small_cnn"], "folds": [1], "execution": CPU,
        "results": str(root / "results"), "prepared": str(root / "prepared"),
        "set": {"input": {"frames": 40, "mel_bins": 64, "shift_ms": 20.0, "mixup": 0.0,
                          "frequency_mask": 0, "time_mask": 8, "roll": 4},
                "training": {"epochs": 2, "schedule": {"kind": "constant"}}},
    }  # fmt: skip
    path = catalog / "small.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    made = suites.load(path)
    _run(made)
    return made


def _run(suite: Suite) -> None:
    """Prepare, train and score everything."""
    prepared = suite.prepared_folder("toy")
    prepare(suite.data_recipe("toy").text, prepared, None, 1)
    for job in suite.jobs():
        statistics, folder = suite.statistics(job), suite.folder(job)
        if not statistics.exists():
            write_statistics(prepared, job.fold, FRONTEND, statistics)
        wanted = suite.results / "wanted.yaml"
        files.write_text(wanted, suite.recipe("toy", job.run).text)
        teacher = suite.teacher_of(job)
        train(wanted, folder, job.fold, job.seed, prepared, statistics,
              suite.folder(teacher) if teacher else None, None, CPU)  # fmt: skip
        evaluate(folder, prepared, CPU)


@pytest.fixture(scope="module")
def probed(suite: Suite) -> list[Path]:
    """Return the paths of a first probe."""
    return probes.run(suite, [], 24)


def read(suite: Suite, run: str) -> dict:
    """Return a run's probe."""
    (job,) = (job for job in suite.jobs() if job.run == run)
    return files.read_json(reports.place(suite, job))


def test_every_file_is_there(suite: Suite, probed: list[Path]) -> None:
    kinds = ("shifts", "noise", "level", "calibration", "freshness", "layers", "classes")
    names = {f"probe-{kind}-toy.{end}" for kind in kinds for end in ("png", "svg")}
    assert {path.name for path in probed} == names | {"probes.csv", "probe-classes.csv"}
    assert all(path.stat().st_size for path in probed)


def test_unshifted_scores_are_the_scored_ones(suite: Suite, probed: list[Path]) -> None:
    found = read(suite, "small_cnn")
    assert found["shifts"][0]["ms"] == 0
    assert found["shifts"][0] | {"ms": 0} == {
        "ms": 0, "agreement": 1.0, "distance": 0.0, "value": found["value"],
        "stability": pytest.approx(1.0),
    }  # fmt: skip
    assert found["clips"] == 24


def test_a_probe_of_all_clips_has_the_runs_own_value(suite: Suite) -> None:
    from cmkd.probing import probe

    job = suite.jobs()[0]
    subject = probe.subject(
        suite.folder(job), suite.prepared_folder("toy"), suite.statistics(job), None, 10**6, "cpu"
    )
    scored = files.read_json(suite.folder(job) / "metrics.json")
    assert len(subject.indices) == scored["n"]
    with np.load(suite.folder(job) / "scores.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(subject.logits(), file["logits"], atol=1e-5)


def test_only_taught_runs_are_held_against_a_teacher(suite: Suite, probed: list[Path]) -> None:
    taught, alone = read(suite, "small_ast@small_cnn"), read(suite, "small_ast")
    assert taught["teacher"] == "small_cnn"
    assert "overlap" not in alone and "cka" not in alone
    table = np.array(taught["cka"]["values"])
    assert table.shape == (4, 5)
    assert ((table >= 0) & (table <= 1 + 1e-9)).all()


def test_probed_again_nothing_is_computed_and_the_bytes_are_the_same(
    suite: Suite, probed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path.read_bytes() for path in probed]
    monkeypatch.setattr(probes, "_probe", lambda *_: pytest.fail("probed again"))
    assert [path.read_bytes() for path in probes.run(suite, [], 24)] == before


def test_class_gains_are_differences_of_recalls(suite: Suite, probed: list[Path]) -> None:
    gains = reports.class_gains(suite)
    taught, alone = read(suite, "small_ast@small_cnn"), read(suite, "small_ast")
    expected = np.array(taught["by_class"]) - np.array(alone["by_class"])
    assert gains["gain"].tolist() == pytest.approx(expected.tolist())
    assert set(gains["run"]) == {"small_ast@small_cnn"}


@pytest.mark.parametrize("name, depth", [("seen", 0), ("fresh", 1)])
def test_losses_are_of_the_views_at_that_depth(suite: Suite, name: str, depth: int) -> None:
    job = suite.jobs()[0]
    model, recipe = weights.load_run(suite.folder(job))
    clips = Clips(suite.prepared_folder("toy"))
    indices = clips.subset(1, "train")[::3]
    std = files.read_json(suite.statistics(job))["std"]
    # Training's second and last epoch, as `learning.train` makes it.
    drawn = Views(clips, indices, recipe["input"], 0, 1, depth, std).epoch(1)
    batch = drawn.batch(0, len(drawn))  # every clip once, so both epochs have all of them
    with torch.no_grad():
        logits = model(batch.student)
    expected = -(batch.targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    found = freshness.freshness(model, clips, indices, recipe, (0, 1), std)
    assert found[name] == pytest.approx(float(expected), rel=1e-5)
    assert found["seen"] != found["fresh"]


def test_stability_is_the_mean_over_shifts(suite: Suite, probed: list[Path]) -> None:
    job = suite.jobs()[0]
    found = reports.stability(suite, job)
    shifts = files.read_json(reports.place(suite, job))["shifts"]
    expected = np.mean([row["stability"] for row in shifts if row["ms"]])
    assert found.value == pytest.approx(expected)
    assert len(found.ids) == 24 and found.ids.tolist() == sorted(found.ids)
    assert found.influence.sum() == pytest.approx(0)


def test_a_claim_reads_what_was_probed(suite: Suite, probed: list[Path]) -> None:
    from cmkd.plan.claims import Arm
    from cmkd.reports.claims_runs import Finder

    taught, alone = (Arm("toy", run, "stability") for run in ("small_ast@small_cnn", "small_ast"))
    finder = Finder(suite)
    found = finder.estimate("toy", {taught: 1.0, alone: -1.0})
    values = [finder.grid(arm)[1, 0].value for arm in (taught, alone)]
    assert found.value == pytest.approx(values[0] - values[1])
    assert finder.count([taught, alone]) == (2, 2)
    jobs = {job.run: job for job in suite.jobs()}
    reports.place(suite, jobs["small_ast"]).rename(
        reports.place(suite, jobs["small_ast"]).with_suffix(".off")
    )
    try:
        assert Finder(suite).count([taught, alone]) == (1, 2)
        assert Finder(suite).estimate("toy", {taught: 1.0, alone: -1.0}) is None
    finally:
        reports.place(suite, jobs["small_ast"]).with_suffix(".off").rename(
            reports.place(suite, jobs["small_ast"])
        )


def test_what_is_wrong_is_one_sentence(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(suite.source)
    assert main(["probe", path, "--run", "small_cn"]) == 2
    assert "small_cnn" in capsys.readouterr().err


def test_a_suite_without_a_done_run_is_said(suite: Suite, tmp_path: Path) -> None:
    empty = suites.load(suite.source, {"results": str(tmp_path / "none")})
    with pytest.raises(Exception, match="no run of the suite 'small' is done"):
        probes.run(empty, [], 10)
