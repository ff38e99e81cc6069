"""What every entry of config/models.yaml must do, found by itself."""

import pytest
import torch
import yaml

from cmkd import models
from cmkd.files import checkout

ENTRIES = sorted(yaml.safe_load((checkout() / "config" / "models.yaml").read_text()))
FRAMES, MEL_BINS, CLASSES = 64, 128, 5


@pytest.fixture(scope="module", params=ENTRIES)
def entry(request):
    return request.param


@pytest.fixture(scope="module")
def model(entry):
    return _model(entry)


def _model(name, seed=0):
    torch.manual_seed(seed)
    return models.build(name, CLASSES, FRAMES, MEL_BINS)


def _views(count=3):
    return torch.randn(count, FRAMES, MEL_BINS, generator=torch.Generator().manual_seed(1))


def test_logits_and_gradients_are_there_and_finite(model):
    views = _views()
    logits = model.train()(views)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    assert logits.shape == (3, CLASSES) and logits.dtype == torch.float32
    assert logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert torch.equal(views, _views()), "a model must not write into the shared view"


def test_the_seed_alone_decides_the_weights(entry):
    first, again, other = (_model(entry, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_saved_and_loaded_it_gives_the_same_bits(entry, model, tmp_path):
    models.weights.save(tmp_path / "w.safetensors", model, {"run": entry})
    other = _model(entry, seed=9)
    assert models.weights.load(tmp_path / "w.safetensors", other) == {"run": entry}
    assert torch.equal(other.eval()(_views()), model.eval()(_views()))


def test_in_eval_mode_a_clip_does_not_see_its_neighbours(model):
    views = _views(4)
    with torch.no_grad():
        together, alone = model.eval()(views), model(views[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


def test_silence_gives_finite_logits(model):
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, FRAMES, MEL_BINS)).isfinite().all()


def test_time_and_frequency_are_not_swapped(entry):
    with torch.device("meta"):
        wide = models.build(entry, CLASSES, 200, MEL_BINS)
    assert wide(torch.empty(2, 200, MEL_BINS, device="meta")).shape == (2, CLASSES)
