import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.errors import ConfigError
from cmkd.plan import catalog, suites
from cmkd.plan.suites import Frontend, Job

CONFIG = catalog.find()
SUITES = sorted(
    path.stem
    for path in CONFIG.glob("*.yaml")
    if path.stem not in (*catalog.FILES, "claims", "paper")
)


def listed(suite: suites.Suite, dataset: str = "birds") -> list[str]:
    return [str(run) for run in suite.runs(dataset)]


def test_three_models_give_twelve_runs(loaded: Any) -> None:
    """3 alone, 4 cross, 2 same, 3 self."""
    suite = loaded(models=["a", "b", "c"], pairs=["alone", "cross", "same", "self"], seeds=[0, 1])
    assert listed(suite) == [
        *("a", "b", "c"),
        *("a@b", "b@a", "b@c", "c@b"),
        *("a@c", "c@a"),
        *("a@a", "b@b", "c@c"),
    ]
    assert len(suite.jobs()) == 12 * 3 * 2
    assert len(set(suite.jobs())) == 72


def test_directions_families_classes(loaded: Any) -> None:
    suite = loaded()
    expected = {
        "a": "alone",
        "b@a": "cnn_to_transformer",
        "a@b": "transformer_to_cnn",
        "a@c": "same_class",
        "a@a": "self",
        "a+tau2@a": "self",
        "a@b@a": "transformer_to_cnn",
    }
    assert {run: suite.direction(run) for run in expected} == expected
    assert (suite.family("b@a"), suite.klass("b@a")) == ("ast", "transformer")


def test_closure_trains_teachers_before_their_students(loaded: Any) -> None:
    suite = loaded(pairs=["b@a@c"], folds=[2], seeds=[5])
    assert [job.run for job in suite.jobs()] == ["c", "a@c", "b@a@c"]
    assert suite.listed() == {("birds", "b@a@c")}
    student = Job("birds", "b@a@c", 2, 5)
    teacher = Job("birds", "a@c", 2, 5)
    assert suite.teacher_of(student) == teacher
    assert suite.students(teacher) == (student,)
    assert suite.teacher_of(Job("birds", "c", 2, 5)) is None


def test_jobs_stand_in_order_of_dataset_run_fold_seed(loaded: Any) -> None:
    suite = loaded(datasets=["cars", "birds"], pairs=["alone"], folds=[1, 3], seeds=[4, 2])
    assert suite.jobs()[:4] == (
        *(Job("cars", "a", 0, 4), Job("cars", "a", 0, 2)),
        *(Job("cars", "b", 0, 4), Job("cars", "b", 0, 2)),
    )
    assert suite.jobs()[4:8] == tuple(Job("birds", "a", f, s) for f in (1, 3) for s in (4, 2))
    assert suite.folds("cars") == (0,)


def test_a_variant_is_added_where_it_changes_something(loaded: Any) -> None:
    suite = loaded(variants=["tau2", "fast"])
    assert listed(suite) == [
        *("a", "b", "a@b", "b@a", "a+tau2@b", "b+tau2@a"),
        *("a+fast", "b+fast", "a+fast@b", "b+fast@a"),
    ]


def test_initial_weights_are_a_run_of_their_own(loaded: Any) -> None:
    suite = loaded(pairs=["b+fast@a+warm"], folds=[2])
    student = Job("birds", "a+warm", 2, 0)
    assert suite.initial_of(student) == Job("cars", "a", 0, 0)
    assert suite.jobs()[0] == Job("cars", "a", 0, 0)
    initial = suite.recipe("birds", "a+warm").values["initial"]
    recipe = suite.recipe("cars", "a").digest
    assert initial == {"run": "a", "dataset": "cars", "recipe": recipe}
    assert suite.initial_of(Job("birds", "b", 2, 0)) is None
    assert set(suite.frontends("cars")) == {"mel64-shift10-frames100"}


def test_initial_weights_in_a_circle_are_refused(bench: Any) -> None:
    bench.models["a"]["recipe"]["model"]["weights"] = "run:birds/b@a"
    with pytest.raises(ConfigError, match=r"circle: birds/a needs birds/b@a needs birds/a; break"):
        bench.load()


def test_a_word_for_weights_serves_every_model(bench: Any) -> None:
    bench.variants |= {
        "pre": {"model": {"weights": "run:cars/{model}"}},
        "pre_taught": {"model": {"weights": "run:cars/{model}@c"}},
        "file": {"model": {"weights": "weights/{model}.safetensors"}},
    }
    suite = bench.load(pairs=["a+pre", "b+pre", "b+pre_taught@a+pre", "a+file"], folds=[3])
    initial = {run: suite.initial_of(Job("birds", run, 3, 0)) for run in ("a+pre", "b+pre")}
    assert initial == {"a+pre": Job("cars", "a", 0, 0), "b+pre": Job("cars", "b", 0, 0)}
    taught = suite.recipe("birds", "b+pre_taught@a+pre").values
    assert taught["model"]["weights"] == "run:cars/b@c"
    source = suite.recipe("cars", "b@c").digest
    assert taught["initial"] == {"run": "b@c", "dataset": "cars", "recipe": source}
    assert suite.recipe("birds", "a+file").values["model"]["weights"] == "weights/a.safetensors"
    assert "{" not in suite.recipe("birds", "b+pre").text
    order = [(job.dataset, job.run) for job in suite.jobs()]
    assert order.index(("cars", "c")) < order.index(("cars", "b@c"))
    assert order.index(("cars", "b@c")) < order.index(("birds", "b+pre_taught@a+pre"))


def test_a_change_of_the_source_reaches_those_that_start_from_it(bench: Any) -> None:
    bench.variants["pre"] = {"model": {"weights": "run:cars/{model}"}}
    keys = {"pairs": ["a+pre", "b+pre"]}
    before = bench.load(**keys)
    bench.recipes["datasets"]["cars"] = {"training": {"epochs": 11}}
    bench.recipes["datasets_families"]["cars"] = {"ast": {"training": {"epochs": 10}}}
    after = bench.load(**keys)
    changed = {
        r: before.recipe("birds", r).digest != after.recipe("birds", r).digest
        for r in keys["pairs"]
    }
    assert changed == {"a+pre": True, "b+pre": False}


@pytest.mark.parametrize(
    ("weights", "path"),
    [
        ("run:birds/{model}+pre", "birds/a+pre needs birds/a+pre"),
        ("run:birds/{model}@a+pre", "birds/a+pre needs birds/a@a+pre needs birds/a+pre"),
    ],
)
def test_a_word_for_weights_may_not_lead_back(bench: Any, weights: str, path: str) -> None:
    bench.variants["pre"] = {"model": {"weights": weights}}
    with pytest.raises(ConfigError, match=f"circle: {re.escape(path)}; break"):
        bench.load(pairs=["a+pre"])


def test_another_word_in_braces_is_no_run(bench: Any) -> None:
    bench.variants["pre"] = {"model": {"weights": "run:cars/{modell}"}}
    with pytest.raises(ConfigError, match=r"'\{modell\}' is not the name of a run"):
        bench.load(pairs=["a+pre"])


def test_initial_weights_need_the_same_fold(bench: Any) -> None:
    bench.datasets["frogs"] = bench.datasets["birds"] | {"folds": [1, 2]}
    bench.models["a"]["recipe"]["model"]["weights"] = "run:frogs/b"
    with pytest.raises(ConfigError, match="fold 3 of 'birds' cannot start .* 'frogs', which has"):
        bench.load()


def test_a_teacher_with_another_front_end_is_refused(bench: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"'b\+wide@a' sees input.mel_bins 96 but its teacher 'a'"
    ):
        bench.load(pairs=["b+wide@a"])
    suite = bench.load(pairs=["b+wide@a+wide", "b+plain@a"])
    assert suite.frontend("birds", "b+wide@a+wide") == Frontend(96, 10.0, 100)


def test_paths(loaded: Any) -> None:
    suite = loaded(results="out here", prepared="clips", pairs=["b@a"])
    job = Job("birds", "b@a", 1, 0)
    assert suite.folder(job) == Path("out here/runs/birds/b@a/fold-1/seed-0")
    assert suite.statistics(job) == Path("clips/birds/stats/mel64-shift10-frames100/fold-1.json")
    assert Frontend(64, 12.5, 9).name == "mel64-shift12.5-frames9"


def test_defaults_of_a_short_suite(bench: Any) -> None:
    del bench.suite["pairs"]
    suite = bench.load(execution={"threads": 2})
    assert listed(suite) == ["a", "b"]
    assert (suite.seeds, suite.results) == ((0,), Path("results"))
    assert suite.prepared == Path("results/prepared")
    assert suite.execution == suites.EXECUTION | {"threads": 2}
    assert (suite.name, suite.catalog, suite.data_root) == ("suite", Path("."), None)


def test_execution_and_data_root_are_in_no_recipe(bench: Any) -> None:
    before = bench.load()
    assert before.root("birds") is None
    bench.datasets["birds"] |= {"data_root": "/elsewhere", "title": "Birds", "licence": "CC0"}
    after = bench.load(execution={"threads": 8}, data_root="/data")
    assert after.recipe("birds", "a").text == before.recipe("birds", "a").text
    assert after.data_recipe("birds") == before.data_recipe("birds")
    assert after.root("birds") == Path("/data")
    del bench.suite["data_root"]
    assert bench.load().root("birds") == Path("/elsewhere")


def test_a_tilde_is_the_home_folder(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    suite = bench.load(results="~/out", prepared="~/clips", data_root="~/ESC-50")
    assert (suite.results, suite.prepared) == (Path("/home/me/out"), Path("/home/me/clips"))
    assert suite.root("birds") == Path("/home/me/ESC-50")
    bench.datasets["birds"]["data_root"] = "~/birds"
    assert bench.load(data_root=None).root("birds") == Path("/home/me/birds")


def test_prepared_data_has_a_recipe(bench: Any) -> None:
    recipe = bench.load().data_recipe("birds")
    values = yaml.safe_load(recipe.text)
    assert values == bench.datasets["birds"] | {"name": "birds", "behaviour": 1}
    bench.datasets["birds"]["seed"] = 9
    assert bench.load().data_recipe("birds").digest != recipe.digest


def test_overrides_are_laid_over_the_file(bench: Any) -> None:
    path = bench.write()
    suite = suites.load(path, {"data_root": Path("/data/x"), "seeds": [3]})
    assert (suite.data_root, suite.seeds) == (Path("/data/x"), (3,))


@pytest.mark.parametrize("name", SUITES)
def test_the_whole_suite_as_text_loads_back_equal(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suites.load(CONFIG / f"{name}.yaml", {"data_root": "/data"})
    hidden = tmp_path / "0123456789abcdef.yaml"
    hidden.write_text(suite.text())
    again = suites.load(hidden)
    assert again.text() == suite.text()
    assert again.name == suite.name == {"config": "default"}.get(name, name)
    assert again.jobs() == suite.jobs()
    digests = [[s.recipe(job.dataset, job.run).digest for job in s.jobs()] for s in (suite, again)]
    assert digests[0] == digests[1]


def test_the_default_suite_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = suites.load()
    assert suite.name == "default"
    assert len(suite.jobs()) == 12 * 5 * 3


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_says_what_it_costs_and_gives(name: str) -> None:
    head = (CONFIG / f"{name}.yaml").read_text().split("datasets:")[0]
    for word in ("# command ", "# hardware ", "# hours ", "# disk ", "# result "):
        assert word in head


def test_folds_that_start_from_one_run_are_not_independent(bench: Any) -> None:
    bench.variants["same"] = {"model": {"weights": "run:birds/b"}}
    suite = bench.load(pairs=["alone", "a+warm", "b@a+warm", "a+same"])
    shared = {
        run: suite.shares_start("birds", run) for run in ("a", "a+warm", "b@a+warm", "a+same")
    }
    assert shared == {"a": False, "a+warm": True, "b@a+warm": True, "a+same": False}
    assert not suite.shares_start("cars", "a")  # a fixed split has no folds
