from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import recipes
from cmkd.plan.explain import explain


def test_every_value_has_its_layer_and_file(bench: Any) -> None:
    suite = bench.load(results="own", set={"input": {"frames": 50}})
    text = explain(suite, "birds", "b+tau2@a")
    rows = {line[3:].split()[0]: line.split() for line in text.splitlines()[2:]}
    values = suite.recipe("birds", "b+tau2@a").values
    for part in recipes.PARTS:
        for key, _ in recipes.leaves(values[part]):
            assert f"{part}.{key}" in rows
    assert rows["objective.tau"] == ["objective.tau", "2.0", "variant", "tau2", "variants.yaml"]
    assert rows["training.lr"][1:] == [
        *("0.02", "dataset", "birds,", "family", "ast"),
        "recipes.yaml",
    ]
    assert rows["input.frames"][1:] == [
        "50",
        "set",
        "of",
        "suite",
        "suite",
        str(bench.folder / "suite.yaml"),
    ]
    assert rows["model.patch"][1:] == ["[16,", "4]", "model", "b", "models.yaml"]
    assert rows["input.mixup"] == [
        *("-", "input.mixup", "0.0", "neutral", "value"),
        "cmkd/plan/recipes.py",
    ]
    assert rows["teacher.recipe"][1] == suite.recipe("birds", "a").digest
    assert rows["training.weight_decay"][1] == "0.0"


def test_the_title_names_family_class_direction_digest(loaded: Any) -> None:
    suite = loaded()
    text = explain(suite, "birds", "b@a")
    assert text.startswith(
        "b@a on birds: family ast, class transformer, direction cnn_to_transformer"
    )
    assert suite.recipe("birds", "b@a").digest in text
    assert "a run without a teacher" in explain(suite, "birds", "a")


@pytest.mark.parametrize(
    ("dataset", "run", "message"),
    [
        ("bird", "a", "no dataset 'bird' .* did you mean 'birds'"),
        ("birds", "a@", "is not the name of a run"),
        ("birds", "a+tau3", "no variant 'tau3' .* did you mean 'tau[24]'"),
        ("birds", "aa@b", "no model 'aa' .* did you mean 'a'"),
    ],
)
def test_what_is_unknown_names_its_nearest(
    loaded: Any, dataset: str, run: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(loaded(), dataset, run)
