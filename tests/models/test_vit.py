"""The plain trunk against timm's blocks, dropping against its definition."""

import pytest
import timm.layers
import torch
from timm.models.vision_transformer import VisionTransformer

from cmkd.models import build_part, vit

PLAIN = {"builder": "ast", "trunk": "plain", "dim": 48, "depth": 3, "heads": 3, "patch": [16, 4]}


def test_blocks_are_timms():
    torch.manual_seed(0)
    timms = VisionTransformer(embed_dim=48, depth=3, num_heads=3, num_classes=0, img_size=32)
    ours = vit.blocks(dim=48, depth=3, heads=3)
    ours.load_state_dict(timms.blocks.state_dict())
    tokens = torch.randn(2, 7, 48)
    torch.testing.assert_close(ours(tokens), timms.blocks(tokens), rtol=1e-5, atol=1e-5)


def test_drop_path_is_timms_for_the_same_draws():
    branch = torch.randn(50, 4, 3)
    torch.manual_seed(5)
    ours = vit.DropPath(0.3)(branch)
    torch.manual_seed(5)
    timms = timm.layers.DropPath(0.3)(branch)
    torch.testing.assert_close(ours, timms)
    assert (ours == 0).all(dim=(1, 2)).any() and (ours != 0).all(dim=(1, 2)).any()


def test_drop_path_rates_grow_from_zero():
    rates = [block.drop_path.rate for block in vit.blocks(8, 3, 2, drop_path=0.2)]
    assert rates == pytest.approx([0.0, 0.1, 0.2])
    assert [block.drop_path.rate for block in vit.blocks(8, 1, 2, drop_path=0.2)] == [0.0]


@pytest.mark.parametrize("dropping", [{"dropout": 0.3}, {"drop_path": 0.5}])
def test_dropping_follows_the_seed_and_ends_in_eval_mode(dropping):
    model = build_part({**PLAIN, **dropping}, 4, 40, 32)
    views = torch.randn(8, 40, 32)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(views))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(model.eval()(views), model(views))
