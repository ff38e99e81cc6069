"""Parameters and operations against the published counts and numbers worked by hand."""

import pytest
import torch
from torch import nn

from cmkd.models import build_part, count_parameters, flops

B0 = {"builder": "cnn", "backbone": "efficientnet_b0"}
B0_ATTENTION = {**B0, "head": "attention"}
AST_TINY = {"builder": "ast", "trunk": "deit_tiny_distilled_patch16_224"}
COUNTS = [
    *[(B0, c, n) for c, n in [(10, 4019782), (50, 4071022), (200, 4263172), (527, 4682059)]],
    *[(B0_ATTENTION, c, n) for c, n in [(10, 4.11e6), (50, 4.52e6), (200, 6.06e6), (527, 9.41e6)]],
    *[(AST_TINY, c, n) for c, n in [(10, 5619274), (50, 5626994), (200, 5655944), (527, 5719055)]],
]


def _empty(part, classes, frames=1000):
    with torch.device("meta"):
        return build_part(part, classes, frames, 128)


@pytest.mark.parametrize("part, classes, expected", COUNTS)
def test_parameters_are_those_of_the_fact_sheet(part, classes, expected):
    assert count_parameters(_empty(part, classes)) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("part, gflop", [(B0, 1.94), (AST_TINY, 25.8)])
def test_operations_are_those_of_the_fact_sheet(part, gflop):
    assert flops(_empty(part, 527), 1000, 128) / 1e9 == pytest.approx(gflop, rel=0.005)


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
