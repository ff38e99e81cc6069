"""Which epochs' weights are kept, and what is done with those of another training."""

from pathlib import Path

import pytest
import torch
from torch import nn

from cmkd.scoring.epochs import EpochWeights, wanted

PEEK = {"epochs": 4, "readouts": ["peek"]}


def net(value: float) -> nn.Module:
    model = nn.Linear(2, 3, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def kept(run: Path, identity: str = "a", **changes: object) -> EpochWeights:
    return EpochWeights(run, {"recipe": identity}, PEEK | changes)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "state" / "epochs").glob("*"))


@pytest.mark.parametrize(
    ("readouts", "epochs"),
    [
        ([], []),
        (["averaged", "best"], []),
        (["checkpoints"], [2, 3]),
        (["peek"], [1, 2, 3, 4]),
        (["checkpoints", "peek"], [1, 2, 3, 4]),
    ],
)
def test_no_more_epochs_are_kept_than_needed(readouts: list[str], epochs: list[int]) -> None:
    training = {"epochs": 4, "average": [2, 3], "readout": "last", "readouts": readouts}
    assert list(wanted(training)) == epochs


def test_epochs_outside_are_not_written(tmp_path: Path) -> None:
    some = kept(tmp_path, readouts=["checkpoints"], average=[2, 3])
    for epoch in (1, 2, 3, 4):
        some.save(epoch, net(epoch))
    assert names(tmp_path) == ["epoch-0002.safetensors", "epoch-0003.safetensors"]
    assert some.complete()


def test_weights_come_back_in_order(tmp_path: Path) -> None:
    for epoch in (4, 2, 1, 3):
        kept(tmp_path).save(epoch, net(epoch))
    found = [(epoch, m.weight[0, 0].item()) for epoch, m in kept(tmp_path).models(net(0.0))]
    assert found == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_an_epoch_again_is_the_same_bytes_and_one_file(tmp_path: Path) -> None:
    kept(tmp_path).save(1, net(0.5))
    before = kept(tmp_path).path(1).read_bytes()
    kept(tmp_path).save(1, net(0.5))
    assert kept(tmp_path).path(1).read_bytes() == before and len(names(tmp_path)) == 1


def test_resuming_drops_what_lies_behind_the_checkpoint_and_halves(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        kept(tmp_path).save(epoch, net(epoch))
    (tmp_path / "state" / "epochs" / ".new-half.safetensors").write_bytes(b"half")
    assert kept(tmp_path).resume(2)
    assert names(tmp_path) == ["epoch-0001.safetensors", "epoch-0002.safetensors"]
    assert not kept(tmp_path).complete()


@pytest.mark.parametrize("spoil", ["lost", "cut", "other"])
def test_an_epoch_that_is_lost_cut_or_of_another_training_counts_as_lost(
    tmp_path: Path, spoil: str
) -> None:
    for epoch in (1, 2):
        kept(tmp_path, "b" if spoil == "other" else "a").save(epoch, net(epoch))
    path = kept(tmp_path).path(2)
    if spoil == "lost":
        path.unlink()
    elif spoil == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    assert not kept(tmp_path).has(2)
    assert not kept(tmp_path).resume(2)
    assert kept(tmp_path).resume(0) and not names(tmp_path)


def test_without_such_readouts_nothing_is_written(tmp_path: Path) -> None:
    none = kept(tmp_path, readouts=[])
    none.save(1, net(1.0))
    assert none.resume(1) and none.complete() and not (tmp_path / "state").exists()


def test_keeping_takes_nothing_from_the_generator(tmp_path: Path) -> None:
    model = net(1.0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    kept(tmp_path).save(1, model)
    assert torch.equal(torch.get_rng_state(), before)
