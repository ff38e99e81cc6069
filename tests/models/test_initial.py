"""What a training starts from: nothing, ImageNet, a file, another run."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from cmkd.errors import ConfigError, InputError, RunError
from cmkd.models import Normalised, build_part, weights

CNN = {"builder": "cnn", "backbone": "mobilenetv3_small_050"}
AST = {"builder": "ast", "trunk": "deit_tiny_distilled_patch16_224"}
PLAIN = {"builder": "ast", "trunk": "plain", "dim": 24, "depth": 1, "heads": 2, "patch": [8, 8]}
SMALL = {"builder": "small_cnn", "widths": [4, 6]}


def _build(part, classes=3, frames=64, seed=0):
    torch.manual_seed(seed)
    return build_part(part, classes, frames, 64)


def _copy(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _same(module, state, names=None):
    have = module.state_dict()
    return all(torch.equal(have[name], state[name]) for name in names or state)


@pytest.fixture
def hub(tmp_path):
    """Return a function that writes a file of the form that timm's hub serves."""

    def write(name):
        torch.manual_seed(5)
        source = timm.create_model(name)
        path = tmp_path / "model.safetensors"
        save_file(source.state_dict(), path, {"format": "pt"})
        return path, source.state_dict()

    return write


def test_none_leaves_the_model_as_it_was_drawn():
    model = _build(SMALL)
    before = _copy(model)
    weights.initialise(model, SMALL)
    weights.initialise(model, {**SMALL, "weights": "none"})
    assert _same(model, before)


@pytest.mark.parametrize("stem", ["mean", "sum"])
def test_a_hub_file_fills_a_cnn_and_leaves_its_head(hub, stem):
    path, source = hub(CNN["backbone"])
    model = _build({**CNN, "stem": stem})
    before = _copy(model)
    state = torch.random.get_rng_state()
    weights.initialise(model, {**CNN, "stem": stem, "weights": str(path)})
    assert torch.equal(torch.random.get_rng_state(), state)
    kernel = source.pop("conv_stem.weight")
    expected = getattr(kernel, stem)(dim=1, keepdim=True)
    assert torch.equal(model.backbone.conv_stem.weight, expected)
    names = [name for name in source if not name.startswith("classifier")]
    assert len(names) > 100 and _same(model.backbone, source, names)
    assert _same(model, before, ["head.linear.weight", "head.linear.bias"])


def test_a_hub_file_fills_an_ast_behind_its_normalisation(hub):
    path, source = hub(AST["trunk"])
    model = Normalised(_build(AST), mean=1.0, scale=2.0)
    weights.initialise(model, {**AST, "weights": str(path)})
    core, blocks = model.model, {n: t for n, t in source.items() if n.startswith("blocks.")}
    assert len(blocks) == 144 and _same(core, blocks)
    assert torch.equal(core.tokens, torch.cat([source["cls_token"], source["dist_token"]], dim=1))
    assert (model.mean, model.scale) == (1.0, 2.0)


def test_imagenet_comes_through_timms_own_loader(hub, monkeypatch):
    _, source = hub(CNN["backbone"])
    asked = []

    def fetch(name, *args, **kwargs):
        asked.append(name)
        return dict(source)

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetch)
    model = _build(CNN)
    weights.initialise(model, {**CNN, "weights": "imagenet"})
    assert asked == ["timm/mobilenetv3_small_050.lamb_in1k"]
    assert torch.equal(model.backbone.conv_head.weight, source["conv_head.weight"])


def test_a_hub_out_of_reach_is_one_sentence(monkeypatch):
    def fetch(*args, **kwargs):
        raise ConnectionError("Name or service not known. Retry later")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", fetch)
    with pytest.raises(InputError) as caught:
        weights.initialise(_build(CNN), {**CNN, "weights": "imagenet"})
    message = str(caught.value)
    assert "'mobilenetv3_small_050' could not be fetched from its hub" in message
    assert "set weights to that path" in message and "\n" not in message


def test_models_without_imagenet_weights_say_so():
    with pytest.raises(ConfigError, match="'small_cnn' stands on no timm model"):
        weights.initialise(_build(SMALL), {**SMALL, "weights": "imagenet"})
    part = {**CNN, "backbone": "efficientnet_b6", "weights": "imagenet"}
    with pytest.raises(ConfigError, match="timm has no ImageNet weights for 'efficientnet_b6'"):
        with torch.device("meta"):
            model = _build(part)
        weights.initialise(model, part)


def test_a_file_of_another_timm_model_is_refused(hub):
    path, _ = hub("mobilenetv3_small_075")
    with pytest.raises(InputError, match="does not hold timm's 'mobilenetv3_small_050'"):
        weights.initialise(_build(CNN), {**CNN, "weights": str(path)})


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 a pickle"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match="weights.pth .*; set weights to a whole .safetensors file"):
        weights.initialise(_build(SMALL), {**SMALL, "weights": str(path)})


@pytest.mark.parametrize("part", [SMALL, PLAIN, CNN])
def test_another_runs_weights_are_taken_whole(tmp_path, part):
    teacher = Normalised(_build(part, seed=1), mean=-3.0, scale=4.0)
    weights.save(tmp_path / "w", teacher, {})
    model = Normalised(_build(part, seed=2), mean=-1.0, scale=2.0)
    weights.initialise(model, {**part, "weights": "run:toy/x"}, tmp_path / "w")
    assert _same(model.model, teacher.model.state_dict())
    assert (model.mean, model.scale) == (-1.0, 2.0)


def test_a_run_with_other_classes_keeps_the_new_head(tmp_path):
    weights.save(tmp_path / "w", _build(SMALL, classes=8, seed=1), {})
    model = _build(SMALL, seed=2)
    before = _copy(model)
    weights.initialise(model, {**SMALL, "weights": "run:toy/x"}, tmp_path / "w")
    assert _same(model, before, ["head.linear.weight", "head.linear.bias"])
    assert not torch.equal(model.features[0][0].weight, before["features.0.0.weight"])


def test_a_run_with_more_frames_gives_the_middle_of_its_positions(tmp_path):
    part = {**PLAIN, "stride": [8, 8]}
    source = _build(part, frames=80, seed=1)
    weights.save(tmp_path / "w", source, {})
    model = _build(part, frames=48, seed=2)
    weights.initialise(model, {**part, "weights": "run:toy/x"}, tmp_path / "w")
    assert source.grid == (8, 10) and model.grid == (8, 6)
    assert torch.equal(model.positions, source.positions[:, :, 2:8])


@pytest.mark.parametrize(
    "part, other, message",
    [
        (SMALL, {"widths": [4, 8]}, r"'features.2.0.weight' is \[8"),
        (SMALL, {"widths": [4]}, "it lacks 'features.2.0.weight'"),
        (PLAIN, {"depth": 2}, "the model has no 'blocks.1.attn.proj.bias'"),
        (PLAIN, {"patch": [4, 8]}, r"'patches.weight' is \[24, 1, 4, 8\]"),
        (CNN, {"backbone": "mobilenetv3_small_075"}, "'backbone.blocks.0.0.bn2"),
    ],
)
def test_a_run_of_another_architecture_is_refused(tmp_path, part, other, message):
    weights.save(tmp_path / "w", _build({**part, **other}), {"recipe": "0123456789abcdef"})
    for place in ({"weights": "run:toy/x"}, {"weights": str(tmp_path / "w")}):
        with pytest.raises(InputError, match=f"does not fit this model: .*{message}") as caught:
            weights.initialise(_build(part), {**part, **place}, tmp_path / "w")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [CNN, {**AST, "stride": [16, 16]}, PLAIN])
def test_a_run_of_other_length_and_classes_starts_body_but_not_head(tmp_path, part):
    source = Normalised(_build(part, classes=8, frames=96, seed=1), mean=0.0, scale=1.0)
    weights.save(tmp_path / "w", source, {"recipe": "x", "classes": json.dumps(list("abcdefgh"))})
    model = _build(part, classes=5, frames=48, seed=2)
    before = _copy(model)
    weights.initialise(model, {**part, "weights": "run:toy/x"}, tmp_path / "w", list("abcde"))
    state = source.model.state_dict()
    heads = [name for name in before if name.startswith("head.")]
    body = [name for name in before if name not in (*heads, "positions")]
    assert _same(model, state, body) and _same(model, before, heads)
    if "positions" in before:
        have, native = model.positions.shape[2], source.model.positions
        first = native.shape[2] // 2 - have // 2
        assert torch.equal(model.positions, native[:, :, first : first + have])


@pytest.mark.parametrize(
    "names, taken", [(["a", "b", "c"], True), (["c", "b", "a"], False), (None, True)]
)
def test_a_classifier_is_taken_only_for_the_same_classes_in_the_same_order(tmp_path, names, taken):
    source = _build(SMALL, seed=1)
    weights.save(tmp_path / "w", source, {"classes": json.dumps(["a", "b", "c"])})
    model = _build(SMALL, seed=2)
    weights.initialise(model, {**SMALL, "weights": "run:toy/x"}, tmp_path / "w", names)
    assert torch.equal(model.head.linear.weight, source.head.linear.weight) == taken


def test_a_run_that_is_not_given_is_asked_for():
    with pytest.raises(InputError, match="run:toy/x needs that run's weights file"):
        weights.initialise(_build(SMALL), {**SMALL, "weights": "run:toy/x"})
