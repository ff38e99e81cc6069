"""Checkpoints of the sibling codes: the same forward pass, every key named, nothing else run."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from cmkd import cli, models
from cmkd.errors import InputError
from cmkd.models import build_part, convert, layouts, weights
from cmkd.plan import recipes
from cmkd.plan.catalog import Catalog, find

TINY = "deit_tiny_distilled_patch16_224"
AST = {"builder": "ast", "trunk": TINY, "token": "cls_dist"}
B0 = {"builder": "cnn", "backbone": "tf_efficientnet_b0", "head": "attention"}


def _part(model):
    return recipes.model_part(Catalog(find()), model)


def _translate(state, part, classes=None):
    return convert.translate(state, part, "some_model", Path("some.pth"), classes)


@pytest.fixture(scope="module")
def sibling(siblings):
    torch.manual_seed(0)
    return siblings.AST(TINY, 5, (12, 11)).eval()


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes what torch would."""

    def save(content, name="audio_model.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def test_asts_checkpoint_gives_asts_forward_pass(sibling, saved, tmp_path, siblings):
    source, out = saved(siblings.parallel(sibling.state_dict())), tmp_path / "a.safetensors"
    convert.convert(source, "ast_tiny", out)
    model = build_part(AST, 5, 116, 128).eval()
    weights.initialise(model, {**AST, "weights": str(out)})
    view = torch.randn(2, 116, 128)
    with torch.no_grad():
        torch.testing.assert_close(model(view), sibling(view), rtol=1e-4, atol=1e-5)


def test_the_table_names_every_key_and_its_fate(sibling, saved, tmp_path, capsys, siblings):
    state = siblings.parallel(sibling.state_dict())
    source, out = saved(state), tmp_path / "a.safetensors"
    arguments = ["convert", str(source), "--model", "ast_tiny", "--out", str(out)]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for key in (key.removeprefix("module.") for key in state):
        assert sum(key in line.split() for line in lines) == 1 + (key == "v.pos_embed"), key
    fates = {line.split()[1]: line.split()[0] for line in lines if line.split()[1:]}
    assert fates["v.head.weight"] == fates["v.head_dist.bias"] == "dropped"
    assert fates["v.cls_token"] == "joined" and fates["v.pos_embed"] == "split"
    assert fates["v.blocks.11.mlp.fc2.bias"] == "mapped"
    assert f"{len(state)} keys of ast: 152 mapped, 2 joined, 1 split, 4 dropped" in "\n".join(lines)
    with safe_open(out, "pt") as file:
        assert file.metadata()["converted"] == "ast" and file.metadata()["model"] == "ast_tiny"


def test_a_stem_of_three_channels_is_summed(sibling):
    state = sibling.state_dict()
    three = torch.randn(192, 3, 16, 16)
    made = _translate({**state, "v.patch_embed.proj.weight": three}, AST)
    assert torch.equal(made.state["patches.weight"], three.sum(1, keepdim=True))
    assert [row.key for row in made.rows if row.action == "summed"] == ["v.patch_embed.proj.weight"]


@pytest.mark.parametrize("frames, time", [(512, 50), (1024, 101), (998, 99)])
def test_the_published_grid_is_cut_by_asts_rule(frames, time, siblings, tmp_path):
    torch.manual_seed(0)
    state = siblings.AST(TINY, 527, (12, 101)).state_dict()
    made = _translate(state, AST)
    assert made.state["positions"].shape == (1, 12, 101, 192)
    weights.save_state(tmp_path / "w.safetensors", made.state, {"converted": "ast"})
    model = build_part(AST, 50, frames, 128)
    before = model.head[1].weight.clone()
    weights.initialise(model, {**AST, "weights": str(tmp_path / "w.safetensors")})
    native = state["v.pos_embed"][:, 2:].reshape(1, 12, 101, 192)
    first = 50 - time // 2
    torch.testing.assert_close(model.positions, native[:, :, first : first + time])
    assert torch.equal(model.head[1].weight, before), "527 classes are not these 50"


def test_pslas_checkpoint_gives_pslas_forward_pass_on_logits(siblings):
    torch.manual_seed(0)
    psla = siblings.PSLA(3)
    view = torch.randn(2, 96, 64)
    psla.train()(view)  # so that the running statistics are not those of a new layer
    made = _translate(psla.eval().state_dict(), B0)
    model = build_part(B0, 3, 96, 64).eval()
    model.load_state_dict(made.state)
    with torch.no_grad():
        image = view.transpose(1, 2).unsqueeze(1)
        expected = psla.effnet(image)
        torch.testing.assert_close(model.backbone(image), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model(view), psla(view), rtol=1e-3, atol=1e-4)


def test_pslas_mean_pooling_and_other_classes(siblings):
    state = siblings.PSLA(3).state_dict()
    mean = {key: value for key, value in state.items() if not key.startswith("attention.")}
    mean |= {
        "attention.cla.weight": torch.randn(3, 1280, 1, 1),
        "attention.cla.bias": torch.ones(3),
    }
    made = _translate(mean, {**B0, "head": "mean"})
    assert made.state["head.linear.weight"].shape == (3, 1280)
    other = _translate(state, B0, classes=7)
    assert not any(name.startswith("head.") for name in other.state)
    reasons = {row.outcome for row in other.rows if row.key.startswith("attention.")}
    assert reasons == {"a classifier of 3 classes; the model's 7 start fresh"}


def test_uavms_checkpoint_gives_its_feature_map(siblings):
    torch.manual_seed(0)
    uavm = siblings.uavm(3).eval()
    part = {"builder": "cnn", "backbone": "convnext_tiny", "head": "mean"}
    made = _translate({f"model.{k}": v for k, v in uavm.state_dict().items()}, part)
    model = build_part(part, 3, 64, 64).eval()
    model.load_state_dict(made.state)
    view = torch.randn(1, 64, 64)
    with torch.no_grad():
        features = uavm[2][0](uavm[0](view.transpose(1, 2).unsqueeze(1)))
        expected = uavm[2][2](features.mean((2, 3)))
        torch.testing.assert_close(model(view), expected, rtol=1e-3, atol=1e-4)


def test_ssasts_pretraining_starts_an_ast_of_another_stride(saved, tmp_path, siblings):
    state = siblings.AST(TINY, 2, (8, 10), stride=16).state_dict()
    state = {key: value for key, value in state.items() if not key.startswith("mlp_head")}
    state |= {"p_input_fdim": torch.tensor(128), "p_input_tdim": torch.tensor(160)}
    state |= {"mask_embed": torch.zeros(1, 1, 192), "cpredlayer.0.weight": torch.zeros(192, 192)}
    state |= {"gpredlayer.2.bias": torch.zeros(256)}
    out = tmp_path / "ssast.safetensors"
    convert.convert(saved(siblings.parallel(state)), "ast_tiny", out)
    model = build_part(AST, 4, 116, 128)
    head = model.head[1].weight.clone()
    weights.initialise(model, {**AST, "weights": str(out)})
    native = state["v.pos_embed"][:, 2:].reshape(1, 8, 10, 192)
    torch.testing.assert_close(model.positions, weights.resize_positions(native, (12, 11)))
    assert torch.equal(model.head[1].weight, head)


@pytest.mark.parametrize(
    "model, classes, source",
    [
        ("ast_base", 527, lambda s: s.AST("deit_base_distilled_patch16_384", 527, (12, 101))),
        ("ast_small_s16", 50, lambda s: s.AST("deit_small_distilled_patch16_224", 50, (8, 64))),
        ("effnet_b0_att", 200, lambda s: s.PSLA(200)),
    ],
)  # fmt: skip
def test_entries_hold_the_published_shapes(model, classes, source, siblings):
    with torch.device("meta"):
        state = source(siblings).state_dict()
        whole = build_part(_part(model), classes, 1024, 128)
    made = _translate(dict(state), _part(model))
    assert made.state.keys() == whole.state_dict().keys()
    assert len({row.key for row in made.rows}) == len(state)


class Evil:
    """A pickle that touches a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused_unopened(tmp_path, capsys):
    mark, source = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"module.v.norm.weight": Evil(mark)}, source)
    assert cli.main(["convert", str(source), "--model", "ast_tiny", "--out", "x.safetensors"]) == 2
    said = capsys.readouterr().err
    assert "evil.pth holds more than tensors" in said and said.count("\n") == 1
    assert not mark.exists()
    source.write_bytes(pickle.dumps(Evil(mark)))
    with pytest.raises(InputError, match="holds more than tensors"):
        convert.read(source)
    assert not mark.exists()


def test_an_optimisers_state_is_named(saved):
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    source = saved(optimiser.state_dict(), "best_optim_state.pth")
    with pytest.raises(InputError, match="best_optim_state.pth holds the state of an optimiser"):
        convert.read(source)


def test_files_that_are_no_checkpoint_are_named(saved, tmp_path):
    whole = saved({"a": torch.ones(300)}).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[:200])
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    for name, message in [
        ("gone.pth", "gone.pth is not there"),
        ("cut.pth", "cut.pth cannot be read as a checkpoint of torch .*fetch it again"),
        ("text.pth", "text.pth holds more than tensors or is no checkpoint"),
    ]:
        with pytest.raises(InputError, match=message):
            convert.read(tmp_path / name)
    for content in ([torch.ones(1)], {}, {"epoch": 3}, {"lr": torch.ones(1), "name": "x"}):
        with pytest.raises(InputError, match="holds no tensors by name"):
            convert.read(saved(content))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_wrapped_state_is_found(saved, wrapper):
    source = saved({"epoch": 3, wrapper: {"module.a": torch.ones(2)}})
    assert list(convert.read(source)) == ["a"]


@pytest.mark.parametrize(
    "part, change, message",
    [
        (AST, {"v.blocks.12.norm1.weight": torch.ones(192)}, "the model has no 'blocks.12.norm1"),
        (AST, {"v.surprise": torch.ones(1)}, "has 1 keys that no rule for ast knows.*'v.surprise'"),
        (AST, {"v.norm.weight": None}, "it lacks 'norm.weight'"),
        (AST, {"v.norm.weight": torch.ones(384)}, r"'norm.weight' is \[384\] and should be"),
        (AST, {"v.pos_embed": torch.ones(1, 135, 192)}, "133 positions do not make 12 rows"),
        ({**AST, "stride": [16, 16]}, {}, "132 positions do not make 8 rows of patches"),
        (B0, {}, "needs a model of builder 'ast'; 'some_model' has builder 'cnn'"),
        (AST, {"v.patch_embed.proj.weight": None}, "has the keys of none of the codes known here"),
        (AST, {"patch_embed_a.proj.weight": torch.ones(1)}, "a checkpoint of cav-mae: its audio"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(sibling, part, change, message):
    state = {**sibling.state_dict(), **change}
    state = {key: value for key, value in state.items() if value is not None}
    with pytest.raises(InputError, match=message) as caught:
        _translate(state, part)
    assert "\n" not in str(caught.value)


def test_the_file_to_write_has_the_ending_that_recipes_ask_for(tmp_path):
    with pytest.raises(InputError, match="must end in .safetensors"):
        convert.convert(tmp_path / "a.pth", "ast_tiny", tmp_path / "a.pth")


def test_every_layout_is_known_by_a_mark_of_its_own():
    marks = [layout.mark for layout in layouts.LAYOUTS]
    assert len(set(marks)) == len(marks) and models.weights.HEAD == "head."
