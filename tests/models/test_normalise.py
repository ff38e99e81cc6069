import pytest
import torch
from torch import nn

from cmkd.errors import ConfigError
from cmkd.models import Normalised


def test_it_subtracts_the_mean_and_divides_by_the_scale():
    view = torch.tensor([[[-6.0, -4.0], [0.0, 2.0]]])
    normalised = Normalised(nn.Identity(), mean=-4.0, scale=2 * 2.0)
    assert normalised(view).tolist() == [[[-0.5, 0.0], [1.0, 1.5]]]
    assert view[0, 0, 0] == -6.0


def test_the_map_is_saved_and_not_trained():
    normalised = Normalised(nn.Linear(2, 2), mean=-6.6, scale=5.4)
    assert {"mean", "scale"} < normalised.state_dict().keys()
    assert {name for name, _ in normalised.named_parameters()} == {"model.weight", "model.bias"}


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_above_zero_is_refused(scale):
    with pytest.raises(ConfigError, match="must be above 0"):
        Normalised(nn.Identity(), 0.0, scale)
