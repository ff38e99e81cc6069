"""What every entry of config/models.yaml must do, found by itself.

Large ones are built without data here, and trained, saved and resumed only by `make test-all`.
"""

import functools

import pytest
import torch
import yaml

from cmkd import models
from cmkd.files import checkout
from cmkd.learning.checkpoint import Checkpoints

CATALOG = yaml.safe_load((checkout() / "config" / "models.yaml").read_text())
FRAMES, MEL_BINS, CLASSES = 64, 128, 5
LARGE = 6.0  # millions of parameters
TWINS = (
    "ast_tiny_s16",
    "effnet_b0_att",
    "mobilenetv2_att",
)  # of entries that are trained in `make test` anyway
SHORT_AND_LONG, BETWEEN = (100, 3000), (500, 512, 1000)  # frames: 1 and 30 s; 5 and 10 s
ENTRIES = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in TWINS or size > LARGE))
    for name, size in sorted((name, entry.get("params_m", 0)) for name, entry in CATALOG.items())
]
# A large body under another head takes long and shows nothing new: slow.
ENTRIES_BY_BODY = [
    pytest.param(name, marks=[pytest.mark.slow] * (name.endswith("_att") and size > LARGE))
    for name, size in sorted((name, entry.get("params_m", 0)) for name, entry in CATALOG.items())
]
# Fact sheet, section 2.3: parameters at 10, 50, 200 and 527 classes.
COUNTS = {
    "effnet_b0": (4_019_782, 4_071_022, 4_263_172, 4_682_059),
    "effnet_b2": (7_714_508, 7_770_868, 7_982_218, 8_442_961),
    "effnet_b6": (40_757_746, 40_849_946, 41_195_696, 41_949_431),
    "densenet121": (6_957_834, 6_998_834, 7_152_584, 7_487_759),
    "mobilenetv2": (2_236_106, 2_287_346, 2_479_496, 2_898_383),
    "resnet50": (23_522_250, 23_604_210, 23_911_560, 24_581_583),
    "convnext_tiny": (27_824_746, 27_855_506, 27_970_856, 28_222_319),
    "ast_tiny": (5_619_274, 5_626_994, 5_655_944, 5_719_055),
    "ast_small": (21_855_370, 21_870_770, 21_928_520, 22_054_415),
    "ast_base": (86_178_058, 86_208_818, 86_324_168, 86_575_631),
}
# The same, PSLA's attention, in millions with two digits.
ATTENTION = {
    "effnet_b0_att": (4.11, 4.52, 6.06, 9.41),
    "effnet_b2_att": (7.81, 8.26, 9.95, 13.64),
    "effnet_b6_att": (40.92, 41.66, 44.42, 50.45),
}
# The same: GFLOP of one forward pass at 128 x 1000.
GFLOPS = {
    **{"effnet_b0": 1.94, "effnet_b2": 3.35, "effnet_b6": 17.25, "densenet121": 14.02},
    **{"mobilenetv2": 1.51, "resnet50": 20.6, "convnext_tiny": 22.56},
    **{"ast_tiny": 25.8, "ast_small": 76.9, "ast_base": 254.8},
    **{"ast_tiny_s16": 7.6, "ast_small_s16": 25.8, "ast_base_s16": 93.9},
}


@pytest.fixture(scope="module", params=ENTRIES)
def entry(request):
    return request.param


@functools.cache
def _empty(name, classes=10, frames=1000):
    """Return a model without data; building a large one takes seconds, so it is kept."""
    with torch.device("meta"):
        return models.build(name, classes, frames, MEL_BINS)


def _counts(table, classes):
    """Yield each model with each number of classes; of large models all but one are slow."""
    for name, counts in table.items():
        for place, count in enumerate(classes):
            slow = count != 10 and CATALOG[name]["params_m"] > LARGE and "ast" not in name
            mark = [pytest.mark.slow] * slow
            yield pytest.param(name, count, counts[place], marks=mark, id=f"{name}-{count}")


def test_the_studied_models_are_there():
    cnns = ("effnet_b0", "effnet_b2", "effnet_b6", "densenet121", "mobilenetv2", "resnet50")
    pairs = [(name, f"{name}_att") for name in (*cnns, "convnext_tiny")]
    asts = ("ast_tiny", "ast_small", "ast_base", "ast_base_224")
    pairs += [(name, f"{name}_s16") for name in asts]
    assert {name for pair in pairs for name in pair} <= set(CATALOG)


@pytest.mark.parametrize("name, classes, count", [*_counts(COUNTS, (10, 50, 200, 527))])
def test_parameters_are_those_of_the_fact_sheet(name, classes, count):
    assert models.count_parameters(_empty(name, classes)) == count


@pytest.mark.parametrize("name, classes, millions", [*_counts(ATTENTION, (10, 50, 200, 527))])
def test_attention_parameters_are_those_of_the_fact_sheet(name, classes, millions):
    assert round(models.count_parameters(_empty(name, classes)) / 1e6, 2) == millions


def test_the_published_88_million_are_ast_base_and_two_unused_heads():
    unused = 2 * (768 * 1000 + 1000)
    assert models.count_parameters(_empty("ast_base", 527, 1024)) == 86_594_063
    assert 86_594_063 + unused == 88_132_063


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_each_says_its_size_and_operations_within_two_percent(name):
    model = _empty(name)
    parameters = models.count_parameters(model) / 1e6
    gflops = models.flops(model, 1000, MEL_BINS) / 1e9
    said = {"params_m": parameters, "gflops": gflops} | CATALOG[name]
    assert said["params_m"] == pytest.approx(parameters, rel=0.02)
    assert said["gflops"] == pytest.approx(gflops, rel=0.02)
    assert gflops == pytest.approx(GFLOPS.get(name, gflops), rel=0.005)


@pytest.mark.parametrize("name", ENTRIES_BY_BODY)
@pytest.mark.parametrize("lengths", [SHORT_AND_LONG, pytest.param(BETWEEN, marks=pytest.mark.slow)])
def test_1_5_10_and_30_seconds_give_logits(name, lengths):
    for frames in lengths:
        # A CNN is the same whatever the length; AST has positions, so it is built for each.
        model = _empty(name, 10, frames if CATALOG[name]["family"] == "ast" else 1000)
        view = torch.empty(2, frames, MEL_BINS, device="meta")
        assert model.eval()(view).shape == (2, 10), frames


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


def _steps(model, optimiser, numbers):
    for number in numbers:
        views = torch.randn(2, FRAMES, MEL_BINS, generator=torch.Generator().manual_seed(number))
        torch.manual_seed(number)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model.train()(views), torch.tensor([0, 1])).backward()
        optimiser.step()


def test_resumed_from_a_checkpoint_it_gives_the_same_bits(entry, tmp_path):
    uncut, begun, resumed = _model(entry), _model(entry), _model(entry, seed=9)
    _steps(uncut, torch.optim.SGD(uncut.parameters(), 0.01), [0, 1])
    _steps(begun, torch.optim.SGD(begun.parameters(), 0.01), [0])
    Checkpoints(tmp_path, {"run": entry}).save(begun.state_dict(), {"step": 1})
    tensors, progress = Checkpoints(tmp_path, {"run": entry}).load()
    resumed.load_state_dict(tensors)
    _steps(resumed, torch.optim.SGD(resumed.parameters(), 0.01), [progress["step"]])
    state = uncut.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in resumed.state_dict().items())
