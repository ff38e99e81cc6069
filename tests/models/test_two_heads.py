"""AST with DeiT's distillation token and a head of its own, against timm's distilled forward."""

import pytest
import timm
import torch

from cmkd import models
from cmkd.errors import ConfigError
from cmkd.models.build import build_part
from cmkd.models.weights import initialise, save

TRUNK = "deit_tiny_distilled_patch16_224"
PART = {"builder": "ast", "patch": [16, 16], "stride": [16, 16]}
PLAIN = {**PART, "trunk": "plain", "dim": 8, "depth": 1, "heads": 2}


def built(classes: int = 3, **options):
    torch.manual_seed(0)
    return build_part({**PLAIN, "token": "two_heads", **options}, classes, 32, 48)


def test_at_the_native_geometry_it_is_timms_distilled_forward() -> None:
    source = timm.create_model(TRUNK, pretrained=False, num_classes=3).eval()
    torch.nn.init.normal_(source.head_dist.weight)
    model = build_part({**PART, "trunk": TRUNK, "token": "two_heads"}, 3, 224, 224).eval()
    model.adopt_timm(source)
    for ours, theirs in (("label", source.head), ("distilled", source.head_dist)):
        getattr(model.head, ours)[0] = torch.nn.Identity()  # AST's own layer norm, absent in DeiT
        getattr(model.head, ours)[1].load_state_dict(theirs.state_dict())
    view = torch.randn(2, 224, 224)
    image = view.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1) / 3
    # The stem averages over three equal channels, where timm sums over them.
    torch.testing.assert_close(model(view), source(image), atol=1e-4, rtol=1e-4)
    source.set_distilled_training(True)
    for ours, theirs in zip(model.train()(view), source.train()(image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_training_gets_both_heads_and_evaluation_their_mean() -> None:
    model, view = built(), torch.randn(2, 32, 48)
    pair = model(view)
    assert pair.label.shape == pair.distilled.shape == (2, 3)
    assert not torch.equal(pair.label, pair.distilled)
    torch.testing.assert_close(model.eval()(view), (pair.label + pair.distilled) / 2)


def test_each_head_reads_its_own_token() -> None:
    model, view = built(depth=1), torch.randn(2, 32, 48)
    seen = {}
    for name in ("label", "distilled"):
        head = getattr(model.head, name)
        head.register_forward_hook(lambda _, inputs, __, name=name: seen.update({name: inputs[0]}))
    model(view)
    assert seen["label"].shape == (2, 8) and not torch.equal(seen["label"], seen["distilled"])


def test_it_costs_one_head_more_than_the_mean_of_both_tokens() -> None:
    both, mean = built(), built(token="cls_dist")
    more = models.count_parameters(both) - models.count_parameters(mean)
    assert more == 2 * 8 + 8 * 3 + 3  # layer norm, linear layer
    assert not any("distilled" in name for name in mean.state_dict())


def test_a_run_with_one_head_starts_the_trunk_of_two(tmp_path) -> None:
    path, one = tmp_path / "weights.safetensors", built(token="cls_dist")
    save(path, one, {})
    two = built()
    initialise(two, {"weights": "run:esc50/one"}, path)
    for name, weight in one.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(two.state_dict()[name], weight), name


def test_a_trunk_without_the_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="token two_heads needs a distilled trunk"):
        build_part({**PART, "trunk": "vit_tiny_patch16_224", "token": "two_heads"}, 3, 224, 224)
