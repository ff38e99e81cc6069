"""Parameters and operations against numbers worked by hand; test_contract has the published."""

import torch
from torch import nn

from cmkd.models import build_part, count_parameters, flops


def test_operations_of_a_linear_layer_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(5 * 4, 7))
    assert flops(model, frames=5, mel_bins=4) == 2 * 5 * 4 * 7


def test_operations_of_attention_by_hand():
    dim, tokens = 24, 1 + 2 * 4
    part = {"builder": "ast", "trunk": "plain", "dim": dim, "depth": 1, "heads": 2}
    model = build_part({**part, "patch": [8, 8], "stride": [8, 8]}, 3, 32, 16)
    block = 2 * tokens * 12 * dim**2 + 2 * 2 * tokens**2 * dim
    assert flops(model, 32, 16) == block + 2 * 8 * 64 * dim + 2 * dim * 3


def test_measuring_leaves_the_model_as_it_was():
    model = build_part({"builder": "small_cnn"}, 3, 32, 16).train()
    model.features[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flops(model, 32, 16)
    assert model.training and not model.features[0].training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_frozen_parameters_count_and_buffers_do_not():
    model = nn.BatchNorm1d(5).requires_grad_(False)
    assert count_parameters(model) == 10
