"""How checkpoints of the sibling codes name their tensors, as tables; facts only, read in

- ast: YuanGongND/ast src/models/ast_models.py (on timm 0.4.5's distilled DeiT)
- ssast: YuanGongND/ssast src/models/ast_models.py (its pretraining stage)
- psla: YuanGongND/psla src/models/{Models,HigherModels}.py on lukemelas/EfficientNet-PyTorch
- uavm: YuanGongND/uavm src/models/convnext.py (the audio ConvNeXt, on torchvision)
- cav-mae: YuanGongND/cav-mae src/models/cav_mae.py (known, and refused)

Keys are without the `module.` that DataParallel writes before each of them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Rename = Callable[[re.Match[str], Any], str]
IMAGENET = "ImageNet's classifier, which the sibling code never calls"
PRETEXT = "only for the pretraining without labels"


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that `keys` matches as a whole.

    `target` is our name (as `re.Match.expand` fills it, or a function of the match and the model),
    None where they are dropped, `why` says so. `how`: `mapped` one to one; `summed` over three
    input channels, where there are three; `joined` along `axis` in the keys' natural order;
    `positions` parted into those of the tokens and those on the grid.
    """

    keys: str
    target: str | Rename | None
    how: str = "mapped"
    axis: int = 0
    why: str = ""


@dataclass(frozen=True)
class Layout:
    """One sibling code: the key that gives it away, the builder that can hold it, the rules.

    `classifier` matches a tensor whose first axis is the classes. `notes` are for the reader of the
    report; `refusal` says why nothing here can hold it.
    """

    name: str
    mark: str
    builder: str = ""
    rules: tuple[Rule, ...] = ()
    classifier: str = ""
    notes: tuple[str, ...] = ()
    refusal: str = ""


def find(keys: Mapping[str, Any]) -> Layout | None:
    """Return the layout that some key gives away, or None."""
    return next((layout for layout in LAYOUTS if layout.mark in keys), None)


def _efficientnet_block(match: re.Match[str], core: Any) -> str:
    """Return timm's name of a tensor in lukemelas' block N, which counts through all stages.

    Stage 0 does not expand, so its convolutions and normalisations have other names.
    """
    number, layer, rest = int(match[1]), match[2], match[3]
    stages = getattr(core.backbone, "blocks", ())
    stage = 0
    while stage < len(stages) and number >= len(stages[stage]):
        number -= len(stages[stage])
        stage += 1
    names = EXPANDING if stage else NOT_EXPANDING
    return f"backbone.blocks.{stage}.{number}.{names.get(layer, layer)}.{rest}"


SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
NOT_EXPANDING = {
    **SQUEEZE,
    **{"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
}
EXPANDING = {
    **SQUEEZE,
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def _convnext_stage(match: re.Match[str], core: Any) -> str:
    """Return timm's name of a tensor in torchvision's features.N: blocks at 1, 3, 5, 7."""
    stage = (int(match[1]) - 1) // 2
    layers = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2"}
    if match[3] == "layer_scale":
        return f"backbone.stages.{stage}.blocks.{match[2]}.gamma"
    layer, _, rest = match[3].rpartition(".")
    return f"backbone.stages.{stage}.blocks.{match[2]}.{layers[layer]}.{rest}"


def _convnext_downsample(match: re.Match[str], core: Any) -> str:
    """Return timm's name of a tensor in torchvision's features.N: downsampling at 2, 4, 6."""
    return f"backbone.stages.{int(match[1]) // 2}.downsample.{match[2]}"


TRANSFORMER = (
    Rule(r"v\.(cls|dist)_token", "tokens", how="joined", axis=1),
    Rule(r"v\.pos_embed", "positions", how="positions"),
    Rule(r"v\.patch_embed\.proj\.weight", "patches.weight", how="summed"),
    Rule(r"v\.patch_embed\.proj\.bias", "patches.bias"),
    Rule(r"v\.(blocks\.\d+\.(?:norm[12]|attn\.(?:qkv|proj)|mlp\.fc[12])\.(?:weight|bias))", r"\1"),
    Rule(r"v\.(norm\.(?:weight|bias))", r"\1"),
    Rule(r"v\.head(_dist)?\.(weight|bias)", None, why=IMAGENET),
    Rule(r"mlp_head\.([01]\.(?:weight|bias))", r"head.\1"),
)

AST = Layout(
    name="ast",
    mark="v.patch_embed.proj.weight",
    builder="ast",
    rules=TRANSFORMER,
    classifier=r"mlp_head\.1\.bias",
    notes=(
        "ast reads the mean of both tokens: set token: cls_dist (variant token_both) for its "
        "forward pass",
        "ast normalises AudioSet by (x + 4.2677393) / (2 x 4.5689974)",
    ),
)

SSAST = Layout(
    name="ssast",
    mark="p_input_fdim",
    builder="ast",
    rules=(
        *TRANSFORMER,
        Rule(r"p_input_[ft]dim", None, why="the size of the input; it gave the grid of positions"),
        Rule(r"mask_embed|[cg]predlayer\..*", None, why=PRETEXT),
    ),
    classifier=r"mlp_head\.1\.bias",
    notes=("ssast was pretrained without labels: the classifier starts fresh",),
)

BATCH_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
PSLA = Layout(
    name="psla",
    mark="effnet._conv_stem.weight",
    builder="cnn",
    rules=(
        Rule(r"effnet\._conv_stem\.weight", "backbone.conv_stem.weight", how="summed"),
        Rule(rf"effnet\._bn0\.({BATCH_NORM})", r"backbone.bn1.\1"),
        Rule(rf"effnet\._blocks\.(\d+)\.(_\w+)\.({BATCH_NORM})", _efficientnet_block),
        Rule(r"effnet\._conv_head\.weight", "backbone.conv_head.weight"),
        Rule(rf"effnet\._bn1\.({BATCH_NORM})", r"backbone.bn2.\1"),
        Rule(r"effnet\._fc\.(weight|bias)", None, why=IMAGENET),
        Rule(r"attention\.att\.\d+\.(weight|bias)", r"head.attention.\1", how="joined"),
        Rule(r"attention\.cla\.\d+\.(weight|bias)", r"head.classify.\1", how="joined"),
        Rule(r"attention\.head_weight", "head.head_weight"),
        Rule(r"attention\.cla\.(weight|bias)", r"head.linear.\1"),
    ),
    classifier=r"attention\.cla\.(0\.)?bias",
    notes=(
        "psla's classifier holds a sigmoid and gives probabilities; here the same weights give "
        "logits without it",
        "psla's EfficientNet is TensorFlow's (padding 'same' for square images, batch "
        "normalisation with eps 1e-3): a backbone tf_efficientnet_bN comes nearest to its forward "
        "pass, efficientnet_bN starts a training",
        "psla normalises by (x - mean) / std",
    ),
)

UAVM = Layout(
    name="uavm",
    mark="model.0.1.0.layer_scale",
    builder="cnn",
    rules=(
        Rule(r"model\.0\.0\.0\.weight", "backbone.stem.0.weight", how="summed"),
        Rule(r"model\.0\.0\.0\.bias", "backbone.stem.0.bias"),
        Rule(r"model\.0\.0\.1\.(weight|bias)", r"backbone.stem.1.\1"),
        Rule(
            r"model\.0\.([1357])\.(\d+)\.(layer_scale|block\.[0235]\.(?:weight|bias))",
            _convnext_stage,
        ),
        Rule(r"model\.0\.([246])\.([01]\.(?:weight|bias))", _convnext_downsample),
        Rule(r"model\.2\.0\.(weight|bias)", r"backbone.head.norm.\1"),
        Rule(r"model\.2\.2\.(weight|bias)", r"head.linear.\1"),
    ),
    classifier=r"model\.2\.2\.bias",
    notes=(
        "uavm normalises after pooling, this model before it: the same weights, another forward "
        "pass of the last layer",
    ),
)

CAV_MAE = Layout(
    name="cav-mae",
    mark="patch_embed_a.proj.weight",
    refusal="its audio branch has no class token and is pooled over patches behind a normalisation "
    "of its own, which no model here has",
)

LAYOUTS = (CAV_MAE, SSAST, AST, PSLA, UAVM)
