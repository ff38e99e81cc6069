"""What we ask of timm: make a model by name, fetch its ImageNet weights, adapt its first layer.

timm is imported only when it is used: it takes over a second, and the small models need none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmkd.errors import ConfigError, InputError, nearest


def create(name: str, key: str, **given: Any) -> Any:
    """Make a timm model without classifier and with random weights.

    Rates that are 0 are left out, since not every timm model takes them. Raises ConfigError,
    naming the recipe's key, for a name or a rate that timm does not know.
    """
    import timm

    _check_name(name, key)
    given = {option: value for option, value in given.items() if value != 0.0}
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **given)
    except TypeError as error:
        rates = ", ".join(option for option in given if option.endswith("rate")) or "its options"
        raise ConfigError(f"model: {key} '{name}' cannot take {rates} ({error})") from error


def is_vit(source: object) -> bool:
    """Tell whether a timm model is a ViT or DeiT with class token and learned positions."""
    from timm.models.vision_transformer import VisionTransformer

    return (
        isinstance(source, VisionTransformer)
        and source.cls_token is not None
        and source.pos_embed is not None
    )


def _check_name(name: str, key: str) -> None:
    """Raise ConfigError unless timm has a model of that name."""
    import timm

    if not timm.is_model(str(name)):
        raise ConfigError(f"model: timm has no {key} '{name}'{nearest(name, timm.list_models())}")


def pretrained(name: str, file: Path | None = None) -> Any:
    """Make a timm model with its own 3-channel first layer and ImageNet weights.

    They come through timm's loader from its hub or cache, or from a `file` of the same form.
    The global random generator is left as it was. Raises ConfigError where timm has none for
    this model and InputError where they cannot be fetched or do not fit.
    """
    import timm

    if file is None and not timm.models.is_model_pretrained(name):
        raise ConfigError(f"model: timm has no ImageNet weights for '{name}': set weights: none")
    overlay = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        with torch.random.fork_rng(devices=[]):
            # With its 1000 classes, or timm would not mind a file of another model.
            return timm.create_model(name, pretrained=True, **overlay)
    except Exception as error:  # hub, network and file libraries each have errors of their own
        raise InputError(_no_weights(name, file, error)) from error


def _no_weights(name: str, file: Path | None, error: Exception) -> str:
    """Return one sentence: which weights could not be had, why, and what to do."""
    cause = f"{type(error).__name__}: {' '.join(str(error).split()).split('. ')[0][:200]}"
    if file is not None:
        return (
            f"weights: {file} does not hold timm's '{name}' ({cause}): take the file of that model"
        )
    return (
        f"weights: the ImageNet weights of timm's '{name}' could not be fetched from its hub: "
        "build the model once where the network is, so that they lie in the cache, or copy its "
        f"model.safetensors here and set weights to that path ({cause})"
    )


def one_channel(kernel: Tensor, stem: str) -> Tensor:
    """Adapt a first layer's weights [out, 3, f, t] to one input channel.

    `mean` is the paper's text; `sum` is the sibling codes' and equals feeding three equal
    channels.
    """
    kernel = kernel.detach()
    return kernel.mean(1, keepdim=True) if stem == "mean" else kernel.sum(1, keepdim=True)


def resized(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """Fit a patch's weights [out, 1, f, t] to another patch size, as timm does (FlexiViT)."""
    if tuple(kernel.shape[2:]) == tuple(size):
        return kernel
    from timm.layers import resample_patch_embed

    return resample_patch_embed(kernel, list(size))
