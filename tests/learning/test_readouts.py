"""Readouts: last, averaged, best, and what is kept for checkpoints and peek."""

import numpy as np
import pytest
import torch
from torch import nn

from cmkd.errors import ConfigError
from cmkd.learning.readouts import Readouts, wanted, with_weights


def training(**changes) -> dict:
    return {"epochs": 4, "readout": "last", "readouts": []} | changes


def net(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(value + torch.arange(weight.numel()).view_as(weight) / 7)
    model[1].num_batches_tracked.fill_(int(10 * value))
    return model


def test_average_is_the_mean_over_the_inclusive_range() -> None:
    chosen = Readouts(training(readout="averaged", average=[2, 4]), validated=False)
    nets = [net(value) for value in (9.0, 1.0, 2.0, 4.0)]
    for epoch, model in enumerate(nets, 1):
        chosen.end_epoch(epoch, model, None)
    found = chosen.weights("averaged", nets[-1])
    stack = np.stack([model[0].weight.detach().numpy() for model in nets[1:]])
    np.testing.assert_allclose(found["0.weight"].numpy(), stack.mean(0), rtol=1e-6)
    assert found["1.num_batches_tracked"].item() == 40
    assert found["1.num_batches_tracked"].dtype == torch.int64
    nets[-1].load_state_dict(found)


def test_best_keeps_the_first_best_epoch() -> None:
    chosen = Readouts(training(readout="best"), validated=True)
    for epoch, (value, score) in enumerate([(1.0, 0.2), (2.0, 0.7), (3.0, 0.7), (4.0, 0.1)], 1):
        chosen.end_epoch(epoch, net(value), score)
    assert chosen.best_epoch == 2
    assert torch.equal(chosen.weights("best", net(0.0))["0.weight"], net(2.0)[0].weight)


def test_last_is_the_model_itself() -> None:
    chosen = Readouts(training(), validated=False)
    chosen.end_epoch(1, net(1.0), None)
    assert torch.equal(chosen.weights("last", net(3.0))["0.bias"], net(3.0)[0].bias)
    assert not chosen.sums and not chosen.best


def test_best_without_validation_is_refused() -> None:
    with pytest.raises(ConfigError, match="'best' needs a validation split"):
        Readouts(training(readouts=["best"]), validated=False)


@pytest.mark.parametrize("average", [[0, 2], [3, 2], [2, 5]])
def test_a_range_outside_the_epochs_is_refused(average: list[int]) -> None:
    with pytest.raises(ConfigError, match="must lie within epochs 1 to 4"):
        Readouts(training(readout="averaged", average=average), validated=False)


def test_headline_first_each_once() -> None:
    assert wanted(training(readout="last", readouts=["averaged", "last"])) == ("last", "averaged")


def test_an_unknown_readout_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'averaged'"):
        wanted(training(readout="average"))


@pytest.mark.parametrize("name", ["checkpoints", "peek"])
def test_a_readout_without_weights_is_no_headline(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' has no weights, so it cannot be the headline"):
        Readouts(training(readout=name, average=[1, 2]), validated=True)
    assert with_weights(wanted(training(readouts=["best", name]))) == ("last", "best")


def test_every_epoch_is_offered_to_be_kept() -> None:
    chosen, seen = Readouts(training(readouts=["peek"]), validated=False), []
    chosen.keep = lambda epoch, model: seen.append(epoch)
    for epoch in (1, 2, 3, 4):
        chosen.end_epoch(epoch, net(1.0), None)
    assert seen == [1, 2, 3, 4]
    assert not chosen.sums and not chosen.best


def test_the_range_of_checkpoints_lies_within_the_epochs_and_sums_no_weights() -> None:
    with pytest.raises(ConfigError, match="must lie within epochs 1 to 4"):
        Readouts(training(readouts=["checkpoints"], average=[2, 5]), validated=False)
    chosen = Readouts(training(readouts=["checkpoints"], average=[1, 2]), validated=False)
    chosen.end_epoch(1, net(1.0), None)
    assert not chosen.sums
