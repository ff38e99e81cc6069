"""The verb `evaluate`: scores, metrics and what it refuses."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score, roc_auc_score

from cmkd import files
from cmkd.audio import views
from cmkd.audio.statistics import write_statistics
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.errors import ConfigError, DataError, RunError
from cmkd.learning.train import train
from cmkd.models import weights
from cmkd.scoring import failures, scores
from cmkd.scoring.evaluate import _chance, evaluate
from cmkd.scoring.predict import choose_device, predict

CPU = {"device": "cpu", "threads": 1}
FRONTEND = {"sample_rate": 16000, "mel_bins": 16, "shift_ms": 20.0, "frames": 24}
DATA = {
    "name": "toy_multi",
    "behaviour": 1,
    "reader": "toy",
    "labels": "multi",
    "metric": "map",
    "classes": ["rising", "clicks", "flutter"],
    "splits": ["train", "val", "test"],
    "clips": 50,
    "seconds": 0.5,
    "seed": 3,
    "on_missing": "stop",
}
RECIPE = {
    "run": "small_cnn",
    "depth": 0,
    "dataset": {"name": "toy_multi", "labels": "multi", "classes": 3, "metric": "map"},
    "input": {"behaviour": 1, **FRONTEND},
    "model": {
        "behaviour": 1,
        "builder": "small_cnn",
        "widths": [4, 8],
        "head": "mean",
        "normalise": {"statistics": "fold", "factor": 1.0},
    },
    "objective": {"behaviour": 1, "name": "alone"},
    "training": {
        "behaviour": 1,
        "optimiser": "adam",
        "lr": 0.003,
        "betas": [0.95, 0.999],
        "weight_decay": 5.0e-7,
        "batch": 5,
        "epochs": 3,
        "schedule": {"kind": "constant"},
        "readout": "best",
        "readouts": ["last"],
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(yaml.safe_dump(DATA), folder, None, 1)
    write_statistics(folder, 0, FRONTEND, folder / "stats.json")
    return folder


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "wanted.yaml").write_text(yaml.safe_dump(RECIPE))
    run, stats = folder / "run", prepared / "stats.json"
    train(folder / "wanted.yaml", run, 0, 0, prepared, stats, None, None, CPU)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_scores_are_the_models_on_the_test_clips(run: Path, prepared: Path) -> None:
    evaluate(run, prepared, CPU)
    found, clips = arrays(run / "scores.npz"), Clips(prepared)
    test = clips.subset(0, "test")
    assert found["ids"].tolist() == clips.ids[test].tolist()
    assert found["classes"].tolist() == DATA["classes"]
    assert found["sources"].tolist() == clips.sources[test].tolist()
    assert found["logits"].dtype == np.float32 and found["targets"].dtype == np.uint8
    np.testing.assert_array_equal(found["targets"], clips.labels[test])
    model, recipe = weights.load_run(run)
    one = torch.stack([views.plain(clips, int(index), recipe["input"]) for index in test])
    with torch.no_grad():
        expected = model(one).numpy()
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_validation_and_further_readouts_have_files(run: Path, prepared: Path) -> None:
    evaluate(run, prepared, CPU)
    clips = Clips(prepared)
    validation = arrays(run / "scores-val.npz")
    assert validation["ids"].tolist() == clips.ids[clips.subset(0, "val")].tolist()
    model, recipe = weights.load_run(run, "weights-last.safetensors")
    banks = views.batches(clips, clips.subset(0, "test"), recipe["input"], 32)
    expected = predict(model, banks, torch.device("cpu"))
    np.testing.assert_array_equal(arrays(run / "scores-last.npz")["logits"], expected)


def test_metrics_are_scikit_learns_and_name_what_they_are_of(run: Path, prepared: Path) -> None:
    evaluate(run, prepared, CPU)
    found, raw = files.read_json(run / "metrics.json"), arrays(run / "scores.npz")
    keys = (
        "format recipe weights metric value metrics readout split n classes_scored ids_hash "
        "readouts warnings"
    )
    assert list(found) == keys.split()
    assert found["recipe"] == files.sha256_file(run / "recipe.yaml")[:16]
    assert found["weights"] == files.sha256_file(run / "weights.safetensors")
    assert (found["readout"], found["split"], found["metric"]) == ("best", "test", "map")
    assert found["n"] == len(raw["ids"]) == 10
    expected = average_precision_score(raw["targets"], raw["logits"], average="macro")
    assert found["value"] == found["metrics"]["map"] == pytest.approx(expected, abs=1e-12)
    auc = roc_auc_score(raw["targets"], raw["logits"], average="macro")
    assert found["metrics"]["auc"] == pytest.approx(auc, abs=1e-12)
    assert found["ids_hash"] == files.sha256_text("\n".join(sorted(raw["ids"].tolist())))
    assert set(found["readouts"]) == {"best", "last"}
    last = files.sha256_file(run / "weights-last.safetensors")
    assert found["readouts"]["last"]["weights"] == last
    assert found["readouts"]["best"]["metrics"] == found["metrics"]


def test_best_is_the_epoch_whose_validation_was_best(run: Path, prepared: Path) -> None:
    evaluate(run, prepared, CPU)
    raw = arrays(run / "scores-val.npz")
    score = average_precision_score(raw["targets"], raw["logits"], average="macro")
    lines = (run / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("val_map")
    assert score == pytest.approx(max(float(line.split(",")[column]) for line in lines[1:]))


def test_state_goes_once_the_metrics_are_there(run: Path, prepared: Path) -> None:
    assert (run / "state").is_dir()
    evaluate(run, prepared, CPU)
    assert not (run / "state").exists()
    cost = files.read_json(run / "cost-evaluate.json")
    # Both readouts were scored on the test clips, the headline one on validation clips too.
    assert cost["device"] == "cpu" and cost["seconds"]["total"] > 0


def test_twice_gives_the_same_bytes(run: Path, prepared: Path) -> None:
    names = ("scores.npz", "scores-val.npz", "scores-last.npz", "metrics.json")
    evaluate(run, prepared, CPU)
    before = [(run / name).read_bytes() for name in names]
    evaluate(run, prepared, CPU)
    assert [(run / name).read_bytes() for name in names] == before


def test_warnings_of_the_training_are_carried_over(run: Path, prepared: Path) -> None:
    cost = files.read_json(run / "cost.json")
    files.write_json(run / "cost.json", {**cost, "warnings": ["the loss never left chance"]})
    evaluate(run, prepared, CPU)
    assert "the loss never left chance" in files.read_json(run / "metrics.json")["warnings"]


def test_an_auc_near_a_half_is_warned_of() -> None:
    assert "near 0.5" in _chance({"auc": 0.51})[0]
    assert _chance({"auc": 0.6}) == _chance({"auc": None}) == []


def test_an_untrained_folder_is_named(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="train this run before evaluating it"):
        evaluate(tmp_path, prepared, CPU)


def test_weights_of_another_recipe_are_refused_and_the_failure_kept(
    run: Path, prepared: Path
) -> None:
    changed = (run / "recipe.yaml").read_text().replace("0.003", "0.004")
    (run / "recipe.yaml").write_text(changed)
    with pytest.raises(RunError, match="was made from recipe"):
        evaluate(run, prepared, CPU)
    assert not (run / "metrics.json").exists()
    failure = files.read_json(run / "state" / "failure.json")
    assert (failure["kind"], failure["stage"]) == ("data", "evaluate")


def test_other_clips_are_refused(run: Path, prepared: Path) -> None:
    inputs = files.read_json(run / "inputs.json")
    files.write_json(run / "inputs.json", {**inputs, "manifest": "0" * 64})
    with pytest.raises(RunError, match="was trained on other clips"):
        evaluate(run, prepared, CPU)


def test_scores_that_are_not_finite_name_the_clip(run: Path, prepared: Path, monkeypatch) -> None:
    from cmkd.scoring import splits as module

    def spoilt(*given: Any) -> np.ndarray:
        found = predict(*given)
        found[3, 1] = np.nan
        return found

    monkeypatch.setattr(module, "predict", spoilt)
    clips = Clips(prepared)
    name = clips.ids[clips.subset(0, "test")][3]
    with pytest.raises(DataError, match=f"clip {name} has scores that are not finite"):
        evaluate(run, prepared, CPU)


@pytest.mark.parametrize("split", ["val", "test"])
def test_clips_without_any_label_are_refused(
    split: str, trained: Path, prepared: Path, tmp_path: Path, monkeypatch
) -> None:
    whole = Clips.__init__

    def unlabelled(self: Clips, folder: Path) -> None:
        whole(self, folder)
        self.labels = np.array(self.labels)
        self.labels[self.splits == split] = 0

    monkeypatch.setattr(Clips, "__init__", unlabelled)
    if split == "test":
        run = shutil.copytree(trained, tmp_path / "run")
        with pytest.raises(DataError, match="no test clip with a label, so that its map is undef"):
            evaluate(run, prepared, CPU)
        assert not (run / "metrics.json").exists()
        return
    (tmp_path / "wanted.yaml").write_text(yaml.safe_dump(RECIPE))
    given = (tmp_path / "wanted.yaml", tmp_path / "run", 0, 0, prepared, prepared / "stats.json")
    with pytest.raises(DataError, match="no validation clip of .* has a label"):
        train(*given, None, None, CPU)


def test_archives_hold_no_time_and_no_objects(tmp_path: Path) -> None:
    content = {"ids": np.array(["a", "bc"]), "x": np.arange(4, dtype=np.float32)}
    scores.write_npz(tmp_path / "one.npz", content)
    scores.write_npz(tmp_path / "two.npz", content)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = arrays(tmp_path / "one.npz")
    assert found["ids"].tolist() == ["a", "bc"]
    np.testing.assert_array_equal(found["x"], content["x"])
    with pytest.raises(ValueError, match="[Oo]bject"):
        scores.write_npz(tmp_path / "three.npz", {"x": np.array([{}], dtype=object)})
    assert not (tmp_path / "three.npz").exists()


def test_the_hash_of_ids_ignores_their_order() -> None:
    assert scores.ids_hash(["b", "a"]) == scores.ids_hash(["a", "b"]) == files.sha256_text("a\nb")


def test_an_unknown_device_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        choose_device({"device": "cuda0"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(ConfigError, match="PyTorch sees no GPU"):
        choose_device({"device": "cuda"})
    assert choose_device({"device": "auto"}).type == "cpu"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("x"), "data"),
        (DataError("x"), "data"),
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (ValueError("x"), "bug"),
    ],
)
def test_failures_are_sorted(error: Exception, kind: str) -> None:
    assert failures.kind(error) == kind
    assert failures.describe(error, "train", "d")["message"]
