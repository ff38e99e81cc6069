"""AST against timm's own forward pass and against AST's published position rule."""

import pytest
import timm
import torch
import torch.nn.functional as F

from cmkd.errors import ConfigError
from cmkd.models import build_part
from cmkd.models.ast import resize_positions

TINY = "deit_tiny_distilled_patch16_224"


def _part(**options):
    return {"builder": "ast", "trunk": TINY, **options}


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(0)
    return timm.create_model(TINY).eval()


@pytest.mark.parametrize("token, last", [("cls", 1), ("cls_dist", 2)])
@pytest.mark.parametrize("stem, share", [("sum", 1.0), ("mean", 1 / 3)])
def test_at_the_native_geometry_it_is_timms_forward(source, token, last, stem, share):
    model = build_part(_part(stride=[16, 16], token=token, stem=stem), 7, 224, 224).eval()
    model.adopt_timm(source)
    view = torch.randn(2, 224, 224)
    image = share * view.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = model.head(source.forward_features(image)[:, :last].mean(dim=1))
        torch.testing.assert_close(model(view), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
def test_other_trunks_are_timms_forward_too(name):
    torch.manual_seed(0)
    source = timm.create_model(name).eval()
    model = build_part(_part(trunk=name, stride=[16, 16], stem="sum"), 3, 224, 224).eval()
    model.adopt_timm(source)
    view = torch.randn(1, 224, 224)
    image = view.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = model.head(source.forward_features(image)[:, 0])
        torch.testing.assert_close(model(view), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames, time", [(1000, 99), (512, 50), (1024, 101), (64, 5)])
def test_patches_overlap_by_six(frames, time):
    with torch.device("meta"):
        model = build_part(_part(), 10, frames, 128)
    assert model.grid == (12, time) and model.positions.shape == (1, 12, time, 192)
    assert model(torch.empty(1, frames, 128, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("grid", [(12, 99), (12, 5), (14, 14), (20, 13), (20, 30), (1, 1)])
def test_positions_follow_asts_rule(grid):
    native = torch.randn(1, 14, 14, 6)
    expected, (frequency, time) = native.permute(0, 3, 1, 2), grid
    if time <= 14:
        expected = expected[:, :, :, 7 - int(time / 2) : 7 - int(time / 2) + time]
    else:
        expected = F.interpolate(expected, size=(14, time), mode="bilinear")
    if frequency <= 14:
        expected = expected[:, :, 7 - int(frequency / 2) : 7 - int(frequency / 2) + frequency]
    else:
        expected = F.interpolate(expected, size=(frequency, time), mode="bilinear")
    torch.testing.assert_close(resize_positions(native, grid), expected.permute(0, 2, 3, 1))


def test_bilinear_positions_worked_by_hand():
    native = torch.tensor([0.0, 4.0]).reshape(1, 1, 2, 1)
    assert resize_positions(native, (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_adopted_positions_and_patches(source):
    model = build_part(_part(), 10, 512, 128)
    model.adopt_timm(source)
    kernel, positions = source.patch_embed.proj.weight, source.pos_embed
    assert torch.equal(model.patches.weight, kernel.mean(dim=1, keepdim=True))
    assert torch.equal(model.prefix_positions, positions[:, :2])
    native = positions[:, 2:].reshape(1, 14, 14, 192)
    torch.testing.assert_close(model.positions, resize_positions(native, (12, 50)))


def test_another_patch_size_resizes_the_projection(source):
    model = build_part(_part(patch=[8, 8], stride=[8, 8]), 10, 64, 64)
    before = model.patches.weight.clone()
    model.adopt_timm(source)
    assert model.patches.weight.shape == (192, 1, 8, 8)
    assert not torch.equal(before, model.patches.weight)


def test_dist_token_of_a_plain_trunk_is_there_only_where_it_is_read():
    sizes = {"trunk": "plain", "dim": 24, "depth": 1, "heads": 2, "patch": [8, 8]}
    alone, both = (build_part(_part(**sizes, token=t), 2, 32, 32) for t in ("cls", "cls_dist"))
    assert (alone.tokens.shape[1], both.tokens.shape[1]) == (1, 2)


def test_other_views_than_it_was_built_for_are_refused():
    sizes = {"trunk": "plain", "dim": 24, "depth": 1, "heads": 2, "patch": [8, 8]}
    model = build_part(_part(**sizes), 2, 32, 32)
    with pytest.raises(
        ConfigError, match=r"built for 3 x 3 patches .* \(1, 64, 32\) make \(3, 6\)"
    ):
        model(torch.zeros(1, 64, 32))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trunk": "deit_tinny_distilled_patch16_224"}, f"did you mean '{TINY}'"),
        ({"trunk": "resnet18"}, "no ViT or DeiT with class token"),
        ({"trunk": "vit_tiny_patch16_224", "token": "cls_dist"}, "needs a distilled trunk"),
        ({"token": "clss"}, "did you mean 'cls'"),
        ({"stem": "avg"}, "stem has no choice 'avg'"),
        ({"patch": [16]}, "patch is .* must be a list of 2 whole numbers"),
        ({"stride": [10, 0]}, "stride is 0"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"patch": [200, 16]}, "a patch of 200 does not fit mel_bins 128"),
        ({"dim": 96}, "dim is set by the trunk"),
        ({"trunk": "plain", "dim": 50, "heads": 4}, "dim 50 is not a multiple of heads 4"),
        ({"trunk": "plain", "dept": 2}, "no option 'dept', did you mean 'depth'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_part(_part(**options), 10, 64, 128)
