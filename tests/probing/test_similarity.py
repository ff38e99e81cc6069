"""Linear CKA against its other form, its invariances, and the layers of every kind of model."""

import numpy as np
import pytest
import torch

from cmkd import models
from cmkd.models.build import build_part
from cmkd.models.normalise import Normalised
from cmkd.probing import similarity

RANDOM = np.random.default_rng(0)
ONE, OTHER = RANDOM.normal(size=(60, 8)), RANDOM.normal(size=(60, 5))
CNN = {"builder": "small_cnn", "widths": [4, 8, 8], "head": "mean"}
AST = {"builder": "ast", "trunk": "plain", "dim": 12, "depth": 3, "heads": 2,
       "patch": [16, 4], "stride": [16, 4]}  # fmt: skip


def by_channels(one: np.ndarray, other: np.ndarray) -> float:
    """Return CKA from the products of channels: equation 4 of Kornblith et al. as printed."""
    x, y = (values - values.mean(axis=0) for values in (one, other))
    top = np.linalg.norm(y.T @ x) ** 2
    return float(top / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def test_it_is_the_published_number() -> None:
    assert similarity.linear_cka(ONE, OTHER) == pytest.approx(by_channels(ONE, OTHER))


def test_rotation_scale_and_offset_change_nothing() -> None:
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(8, 8)))
    assert similarity.linear_cka(ONE, 3 * ONE @ rotation + 5) == pytest.approx(1)


def test_features_that_do_not_vary_have_none() -> None:
    constant = np.ones((60, 4))
    assert np.isnan(similarity.linear_cka(ONE, constant))
    table = similarity.compare({"a": ONE}, {"b": constant, "c": ONE})
    assert table["values"] == [[None, pytest.approx(1)]]


@pytest.mark.parametrize("part, count", [(CNN, 3), (AST, 3)])
def test_every_layer_gives_one_row_a_clip(part: dict, count: int) -> None:
    model = Normalised(build_part(part, 4, 24, 16), 0.0, 1.0)
    views = torch.randn(7, 24, 16)
    found = similarity.features(model, views.split(3))
    assert len(found) == count
    assert {len(values) for values in found.values()} == {7}
    whole = similarity.features(model, [views])
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], atol=1e-5)


@pytest.mark.parametrize("name", ["effnet_b0", "resnet50", "densenet121", "convnext_tiny"])
def test_published_models_have_layers(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name, 5, 100)
    assert len(similarity.layers(model)) >= 4


def test_no_hook_stays() -> None:
    model = build_part(CNN, 4, 24, 16)
    similarity.features(model, [torch.randn(2, 24, 16)])
    assert not any(module._forward_hooks for module in model.modules())


def test_depth_is_relative() -> None:
    values = [[1.0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 2.0, 0.7, 0.8], [0.1, 0.1, 0.1, 0.1, 3.0]]
    assert similarity.by_depth(values) == [1.0, 2.0, 3.0]
    assert similarity.by_depth([[0.1, 0.9]]) == [0.9]
