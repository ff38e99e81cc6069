"""Models: from normalised views [batch, frames, mel_bins] to logits [batch, classes].

A new model is a module here with a function `build(part, classes, frames, mel_bins)` and an
entry in config/models.yaml that names it as `builder`. Its classifier's tensors should be called
`head...`, so that weights of a run with other classes can start it; to start from ImageNet it
needs `timm_name` and `adopt_timm(source)`, as `cnn.CNN` has.
"""

from cmkd.models import measure, normalise, weights
from cmkd.models.build import build, build_part
from cmkd.models.measure import count_parameters, flops
from cmkd.models.normalise import Normalised

__all__ = [
    "Normalised",
    "build",
    "build_part",
    "count_parameters",
    "flops",
    "measure",
    "normalise",
    "weights",
]
