"""checkpoints and peek: from training's weights by epoch to scores, and when those are gone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, average_precision_score

from cmkd import files
from cmkd.audio import views
from cmkd.data.clips import Clips
from cmkd.errors import ConfigError, RunError, Stopped
from cmkd.models import weights
from cmkd.scoring.evaluate import evaluate
from cmkd.scoring.scores import write_npz

CPU = {"device": "cpu", "threads": 1}
ALL = ("scores.npz", "scores-checkpoints.npz", "scores-peek.npz", "scores-epochs.npz")
CHANGES = {
    "training.epochs": 4,
    "training.readouts": ["checkpoints", "peek"],
    "training.average": [2, 3],
    "training.lr": 0.02,
}


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def by_hand(run: Path, prepared: Path, fold: int) -> torch.Tensor:
    """Return the test logits [epochs, clips, classes] from the epochs' weights themselves."""
    clips = Clips(prepared)
    model, recipe = weights.load_run(run)
    test = clips.subset(fold, "test")
    bank = torch.stack([views.plain(clips, int(index), recipe["input"]) for index in test])
    found = []
    for epoch in range(1, 5):
        model.load_state_dict(
            load_file(run / "state" / "epochs" / f"epoch-{epoch:04d}.safetensors")
        )
        with torch.no_grad():
            found.append(model(bank))
    return torch.stack(found).double()


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_scores_are_those_of_the_epochs_weights(trained, wanted, multi, data, kind: str) -> None:
    prepared, fold = (data.single, 1) if kind == "single" else (data.multi, 0)
    run = trained(wanted(**CHANGES | (multi if kind == "multi" else {})), prepared=prepared)
    logits = by_hand(run, prepared, fold)
    evaluate(run, prepared, CPU)
    turn = (lambda x: x.softmax(-1)) if kind == "single" else torch.sigmoid

    mean = arrays(run / "scores-checkpoints.npz")
    expected = turn(logits[1:3]).mean(0).numpy()
    found = turn(torch.from_numpy(mean["logits"])).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert mean["epochs"].tolist() == [2, 3]

    def metric(scores: np.ndarray) -> float:
        targets = mean["targets"]
        if kind == "multi":
            return float(average_precision_score(targets, scores, average="macro"))
        return float(accuracy_score(targets.argmax(1), scores.argmax(1)))

    values = [metric(epoch.numpy()) for epoch in logits]
    table = arrays(run / "scores-epochs.npz")
    np.testing.assert_allclose(table["values"], values, atol=1e-12)
    assert table["epochs"].tolist() == [1, 2, 3, 4]
    assert len(set(values)) > 1  # else any epoch is the best
    best = int(np.argmax(values))
    np.testing.assert_allclose(
        arrays(run / "scores-peek.npz")["logits"], logits[best], rtol=1e-4, atol=1e-5
    )

    told = files.read_json(run / "metrics.json")["readouts"]
    assert list(told) == ["last", "checkpoints", "peek"]
    assert told["peek"]["value"] == pytest.approx(max(values), abs=1e-12)
    assert told["peek"]["value"] >= table["values"].max()
    assert told["peek"]["epochs"] == [best + 1] and told["peek"]["weights"] is None
    assert told["checkpoints"]["value"] == pytest.approx(metric(expected), abs=1e-12)
    assert told["last"]["value"] == pytest.approx(values[-1], abs=1e-12)
    assert {path.name for path in run.glob("weights*")} == {"weights.safetensors"}


@pytest.fixture
def scored(trained, wanted, data) -> Path:
    run = trained(wanted(**CHANGES))
    evaluate(run, data.single, CPU)
    return run


def test_the_epochs_go_with_the_state_and_their_scores_are_kept(scored: Path, data) -> None:
    assert not (scored / "state").exists()
    before = {name: (scored / name).read_bytes() for name in (*ALL, "metrics.json")}
    for name in ("metrics.json", "scores.npz"):  # what Snakemake removes before it runs the job
        (scored / name).unlink()
    evaluate(scored, data.single, CPU)
    assert {name: (scored / name).read_bytes() for name in before} == before


def test_with_the_epochs_there_scoring_again_gives_the_same_bytes(trained, wanted, data) -> None:
    run = trained(wanted(**CHANGES))
    state = shutil.copytree(run / "state", run.parent / "state")
    evaluate(run, data.single, CPU)
    before = {name: (run / name).read_bytes() for name in (*ALL, "metrics.json")}
    shutil.copytree(state, run / "state")
    (run / "scores-peek.npz").unlink()
    evaluate(run, data.single, CPU)
    assert {name: (run / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("spoil", ["lost", "damaged", "of another training"])
def test_scores_that_cannot_be_made_again_end_in_a_sentence(scored, data, spoil: str) -> None:
    path = scored / "scores-checkpoints.npz"
    found = arrays(path)
    if spoil == "lost":
        path.unlink()
    elif spoil == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    else:
        write_npz(path, found | {"made_from": np.array("0" * 64)})
    text = "no longer has the weights of its epochs, which readout checkpoints is made of"
    with pytest.raises(RunError, match=text) as error:
        evaluate(scored, data.single, CPU)
    assert "weights.safetensors and train this run again" in str(error.value)
    assert not str(error.value).count("\n")


def test_a_run_without_such_scores_is_not_done(scored: Path, trained, wanted, data) -> None:
    before = {name: (scored / name).read_bytes() for name in (*ALL, "metrics.json")}
    trained(wanted(**CHANGES))
    assert (scored / "metrics.json").exists()  # done already
    (scored / "scores-peek.npz").unlink()
    trained(wanted(**CHANGES))
    assert not (scored / "metrics.json").exists()
    evaluate(scored, data.single, CPU)
    assert {name: (scored / name).read_bytes() for name in before} == before


def test_a_lost_epoch_begins_the_training_anew_with_the_same_bits(
    trained, wanted, data, monkeypatch, capsys
) -> None:
    whole = trained(wanted(**CHANGES), "whole")
    evaluate(whole, data.single, CPU)
    stop_after(9, monkeypatch)
    with pytest.raises(Stopped):
        trained(wanted(**CHANGES), "cut", execution=CPU | {"checkpoint_steps": 3})
    monkeypatch.undo()
    cut = whole.parent / "cut"
    kept = cut / "state" / "epochs"
    assert sorted(p.name for p in kept.iterdir()) == [f"epoch-000{e}.safetensors" for e in (1, 2)]
    (kept / "epoch-0001.safetensors").unlink()
    trained(wanted(**CHANGES), "cut")
    assert "weights of earlier epochs are lost, so the training begins anew" in (
        capsys.readouterr().out
    )
    evaluate(cut, data.single, CPU)
    assert [(cut / n).read_bytes() for n in ALL] == [(whole / n).read_bytes() for n in ALL]


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the training told after so many steps that its time is up."""
    from cmkd.learning import fit

    original, count = fit._step, iter(range(1, 1000))

    def step(task, *given) -> None:
        original(task, *given)
        if next(count) == steps:
            task.stop = lambda: True

    monkeypatch.setattr(fit, "_step", step)


def test_epochs_are_kept_only_where_they_are_wanted(trained, wanted) -> None:
    run = trained(wanted("none"), "none")
    assert not (run / "state" / "epochs").exists()
    some = wanted("some", **CHANGES | {"training.readouts": ["checkpoints"]})
    kept = trained(some, "some") / "state" / "epochs"
    assert sorted(p.name for p in kept.iterdir()) == [f"epoch-000{e}.safetensors" for e in (2, 3)]


def test_keeping_epochs_changes_no_bit_of_the_weights(trained, wanted) -> None:
    plain = {key: value for key, value in CHANGES.items() if "readouts" not in key}
    one, other = trained(wanted("a", **plain), "a"), trained(wanted("b", **CHANGES), "b")
    first, second = (load_file(run / "weights.safetensors") for run in (one, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_without_a_plan_a_peeking_headline_is_refused_too(trained, wanted) -> None:
    with pytest.raises(ConfigError, match="'peek' has no weights, so it cannot be the headline"):
        trained(wanted(**{"training.readout": "peek"}))
