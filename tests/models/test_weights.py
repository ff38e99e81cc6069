"""Files that come back bit for bit, or are refused in one sentence."""

import json

import pytest
import torch
from safetensors import safe_open

from cmkd.errors import RunError
from cmkd.models import Normalised, build_part, weights
from cmkd.plan import recipes
from cmkd.plan.catalog import Catalog, find
from cmkd.plan.names import parse

PART = {"builder": "small_cnn", "widths": [4, 6]}
CLASSES, FRAMES, MEL_BINS = ["a", "b", "c"], 32, 16


def _model(part=None, classes=3):
    return build_part(part or PART, classes, FRAMES, MEL_BINS)


def test_the_header_is_in_order_and_the_bytes_are_equal(tmp_path):
    model, metadata = _model(), {letter: letter * 3 for letter in "zyxwvutsrq"}
    for name in ("one", "two"):
        weights.save(tmp_path / name, model, metadata)
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "two").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == sorted(metadata)


def test_the_file_is_plain_safetensors(tmp_path):
    model = _model()
    weights.save(tmp_path / "w", model, {"run": "é"})
    with safe_open(tmp_path / "w", framework="pt") as file:
        assert file.metadata() == {"run": "é"}
        for name, tensor in model.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor)


def test_loading_keeps_the_memory_format(tmp_path):
    model, other = _model(), _model()
    weights.save(tmp_path / "w", model, {})
    weights.load(tmp_path / "w", other)
    kernel = other.features[2][0].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match="gone.safetensors does not exist; train"):
        weights.load(tmp_path / "gone.safetensors", _model())


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_damaged_file_is_named(tmp_path, length):
    weights.save(tmp_path / "w", _model(), {})
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[:length])
    with pytest.raises(RunError, match="/w is damaged or no safetensors file"):
        weights.load(tmp_path / "w", _model())


@pytest.mark.parametrize(
    "part, classes, message",
    [
        (PART, 4, r"'head.linear.bias' is \[3\] and should be \[4\]"),
        ({**PART, "widths": [4, 6, 8]}, 3, "it lacks 'features.4.0.weight'"),
        ({**PART, "widths": [4]}, 3, "the model has no 'features.2.0.weight'"),
    ],
)
def test_another_model_is_refused_and_left_alone(tmp_path, part, classes, message):
    weights.save(tmp_path / "w", _model(), {})
    other = _model(part, classes)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(RunError, match=message):
        weights.load(tmp_path / "w", other)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


@pytest.fixture
def run(tmp_path):
    """Write a run folder as a training would: the recipe and the weights with their metadata."""
    recipe = recipes.resolve(Catalog(find()), "toy", parse("small_cnn"))
    (tmp_path / "recipe.yaml").write_text(recipe.text)
    module = Normalised(_model(recipe.values["model"]), mean=-5.0, scale=3.0)
    frontend = {"frames": FRAMES, "mel_bins": MEL_BINS}
    metadata = {"recipe": recipe.digest, "classes": CLASSES, "frontend": frontend}
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    weights.save(tmp_path / "weights.safetensors", module, metadata)
    return tmp_path, module, metadata


def test_a_run_comes_back_frozen_and_bit_for_bit(run):
    folder, module, _ = run
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    loaded, recipe = weights.load_run(folder)
    assert torch.equal(torch.rand(1), expected), "loading must not move the generator"
    assert recipe["run"] == "small_cnn" and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    view = torch.randn(2, FRAMES, MEL_BINS) * 3 - 5
    assert torch.equal(loaded(view), module.eval()(view))


def test_weights_of_another_recipe_are_refused(run):
    folder, _, _ = run
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("epochs:", "epochs: 1 #"))
    with pytest.raises(RunError, match="was made from recipe .* train that run again"):
        weights.load_run(folder)


def test_a_run_without_recipe_or_weights_is_named(run, tmp_path):
    folder, _, _ = run
    with pytest.raises(RunError, match="weights-best.safetensors does not exist"):
        weights.load_run(folder, "weights-best.safetensors")
    (folder / "recipe.yaml").unlink()
    with pytest.raises(RunError, match="recipe.yaml does not exist"):
        weights.load_run(folder)


@pytest.mark.parametrize("key, value", [("classes", "3"), ("frontend", "{}"), ("classes", None)])
def test_weights_without_their_shape_are_refused(run, key, value):
    folder, module, metadata = run
    metadata = {k: v for k, v in {**metadata, key: value}.items() if v is not None}
    weights.save(folder / "weights.safetensors", module, metadata)
    with pytest.raises(RunError, match="does not say its classes and front end"):
        weights.load_run(folder)


def test_weights_that_do_not_fit_their_recipe_are_refused(run):
    folder, module, metadata = run
    metadata = {**metadata, "classes": json.dumps(["a"])}
    weights.save(folder / "weights.safetensors", module, metadata)
    with pytest.raises(RunError, match="does not fit its recipe: 'model.head.linear.bias'"):
        weights.load_run(folder)
