"""Objectives in configuration: keys, neutral values, refusals, and variants that touch nothing."""

from typing import Any

import pytest
import yaml

from cmkd.errors import ConfigError
from cmkd.plan import objectives
from cmkd.plan.recipes import read_recipe

DKD = {"objective": {"name": "dkd"}}
TOKEN = {"model": {"token": "two_heads"}, "objective": {"name": "token_hard"}}


def text(suite: Any, run: str, dataset: str = "birds") -> dict[str, Any]:
    return yaml.safe_load(suite.recipe(dataset, run).text)["objective"]


def test_a_recipe_holds_the_keys_of_its_objective_only(bench: Any) -> None:
    bench.recipes["datasets"]["birds"]["objective"] = {"soft": "bce", "beta": 3}
    bench.variants["dkd"] = DKD
    suite = bench.load()
    common = {"behaviour": 1, "lambda": 0.5, "smoothing": 0.1, "tau": 1.0}
    assert text(suite, "a@b") == common | {"name": "distill", "soft": "bce"}
    assert text(suite, "a+dkd@b") == common | {"name": "dkd", "beta": 3.0}
    recipe = suite.recipe("birds", "a+dkd@b")
    assert recipe.values["objective"]["alpha"] == 1.0
    assert "beta: 3.0\n" in recipe.text


def test_an_own_key_at_its_default_changes_nothing(bench: Any, tmp_path: Any) -> None:
    bench.recipes["defaults"]["objective"]["name"] = "dkd"
    before = bench.load().recipe("birds", "a@b")
    bench.recipes["datasets"]["birds"]["objective"] = {"alpha": 1, "beta": 8.0, "soft": "bce"}
    after = bench.load().recipe("birds", "a@b")
    assert after.text == before.text and after.digest == before.digest
    (tmp_path / "recipe.yaml").write_text(after.text)
    assert read_recipe(tmp_path / "recipe.yaml") == after.values
    bench.recipes["datasets"]["birds"]["objective"]["beta"] = 2.0
    assert bench.load().recipe("birds", "a@b").text != before.text


def test_a_key_that_is_ignored_never_makes_a_run_stale(bench: Any) -> None:
    bench.variants["token"] = TOKEN
    before = bench.load().recipe("birds", "b+token@a").text
    bench.recipes["defaults"]["objective"]["tau"] = 3.0
    assert bench.load().recipe("birds", "b+token@a").text == before
    del bench.recipes["defaults"]["objective"]["tau"]
    with pytest.raises(ConfigError, match="'b@a' on 'birds': objective.tau is set by no layer"):
        bench.load(pairs=["b+token@a", "b@a"])


@pytest.mark.parametrize(
    "part, sentence",
    [
        ({"name": "dk"}, "objective.name has no choice 'dk', did you mean 'dkd'?"),
        ({"name": "alone"}, "objective.name has no choice 'alone'"),
        ({"soft": "softmax_lk"}, "objective.soft has no choice 'softmax_lk', did you mean"),
        ({"tua": 2.0}, "unknown key 'objective.tua', did you mean 'tau'?"),
        ({"name": "dkd", "gamma": 1.0}, "'objective.gamma', which the objective 'dkd' lacks"),
        ({"name": "dkd", "alpha": "one"}, "objective.alpha is 'one', but must be a number"),
        ({"alpha": True}, "objective.alpha is 'True', but must be a number"),
    ],
)
@pytest.mark.parametrize("place", ["variants", "defaults", "set", "models"])
def test_wrong_words_and_values_are_named(bench: Any, part: Any, sentence: str, place: str) -> None:
    if place == "variants":
        bench.variants["mine"] = {"objective": part}
    elif place == "defaults":
        bench.recipes["defaults"]["objective"].pop("name")
        bench.recipes["defaults"]["objective"] |= part
    elif place == "models":
        bench.models["a"]["recipe"]["objective"] = part
    else:
        bench.suite |= {"set": {"objective": part}, "results": "elsewhere"}
    with pytest.raises(ConfigError) as caught:
        bench.load()
    assert sentence in str(caught.value)
    where = {"variants": "mine", "defaults": "defaults", "set": "set", "models": "a has a recipe"}
    assert where[place] in str(caught.value)


@pytest.mark.parametrize("name", sorted(objectives.known()))
def test_labels_without_a_form_are_refused_in_one_sentence(bench: Any, name: str) -> None:
    one = objectives.known()[name]
    bench.variants["mine"] = {"objective": {"name": name}}
    for dataset, labels in (("birds", "single"), ("cars", "multi")):
        if name in ("alone", "distill") or one.needs:
            continue
        if labels in one.refuses:
            with pytest.raises(ConfigError) as caught:
                bench.load(datasets=[dataset], pairs=["a+mine@b"])
            assert f"objective {name} has no {labels}-label form: " in str(caught.value)
            assert str(caught.value).count("\n") == 0
        else:
            bench.load(datasets=[dataset], pairs=["a+mine@b"])


def test_a_token_variant_touches_taught_students_with_that_token_only(bench: Any) -> None:
    bench.variants["token"] = TOKEN
    suite = bench.load(pairs=["alone", "cross"], variants=["token"])
    assert [str(run) for run in suite.runs("birds") if run.variants] == ["b+token@a"]
    values = suite.recipe("birds", "b+token@a").values
    assert (values["model"]["token"], values["objective"]["name"]) == ("two_heads", "token_hard")
    for idle in ("a+token@b", "b+token"):
        with pytest.raises(
            ConfigError, match=rf"'token' changes nothing in '{idle}'".replace("+", r"\+")
        ):
            bench.load(pairs=[idle], variants=[])


@pytest.mark.parametrize(
    "layer, run, sentence",
    [
        (TOKEN, "a@b", "needs model.token two_heads, which the builder 'small_cnn' lacks"),
        ({"objective": TOKEN["objective"]}, "b@a", "needs model.token two_heads, not cls"),
        ({"model": TOKEN["model"]}, "b@a", "not by distill; set both or neither"),
        ({"model": TOKEN["model"]}, "b", "not by alone; set both or neither"),
    ],
)  # fmt: skip
def test_token_and_objective_go_together(bench: Any, layer: Any, run: str, sentence: str) -> None:
    bench.models["b"]["recipe"]["model"].pop("token")
    bench.recipes["families"]["ast"]["model"]["token"] = "cls"
    with pytest.raises(ConfigError, match=sentence):
        bench.load(pairs=[run], set=layer, results="elsewhere")
