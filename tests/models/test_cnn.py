import pytest
import timm
import torch

from cmkd.errors import ConfigError
from cmkd.models import build_part


def _part(**options):
    return {"builder": "cnn", "backbone": "efficientnet_b0", **options}


@pytest.mark.parametrize("stem, share", [("sum", 1.0), ("mean", 1 / 3)])
def test_mean_pooling_is_timms_own_forward(stem, share):
    """timm's EfficientNet pools by mean and classifies by one linear layer: so does ours."""
    torch.manual_seed(0)
    source = timm.create_model("efficientnet_b0").eval()
    model = build_part(_part(stem=stem), 1000, 96, 64).eval()
    model.adopt_timm(source)
    model.head.linear.load_state_dict(source.classifier.state_dict())
    view = torch.randn(2, 96, 64)
    image = share * view.transpose(1, 2).unsqueeze(1).expand(-1, 3, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(model(view), source(image), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "densenet121"])
@pytest.mark.parametrize("head", ["mean", "attention"])
def test_any_timm_cnn_builds(name, head):
    with torch.device("meta"):
        model = build_part(_part(backbone=name, head=head), 5, 96, 64)
        assert model(torch.empty(2, 96, 64)).shape == (2, 5)


def test_drop_path_follows_the_seed():
    model = build_part(_part(drop_path=0.5), 3, 64, 64)
    views, drawn = torch.randn(4, 64, 64), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(views))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backbone": "efficientnet_bo"}, "no backbone 'efficientnet_bo', did you mean"),
        ({"backbone": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224"),
        ({"backbone": "densenet121", "drop_path": 0.1}, "cannot take drop_path_rate"),
        ({"head": "atention"}, "did you mean 'attention'"),
        ({"heads": 0}, "heads is 0"),
        ({"heads": True}, "heads is True"),
        ({"dropout": "much"}, "dropout is 'much'"),
        ({"bakcbone": "resnet18"}, "no option 'bakcbone', did you mean 'backbone'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_part(_part(**options), 10, 224, 224)


def test_a_missing_backbone_is_named():
    with pytest.raises(ConfigError, match="needs the option 'backbone'"):
        build_part({"builder": "cnn"}, 10, 64, 64)
