import pytest
import torch
import torch.nn.functional as F

from cmkd.errors import ConfigError
from cmkd.models import build_part


def test_forward_is_its_blocks_written_out():
    torch.manual_seed(0)
    model = build_part({"builder": "small_cnn", "widths": [4, 6]}, 3, 32, 16).eval().double()
    view = torch.randn(2, 32, 16, dtype=torch.float64)
    first, _, second = model.features
    with torch.no_grad():
        features = view.transpose(1, 2).unsqueeze(1)
        for index, block in enumerate((first, second)):
            features = F.conv2d(features, block[0].weight, padding=1)
            features = F.relu(features / (1 + block[1].eps) ** 0.5)
            features = F.avg_pool2d(features, 2) if index == 0 else features
        expected = F.linear(features.mean((2, 3)), model.head.linear.weight, model.head.linear.bias)
        torch.testing.assert_close(model(view), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", ["mean", "attention"])
@pytest.mark.parametrize("frames, mel_bins", [(256, 64), (512, 128), (3, 1), (101, 33)])
def test_any_view_will_do(head, frames, mel_bins):
    model = build_part({"builder": "small_cnn", "head": head}, 3, frames, mel_bins)
    assert model(torch.randn(2, frames, mel_bins)).isfinite().all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"widths": []}, "widths is .* at least one whole number"),
        ({"widths": [16, 1.5]}, "widths is 1.5"),
        ({"widths": "16"}, "widths is '16'"),
        ({"width": [16]}, "no option 'width', did you mean 'widths'"),
        ({"drop_path": 0.2}, "no option 'drop_path'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_part({"builder": "small_cnn", **options}, 10, 64, 64)
