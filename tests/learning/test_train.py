"""The verb `train`, from a wanted recipe to a run folder."""

import csv
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cmkd import files
from cmkd.audio.statistics import write_statistics
from cmkd.data.clips import Clips
from cmkd.errors import ConfigError, DataError, RunError, Stopped, TrainingError
from cmkd.learning import fit, inputs, outputs
from cmkd.learning.train import build_task
from cmkd.scoring import signals

Trained = Callable[..., Path]
Wanted = Callable[..., Path]
CPU = {"device": "cpu", "checkpoint_seconds": 1000}
FRONTEND = {"sample_rate": 16000, "mel_bins": 16, "shift_ms": 20.0, "frames": 24}


def history(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "history.csv").read_text().splitlines()))


def built(recipe: Path, data, fold: int = 1, seed: int = 0, teacher: Path | None = None):
    """Return a training's inputs and the task made of them."""
    given = (recipe, fold, seed, data.single, data.single / f"stats{fold}.json", teacher, None)
    found = inputs.gather(*given)
    return found, build_task(found, CPU)


@pytest.fixture(scope="module", autouse=True)
def fold_statistics(data) -> None:
    for fold in (1, 2):
        write_statistics(data.single, fold, FRONTEND, data.single / f"stats{fold}.json")


def test_views_are_drawn_by_seed_fold_and_depth_and_scaled_by_the_fold(
    trained, wanted, taught, data
) -> None:
    teacher = trained(wanted("teacher"), "teacher")
    for teaching in ("consistent", "independent", "clean"):
        recipe = wanted("student", **taught(teacher), **{"objective.teaching": teaching})
        found, task = built(recipe, data, teacher=teacher)
        assert task.views.place == (0, 1, 1) and task.views.teaching == teaching
        assert task.views.scale == 2.0 * found.statistics["std"]
    found, task = built(wanted(), data, fold=2, seed=5)
    assert task.views.place == (5, 2, 0) and task.views.teaching is None
    assert (task.seed, task.fold, task.run) == (5, 2, "small_cnn")
    assert task.views.banks.indices.tolist() == found.clips.subset(2, "train").tolist()


def test_the_model_is_normalised_by_the_fold_and_seeded_by_seed_fold_and_run(wanted, data) -> None:
    recipe = wanted(**{"model.normalise.factor": 2.0})
    found, task = built(recipe, data)
    assert task.model.mean.item() == pytest.approx(found.statistics["mean"])
    assert task.model.scale.item() == pytest.approx(2.0 * found.statistics["std"])

    def first(path: Path, **place: int) -> torch.Tensor:
        torch.manual_seed(99)  # what was drawn before does not matter
        return built(path, data, **place)[1].model.model.features[0][0].weight

    weight = task.model.model.features[0][0].weight
    assert torch.equal(first(recipe), weight)
    others = (first(recipe, seed=1), first(recipe, fold=2), first(wanted("b", run="other")))
    assert not any(torch.equal(other, weight) for other in others)


def test_optimiser_and_objective_are_the_recipes(wanted, data) -> None:
    changes = {"training.betas": [0.8, 0.9], "training.weight_decay": 0.25}
    _, task = built(wanted(**changes, **{"objective.smoothing": 0.3}), data)
    (group,) = task.optimiser.param_groups
    assert type(task.optimiser) is torch.optim.Adam
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.8, 0.9), 0.25, 1e-8)
    assert task.options["smoothing"] == 0.3 and task.options["labels"] == "single"


def test_lambda_one_equals_training_alone_from_files_to_weights(trained, wanted, taught) -> None:
    # The same name and depth, for the same initial weights, dropout and draws.
    teacher = trained(wanted("teacher"), "teacher")
    student = taught(teacher) | {"run": "ast", "depth": 0, "objective.lambda": 1.0}
    lonely = {key: student[key] for key in ("run", "depth", "model")}
    one = trained(wanted("one", **student), "one", teacher=teacher)
    alone = trained(wanted("alone", **lonely), "alone")
    first, second = (load_file(run / "weights.safetensors") for run in (one, alone))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    half = trained(wanted("half", **student | {"objective.lambda": 0.5}), "half", teacher=teacher)
    third = load_file(half / "weights.safetensors")
    assert not all(torch.equal(third[key], second[key]) for key in second)


def test_what_another_fold_or_seed_has_learned_is_refused(trained, wanted, taught, data) -> None:
    teacher = trained(wanted("teacher"), "teacher")
    student = wanted("student", **taught(teacher))
    stats = data.single / "stats2.json"
    with pytest.raises(
        RunError, match=r"trained with fold 1, its student ast@small_cnn needs fold 2"
    ):
        trained(student, "student", teacher=teacher, fold=2, statistics=stats)
    with pytest.raises(RunError, match=r"trained with seed 0, .* needs seed 3"):
        trained(student, "student", teacher=teacher, seed=3)
    (teacher / "inputs.json").unlink()
    with pytest.raises(RunError, match=r"inputs.json is not there, .* train that run again"):
        trained(student, "student", teacher=teacher)
    with pytest.raises(DataError, match=r"stats2.json is of fold 2, .* give that of fold 1"):
        trained(wanted(), statistics=stats)


def test_the_folder_holds_what_the_design_says(trained: Trained, wanted: Wanted, data) -> None:
    recipe = wanted()
    run = trained(recipe)
    assert (run / "recipe.yaml").read_bytes() == recipe.read_bytes()
    clips = Clips(data.single)
    assert files.read_json(run / "inputs.json") == {
        "format": 1,
        "fold": 1,
        "seed": 0,
        "manifest": clips.manifest_sha256,
        "statistics": files.sha256_file(data.single / "stats.json"),
        "teacher": None,
        "initial": None,
    }
    with safe_open(run / "weights.safetensors", "pt") as file:
        said = file.metadata()
    assert said["recipe"] == files.sha256_file(run / "recipe.yaml")[:16]
    assert json.loads(said["classes"]) == ["rising", "clicks", "flutter"]
    assert said["readout"] == "last" and said["run"] == "small_cnn" and said["dataset"] == "toy"
    assert json.loads(said["frontend"]) == FRONTEND


def test_history_and_cost(trained: Trained, wanted: Wanted) -> None:
    run = trained(wanted())
    rows = history(run)
    columns = "epoch,step,time,seconds,lr,loss,loss_hard,loss_soft,grad_norm,clips_per_second"
    assert ",".join(rows[0]) == columns
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    # 18 clips in batches of 5: four steps an epoch; the rate drops at epochs 2 and 3.
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.003, 0.0015, 0.00075])
    assert rows[0]["loss_soft"] == ""
    cost = files.read_json(run / "cost.json")
    assert cost["device"] == "cpu" and cost["threads"] == 1 and cost["precision"] == "float32"
    assert cost["attempts"] == 1 and cost["teaching"] is None
    weights = load_file(run / "weights.safetensors")
    trainable = [v for k, v in weights.items() if "running" not in k and "num_" not in k]
    buffers = 2  # the normalisation's mean and scale
    assert cost["parameters"] == sum(v.numel() for v in trainable) - buffers
    assert cost["flops"] > 0 and cost["peak_memory"] > 1e6 and cost["clips_per_second"] > 0
    phases = [value for key, value in cost["seconds"].items() if key != "total"]
    assert cost["seconds"]["total"] == pytest.approx(sum(phases))
    assert cost["device_hours"] == pytest.approx(cost["seconds"]["total"] / 3600)


def test_it_says_what_was_decided_and_a_line_an_epoch(trained, wanted, capsys) -> None:
    trained(wanted())
    lines = capsys.readouterr().out.splitlines()
    assert any("small_cnn on toy, fold 1, seed 0" in line for line in lines)
    assert any("18 for training, 0 for validation" in line for line in lines)
    assert sum(line.startswith("epoch ") for line in lines) == 3


def test_no_test_clip_is_read(trained, wanted, data, monkeypatch) -> None:
    read, wave = set(), Clips.wave
    monkeypatch.setattr(Clips, "wave", lambda self, i: (read.add(int(i)), wave(self, i))[1])
    peeking = {"training.readouts": ["checkpoints", "peek"], "training.average": [2, 3]}
    trained(wanted(**{"input.mixup": 0.5}, **peeking))
    assert read == set(Clips(data.single).subset(1, "train").tolist())


def test_batch_size_changes_no_view(trained, wanted, monkeypatch) -> None:
    seen: dict[str, list] = {}
    from cmkd.audio.views import Epoch

    batch = Epoch.batch
    for name, size in (("five", 5), ("nine", 9)):
        monkeypatch.setattr(
            Epoch,
            "batch",
            lambda self, a, b, name=name: (
                found := batch(self, a, b),
                seen.setdefault(name, []).append(found.student),
            )[0],
        )
        trained(wanted(name, **{"training.batch": size}), name)
    assert torch.equal(torch.cat(seen["five"]), torch.cat(seen["nine"]))


def test_a_student_is_taught_and_the_teacher_is_unchanged(trained, wanted, taught) -> None:
    teacher = trained(wanted("teacher"), "teacher")
    before = files.sha256_file(teacher / "weights.safetensors")
    run = trained(wanted("student", **taught(teacher)), "student", teacher=teacher)
    assert files.sha256_file(teacher / "weights.safetensors") == before
    assert files.read_json(run / "inputs.json")["teacher"] == before
    for row in history(run):
        parts = float(row["loss_hard"]), float(row["loss_soft"])
        assert float(row["loss"]) == pytest.approx(sum(parts) / 2)
    assert files.read_json(run / "cost.json")["teaching"] == "live"


def test_one_teacher_of_another_recipe_names_both(trained, wanted, taught) -> None:
    teacher = trained(wanted("teacher"), "teacher")
    changes = taught(teacher)
    trained(wanted("teacher", **{"training.lr": 0.004}), "teacher")
    with pytest.raises(RunError, match=f"recipe {changes['teacher']['recipe']}, but .* holds"):
        trained(wanted("student", **changes), "student", teacher=teacher)


def test_a_teacher_with_another_front_end_names_both(trained, wanted, taught, data) -> None:
    teacher = trained(wanted("teacher"), "teacher")
    stats = files.read_json(data.single / "stats.json")
    stats["frontend"]["frames"] = 20
    files.write_json(teacher.parent / "stats.json", stats)
    changes = taught(teacher) | {"input.frames": 20}
    with pytest.raises(ConfigError, match="frames is 20 for ast@small_cnn and 24 for its teacher"):
        trained(
            wanted("student", **changes), "student",
            teacher=teacher, statistics=teacher.parent / "stats.json",
        )  # fmt: skip


def test_readouts_with_validation(trained, wanted, multi, data) -> None:
    changes = multi | {
        "training.readout": "best",
        "training.readouts": ["last", "averaged"],
        "training.average": [2, 3],
        "training.schedule": {"kind": "plateau", "patience": 0, "factor": 0.5},
    }
    run = trained(wanted(**changes), prepared=data.multi)
    names = {path.name for path in run.glob("weights*.safetensors")}
    assert names == {
        "weights.safetensors",
        "weights-last.safetensors",
        "weights-averaged.safetensors",
    }
    rows = history(run)
    assert {"val_map", "val_auc", "val_d_prime"} <= set(rows[0])
    last, averaged = (
        load_file(run / f"weights-{name}.safetensors") for name in ("last", "averaged")
    )
    assert last.keys() == averaged.keys()
    assert any(not torch.equal(last[key], averaged[key]) for key in last)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"training.readout": "best"}, "'best' needs a validation split"),
        (
            {"training.schedule": {"kind": "plateau", "patience": 1, "factor": 0.5}},
            "'plateau' needs a validation split",
        ),
        ({"training.optimiser": "sgd"}, "optimiser 'sgd' is not known"),
        ({"objective.name": "distil"}, "did you mean 'distill'"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(trained, wanted, changes, text) -> None:
    with pytest.raises(ConfigError, match=text):
        trained(wanted(**changes))


def test_other_classes_or_clips_are_refused(trained, wanted, data, tmp_path) -> None:
    with pytest.raises(DataError, match=r"holds 3 classes, the recipe of small_cnn asks for 50"):
        trained(wanted(**{"dataset.classes": 50}))
    with pytest.raises(DataError, match="was made from other clips"):
        trained(wanted(), statistics=data.multi / "stats.json")
    with pytest.raises(ConfigError, match="was made with mel_bins 16, .* asks for 32"):
        trained(wanted(**{"input.mel_bins": 32}))
    with pytest.raises(DataError, match="cmkd stats"):
        trained(wanted(), statistics=tmp_path / "none.json")


def test_files_of_another_kind_are_refused_in_a_sentence(trained, wanted, tmp_path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("datasets: [toy]\n")
    with pytest.raises(ConfigError, match="no run's recipe: it lacks run, depth, dataset"):
        trained(other)
    for text in ("half a {", "[1, 2]", '{"mean": 1.0}'):
        other.write_text(text)
        with pytest.raises(DataError, match="does not hold a fold's statistics"):
            trained(wanted(), statistics=other)
    with pytest.raises(RunError, match="none.safetensors is not there.* the initial weights"):
        trained(wanted(), initial=tmp_path / "none.safetensors")


def test_a_missing_recipe_and_an_unknown_device_are_named(trained, wanted, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml is not there"):
        trained(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        trained(wanted(), execution={"device": "cuda0"})


def test_a_failure_is_kept_sorted_and_goes_with_success(trained, wanted, tmp_path) -> None:
    with pytest.raises(TrainingError, match="no longer finite at epoch 1, step 1"):
        trained(wanted(**{"training.lr": 1e30}))
    failure = files.read_json(tmp_path / "run" / "state" / "failure.json")
    assert failure["kind"] == "non-finite" and failure["stage"] == "train"
    assert failure["recipe"] == files.sha256_file(wanted(**{"training.lr": 1e30}))[:16]
    assert "step 1" in failure["message"]
    run = trained(wanted())
    assert not (run / "state" / "failure.json").exists()


def test_a_loss_at_chance_is_warned_of(trained, wanted, capsys) -> None:
    run = trained(wanted(**{"training.lr": 1e-9}))
    (text,) = files.read_json(run / "cost.json")["warnings"]
    assert "never left chance" in text
    assert f"warning: {text}" in capsys.readouterr().out


def test_chance_by_hand() -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    entropy = -(0.75 * torch.tensor(0.75).log() + 0.25 * torch.tensor(0.25).log()).item()
    single = outputs.chance_loss(targets, {"labels": "single"})
    multi = outputs.chance_loss(targets, {"labels": "multi"})
    assert single == pytest.approx(entropy, abs=1e-6)
    assert multi == pytest.approx(entropy, abs=1e-6)
    # Drawn three times as often, the rare class is as frequent as the other.
    shares = torch.tensor([1.0, 1.0, 1.0, 3.0])
    assert outputs.chance_loss(targets, {"labels": "single"}, shares) == pytest.approx(math.log(2))


def test_chance_of_many_clips_in_pieces_is_that_of_all_at_once(monkeypatch) -> None:
    table = (np.random.default_rng(0).random((30, 4)) < 0.4).astype(np.uint8)
    rows, options = np.arange(3, 29), {"labels": "multi", "smoothing": 0.1}
    shares = np.random.default_rng(1).random(len(rows))
    wanted = outputs.chance_loss(torch.from_numpy(table[rows]).float(), options,
                                 torch.from_numpy(shares))  # fmt: skip
    monkeypatch.setattr(outputs, "PIECE", 7)
    found = outputs.chance_loss(outputs._frequencies(table, rows, shares), options)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_outputs_swept_away_are_only_written_again(trained, wanted, monkeypatch) -> None:
    run = trained(wanted())
    weights = (run / "weights.safetensors").read_bytes()
    for name in ("weights.safetensors", "history.csv", "cost.json", "inputs.json", "recipe.yaml"):
        (run / name).unlink()
    monkeypatch.setattr(fit, "_step", None)
    trained(wanted())
    assert (run / "weights.safetensors").read_bytes() == weights
    assert len(history(run)) == 3
    assert files.read_json(run / "cost.json")["attempts"] == 2


def test_another_recipe_begins_anew_and_removes_old_numbers(trained, wanted) -> None:
    run = trained(wanted())
    (run / "metrics.json").write_text("{}")
    before = (run / "weights.safetensors").read_bytes()
    trained(wanted(**{"training.lr": 0.004}))
    assert (run / "weights.safetensors").read_bytes() != before
    assert not (run / "metrics.json").exists()
    assert (run / "state" / "aside").is_dir()
    assert files.read_json(run / "cost.json")["attempts"] == 1


def test_sigterm_saves_and_stops_and_the_same_again_ends_it(trained, wanted, monkeypatch) -> None:
    whole = (trained(wanted(), "whole") / "weights.safetensors").read_bytes()
    step = fit._step

    def killed(task, state, *rest) -> None:
        step(task, state, *rest)
        if state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit, "_step", killed)
    with pytest.raises(Stopped, match="after step 6"):
        trained(wanted())
    monkeypatch.setattr(fit, "_step", step)
    run = trained(wanted())
    assert (run / "weights.safetensors").read_bytes() == whole
    assert not (run / "state" / "failure.json").exists()


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals.stopping() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_published_statistics_are_the_models_alone(trained, wanted) -> None:
    rule = {"statistics": "published", "factor": 2.0, "mean": -4.0, "std": 3.0}
    run = trained(wanted(**{"model.normalise": rule}))
    weights = load_file(run / "weights.safetensors")
    assert (weights["mean"].item(), weights["scale"].item()) == (-4.0, 6.0)


def test_initial_weights_of_a_run(trained, wanted, data) -> None:
    first = trained(wanted("first"), "first")
    digest = files.sha256_file(first / "recipe.yaml")[:16]
    changes = {
        "run": "second",
        "model.weights": "run:toy/small_cnn",
        "initial": {"run": "small_cnn", "dataset": "toy", "recipe": digest},
        "training.lr": 0.0,
    }
    initial = first / "weights.safetensors"
    run = trained(wanted("second", **changes), "second", initial=initial)
    old, new = (load_file(path / "weights.safetensors") for path in (first, run))
    assert torch.equal(old["model.features.0.0.weight"], new["model.features.0.0.weight"])
    assert files.read_json(run / "inputs.json")["initial"] == files.sha256_file(initial)
    with pytest.raises(RunError, match="with fold 1, second, which starts from it, needs fold 2"):
        stats = data.single / "stats2.json"
        trained(wanted("second", **changes), "x", initial=initial, fold=2, statistics=stats)
    changes["initial"]["recipe"] = "0" * 16
    with pytest.raises(RunError, match=f"recipe {'0' * 16}, but .* is of recipe {digest}"):
        trained(wanted("third", **changes), "third", initial=initial)
    with pytest.raises(RunError, match="starts from toy/small_cnn: give its weights"):
        trained(wanted("third", **changes), "third")


def test_a_scored_run_is_left_as_it_is(trained, wanted, data, capsys) -> None:
    from cmkd.scoring.evaluate import evaluate

    run = trained(wanted())
    evaluate(run, data.single, CPU)
    times = {path.name: path.stat().st_mtime_ns for path in run.iterdir() if path.is_file()}
    capsys.readouterr()
    trained(wanted())
    assert "done already" in capsys.readouterr().out
    for name, before in times.items():
        assert (run / name).stat().st_mtime_ns == before
