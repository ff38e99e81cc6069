import dataclasses
import subprocess
import sys

import pytest

from cmkd import models
from cmkd.errors import ConfigError
from cmkd.models.ast import ASTOptions
from cmkd.models.build import builders
from cmkd.models.cnn import CNNOptions
from cmkd.models.small_cnn import SmallCNNOptions
from cmkd.plan.recipes import BUILDERS


def test_builders_find_themselves():
    assert builders() == ["ast", "cnn", "small_cnn"]


@pytest.mark.parametrize("name", ["small_cn", "build", "heads", "weights", "../cnn", "", None])
def test_an_unknown_builder_is_named(name):
    with pytest.raises(ConfigError, match=f"there is no builder '{name}'.*(did you|known: ast)"):
        models.build_part({"builder": name}, 10, 64, 64)


def test_an_unknown_model_is_named():
    with pytest.raises(ConfigError, match="'small_cmn'.*did you mean 'small_cnn'"):
        models.build("small_cmn", 10, 64)


def test_keys_that_any_recipe_may_hold_are_no_options():
    part = {"builder": "small_cnn", "behaviour": 1, "weights": "none", "normalise": {"factor": 1.0}}
    models.build_part({**part, "stem": "mean", "drop_path": 0.0}, 3, 16, 16)


@pytest.mark.parametrize(
    "builder, kind", [("cnn", CNNOptions), ("small_cnn", SmallCNNOptions), ("ast", ASTOptions)]
)
def test_plan_and_builders_know_the_same_options(builder, kind):
    assert set(BUILDERS[builder]) == {field.name for field in dataclasses.fields(kind)}


def test_small_models_do_not_wait_for_timm():
    code = (
        "import sys; from cmkd import models\n"
        "[models.build(n, 3, 64, 64) for n in ('small_cnn', 'small_cnn_att', 'small_ast')]\n"
        "print([m for m in ('timm', 'torchvision', 'pandas', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
