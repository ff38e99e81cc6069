"""AST against Hugging Face's own, with the same weights copied over; nothing is fetched."""

import pytest
import torch

from cmkd.models import build_part

SMALL = {"trunk": "plain", "dim": 24, "depth": 2, "heads": 3}
TINY = {"trunk": "deit_tiny_distilled_patch16_224"}
PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def _theirs(frames, stride, dim, depth, heads):
    from transformers import ASTConfig, ASTModel

    config = ASTConfig(
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        layer_norm_eps=1e-6,  # DeiT's, on which AST stands
        max_length=frames,
        frequency_stride=stride,
        time_stride=stride,
    )
    model = ASTModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def _ours(state, grid):
    """Return their weights under our names, but for the head."""
    made = {
        "tokens": [state["embeddings.cls_token"], state["embeddings.distillation_token"]],
        "prefix_positions": [state["embeddings.position_embeddings"][:, :2]],
        "positions": [state["embeddings.position_embeddings"][:, 2:].unflatten(1, grid)],
    }
    for kind in ("weight", "bias"):
        made[f"patches.{kind}"] = [state[f"embeddings.patch_embeddings.projection.{kind}"]]
        made[f"norm.{kind}"] = [state[f"layernorm.{kind}"]]
        for layer in range(sum(name.endswith("mlp.fc1.bias") for name in state)):
            names = [f"layers.{layer}.attention.{letter}_proj.{kind}" for letter in "qkv"]
            made[f"blocks.{layer}.attn.qkv.{kind}"] = [state[name] for name in names]
            for own, other in PARTS.items():
                made[f"blocks.{layer}.{own}.{kind}"] = [state[f"layers.{layer}.{other}.{kind}"]]
    return {name: torch.cat(found, 1 if name == "tokens" else 0) for name, found in made.items()}


@pytest.mark.parametrize("token", ["cls", "cls_dist"])
@pytest.mark.parametrize("part, stride", [(SMALL, 10), (SMALL, 16), (TINY, 10)])
def test_the_forward_pass_is_hugging_faces(part, stride, token):
    torch.manual_seed(0)
    frames = 176 if part is SMALL else 96
    options = {"builder": "ast", "stride": [stride, stride], **part}
    # A plain trunk has DIST only where it is read, so theirs is compared with both tokens in.
    ours = build_part({**options, "token": "cls_dist"}, 3, frames, 128).eval()
    dim, depth = ours.tokens.shape[2], len(ours.blocks)
    theirs = _theirs(frames, stride, dim, depth, 3)
    missing = ours.load_state_dict(_ours(theirs.state_dict(), ours.grid), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("head.") for name in missing.missing_keys)
    ours.read_tokens = 2 if token == "cls_dist" else 1
    view = torch.randn(2, frames, 128)
    with torch.no_grad():
        out = theirs(view)
        expected = out.pooler_output if token == "cls_dist" else out.last_hidden_state[:, 0]
        torch.testing.assert_close(ours(view), ours.head(expected), rtol=1e-5, atol=1e-5)
