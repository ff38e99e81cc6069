"""Every sentence of the checks: one thing is broken in a sound catalogue, and named."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import checks

Break = Callable[[Any], object]


def message(bench: Any, change: Break) -> str:
    change(bench)
    with pytest.raises(ConfigError) as error:
        bench.load()
    return str(error.value).replace(f"{bench.folder}/", "")


def change(path: str, value: Any) -> Break:
    """Return a change of one value: file.key.key."""

    def apply(bench: Any) -> None:
        kind, *keys, last = path.split(".")
        place = getattr(bench, kind)
        for key in keys:
            place = place.setdefault(key, {})
        place[last] = value

    return apply


def remove(path: str) -> Break:
    def apply(bench: Any) -> None:
        kind, *keys, last = path.split(".")
        place = getattr(bench, kind)
        for key in keys:
            place = place[key]
        del place[last]

    return apply


FORM = [
    (change("suite.modles", ["a"]), "suite.yaml: unknown key 'modles', did you mean 'models'?"),
    (remove("suite.models"), "suite.yaml: the key 'models' is missing; add it"),
    (
        change("suite.models", "a"),
        "suite.yaml: models is 'a', but must be a list of models, each once",
    ),
    (
        change("suite.datasets", []),
        "suite.yaml: datasets is [], but must be a list of datasets, each once",
    ),
    (
        change("suite.seeds", [0, 0]),
        "suite.yaml: seeds is [0, 0], but must be a list of whole numbers from 0, each once",
    ),
    (
        change("suite.seeds", [1.0]),
        "suite.yaml: seeds.0 is 1.0, but must be a whole number from 0",
    ),
    (
        change("suite.folds", "some"),
        "suite.yaml: folds is 'some', but must be all or a list of fold numbers, each once",
    ),
    (
        change("suite.name", "a/b"),
        "suite.yaml: name is 'a/b', but must be a name of letters, digits, '_', '-' and '.'",
    ),
    (
        change("suite.execution", {"thread": 1}),
        "suite.yaml: unknown key 'thread' in execution, did you mean 'threads'?",
    ),
    (
        change("suite.execution", {"device": "gpu"}),
        "suite.yaml: execution.device is 'gpu', but must be auto, cpu, cuda or such as cuda:0",
    ),
    (
        change("suite.execution", {"tracking_uri": 5000}),
        "suite.yaml: execution.tracking_uri is 5000, but must be the address of an MLflow server "
        "or store",
    ),
    (
        change("suite.set", {"training": {"batch": True}}),
        "suite.yaml: set.training.batch is true, but must be a whole number from 1",
    ),
    (
        change("recipes.defaults.training.epoch", 3),
        "recipes.yaml: unknown key 'epoch' in defaults.training, did you mean 'epochs'?",
    ),
    (
        change("recipes.defaults.training.lr", -1),
        "recipes.yaml: defaults.training.lr is -1, but must be a number above 0",
    ),
    (
        change("recipes.defaults.training.lr", "fast"),
        "recipes.yaml: defaults.training.lr is 'fast', but must be a number above 0",
    ),
    (
        change("recipes.defaults.training.lr", None),
        "recipes.yaml: defaults.training.lr is empty, but must be a number above 0",
    ),
    (
        change("recipes.defaults.training.epochs", 5.0),
        "recipes.yaml: defaults.training.epochs is 5.0, but must be a whole number from 1",
    ),
    (
        change("recipes.defaults.objective.teaching", "cleen"),
        "recipes.yaml: defaults.objective.teaching has no choice 'cleen', did you mean 'clean'?",
    ),
    (
        change("recipes.defaults.objective.lambda", 1.5),
        "recipes.yaml: defaults.objective.lambda is 1.5, but must be a number from 0 to 1",
    ),
    (
        change("recipes.families.cnn", {"input": {"frames": 9}}),
        "recipes.yaml: families.cnn.input is set by defaults, a dataset, a suite or a "
        "variant only, "
        "since student and teacher share it; move it there",
    ),
    (
        change("models.a.recipe.input", {}),
        "models.yaml: a.recipe.input is set by defaults, a dataset, a suite or a variant only, "
        "since student and teacher share it; move it there",
    ),
    (
        change("models.a.class", "CNN"),
        "models.yaml: a.class has no choice 'CNN'; known: cnn, transformer",
    ),
    (remove("models.a.family"), "models.yaml: the key 'family' is missing in a; add it"),
    (
        change("models.Big", {"family": "cnn", "class": "cnn", "recipe": {}}),
        "models.yaml: it is 'Big', but must be words of a-z and 0-9 joined by single '_'",
    ),
    (
        lambda bench: bench.variants.update({True: {"objective": {"tau": 3.0}}}),
        "variants.yaml: it is true, but must be words of a-z and 0-9 joined by single '_'",
    ),
    (
        change("datasets.birds.classes", ["on", True]),
        "datasets.yaml: birds.classes.1 is true, but must be a name without semicolons "
        "(put quotes around on, off, yes, no and numbers)",
    ),
    (
        change("datasets.cars.splits", ["train", "eval"]),
        'datasets.yaml: cars.splits is ["train", "eval"], but must be [train, test] or '
        "[train, val, test]",
    ),
    (
        change("variants.tau2.objektive", {}),
        "variants.yaml: unknown key 'objektive' in tau2, did you mean 'objective'?",
    ),
]

CATALOGUE = [
    (
        change("datasets.birds.splits", ["train", "test"]),
        "datasets.yaml: birds must have either folds or splits, not both or none",
    ),
    (
        remove("datasets.birds.folds"),
        "datasets.yaml: birds must have either folds or splits, not both or none",
    ),
    (
        change("datasets.cars.metric", "accuracy"),
        "datasets.yaml: cars has labels multi and metric accuracy; multi-label clips are "
        "scored by map",
    ),
    (
        change("datasets.birds.reader", "esc_50"),
        "datasets.yaml: birds has a reader 'esc_50' that is no module in cmkd/data, did you "
        "mean 'esc50'?",
    ),
    (
        change("datasets.birds.fold", [1, 2]),
        "datasets.yaml: birds has an unknown key 'fold', did you mean 'folds'?",
    ),
    (
        change("models.a.family", "cnnn"),
        "models.yaml: a has a family 'cnnn' that is not in recipes.yaml, did you mean 'cnn'?",
    ),
    (
        change("models.a.recipe.model.builder", "smal_cnn"),
        "models.yaml: a has a builder 'smal_cnn' that is no module in cmkd/models, did you "
        "mean 'small_cnn'?",
    ),
    (
        change("models.a.recipe.model.stride", [2, 2]),
        "models.yaml: a sets model.stride, which the builder 'small_cnn' lacks; known: "
        "dropout, head, heads, widths",
    ),
    (
        change("recipes.datasets.bird", {}),
        "recipes.yaml: datasets has a layer for 'bird', which is no dataset, did you mean 'birds'?",
    ),
    (
        change("recipes.datasets_families.car", {}),
        "recipes.yaml: datasets_families has a layer for 'car', which is no dataset, did you "
        "mean 'cars'?",
    ),
    (
        change("recipes.datasets_families.birds.asst", {}),
        "recipes.yaml: datasets_families.birds has 'asst', which is no family, did you mean 'ast'?",
    ),
    (
        change("recipes.families.cnn", {"model": {"dropuot": 0.1}}),
        "recipes.yaml: families.cnn: unknown key 'model.dropuot', did you mean 'dropout'?",
    ),
    (
        change("recipes.datasets_families.birds.ast.model", {"tokn": "cls"}),
        "recipes.yaml: datasets_families.birds.ast: unknown key 'model.tokn', did you mean "
        "'token'?",
    ),
    (
        change("variants.idle", {}),
        "variants.yaml: idle sets nothing; give it a value or remove it",
    ),
    (
        change("variants.stems", {"model": {"stm": "sum"}}),
        "variants.yaml: stems: unknown key 'model.stm', did you mean 'stem'?",
    ),
]

SUITE = [
    (
        change("suite.datasets", ["bird"]),
        "suite.yaml: datasets: 'bird' is not in datasets.yaml, did you mean 'birds'?",
    ),
    (
        change("suite.models", ["a", "b", "x"]),
        "suite.yaml: models: 'x' is not in models.yaml; known: a, b, c",
    ),
    (
        change("suite.variants", ["tau3"]),
        "suite.yaml: variants: 'tau3' is not in variants.yaml, did you mean 'tau4'?",
    ),
    (
        change("suite.pairs", ["aloen"]),
        "suite.yaml: pairs: 'aloen': there is no model 'aloen', did you mean 'alone'?",
    ),
    (
        change("suite.pairs", ["a@B"]),
        "suite.yaml: pairs: 'a@B' is not the name of a run: 'B' must be words of a-z and 0-9 "
        "joined "
        "by single '_'",
    ),
    (
        change("suite.pairs", ["a@d"]),
        "suite.yaml: pairs: 'a@d': there is no model 'd'; known: a, b, c",
    ),
    (
        change("suite.pairs", ["a+fats@b"]),
        "suite.yaml: pairs: 'a+fats@b': there is no variant 'fats', did you mean 'fast'?",
    ),
    (
        change("suite.models", ["a", "c"]),
        "suite.yaml: pairs: cross finds no pair, since all models are of one class; remove it",
    ),
    (
        change("suite.pairs", ["alone", "same"]),
        "suite.yaml: pairs: same finds no pair, since no two models are of one class; remove it",
    ),
    (change("suite.folds", [1, 4]), "suite.yaml: folds: 'birds' has no fold 4; it has 1, 2, 3"),
    (
        change("suite.set", {"training": {"lr": 0.1}}),
        "suite.yaml: a suite with 'set:' needs a 'results:' folder of its own, else two "
        "suites fight "
        "over the same runs; add such as 'results: results/NAME'",
    ),
    (
        lambda bench: bench.suite.update(set={"model": {"drop_pth": 0.1}}, results="own"),
        "suite.yaml: set: unknown key 'model.drop_pth', did you mean 'drop_path'?",
    ),
]

RUNS = [
    (
        change("suite.pairs", ["a+tau2"]),
        "suite.yaml: the variant 'tau2' changes nothing in 'a+tau2' on 'birds'; leave it out",
    ),
    (
        change("suite.pairs", ["b@a+tau2"]),
        "suite.yaml: the variant 'tau2' changes nothing in 'a+tau2' on 'birds'; leave it out",
    ),
    (
        lambda bench: bench.suite.update(pairs=["alone"], variants=["tau2"]),
        "suite.yaml: variants: 'tau2' changes nothing in any run on 'birds'",
    ),
    (
        change("suite.pairs", ["a+tau2+tau4@b"]),
        "suite.yaml: The variants 'tau2' and 'tau4' of 'a+tau2+tau4@b' both set "
        "objective.tau; leave "
        "one out",
    ),
    (
        change("recipes.defaults.input.sample_rate", 44100),
        "input.sample_rate is 44100, but only 16000 is supported",
    ),
    (
        change("recipes.defaults.input.frequency_mask", 65),
        "input.frequency_mask 65 is wider than input.mel_bins 64; lower it",
    ),
    (
        change("recipes.defaults.input.time_mask", 101),
        "input.time_mask 101 is wider than input.frames 100; lower it",
    ),
    (
        change("models.b.recipe.model.patch", [65, 4]),
        "'b' on 'birds': model.patch is 65 long where input.mel_bins is 64; one must change",
    ),
    (
        change("models.b.recipe.model.patch", [16, 101]),
        "'b' on 'birds': model.patch is 101 long where input.frames is 100; one must change",
    ),
    (
        change("models.a.recipe.model.weights", "imagnet"),
        "'a' on 'birds': model.weights 'imagnet' must be none, imagenet, the path of a "
        ".safetensors "
        "file or run:DATASET/RUN, did you mean 'imagenet'?",
    ),
    (
        change("models.a.recipe.model.weights", "run:cars"),
        "model.weights 'run:cars' must be none, imagenet, the path of a .safetensors file or "
        "run:DATASET/RUN",
    ),
    (
        change("models.a.recipe.model.weights", "run:car/a"),
        "There is no dataset 'car' in datasets.yaml, did you mean 'cars'?",
    ),
    (
        change("models.a.recipe.model.weights", "run:cars/a"),
        "Initial weights go round in a circle: cars/a needs cars/a; break it",
    ),
    (
        change("recipes.defaults.training.readout", "best"),
        "'a' on 'birds': training.readout best needs a validation split, which the dataset "
        "lacks; use last",
    ),
    (
        change(
            "recipes.defaults.training.schedule", {"kind": "plateau", "factor": 0.5, "patience": 2}
        ),
        "'a' on 'birds': training.schedule plateau needs a validation split, which the "
        "dataset lacks; "
        "use step or constant",
    ),
    (
        change("recipes.defaults.training.readouts", ["last"]),
        "'a' on 'birds': training.readouts repeats the headline readout 'last'; leave it out",
    ),
    (
        lambda bench: bench.recipes["defaults"]["training"].update(
            readout="averaged", average=[3, 11]
        ),
        "training.average [3, 11] must lie within the epochs 1 to 10, first not after last",
    ),
    (
        change("recipes.defaults.training.readout", "averaged"),
        "'a' on 'birds': training.average is set by no layer; set it in recipes.yaml",
    ),
    (
        change("recipes.defaults.training.schedule", {"kind": "step", "start": 2, "factor": 0.5}),
        "'a' on 'birds': training.schedule.every is set by no layer; set it in recipes.yaml",
    ),
    (
        remove("recipes.defaults.training.lr"),
        "'a' on 'birds': training.lr is set by no layer; set it in recipes.yaml",
    ),
    (
        remove("recipes.defaults.objective.tau"),
        "'a@b' on 'birds': objective.tau is set by no layer; set it in recipes.yaml",
    ),
    (
        remove("models.b.recipe.model.dim"),
        "'b' on 'birds': model.dim is set by no layer; set it in recipes.yaml",
    ),
    (
        remove("recipes.defaults.model.normalise"),
        "'a' on 'birds': model.normalise.statistics is set by no layer; set it in recipes.yaml",
    ),
]


@pytest.mark.parametrize(("broken", "sentence"), FORM)
def test_form(bench: Any, broken: Break, sentence: str) -> None:
    assert sentence in message(bench, broken)


@pytest.mark.parametrize(("broken", "sentence"), CATALOGUE)
def test_sense_of_the_catalogue(bench: Any, broken: Break, sentence: str) -> None:
    assert message(bench, broken) == sentence


@pytest.mark.parametrize(("broken", "sentence"), SUITE)
def test_sense_of_the_suite(bench: Any, broken: Break, sentence: str) -> None:
    assert sentence in message(bench, broken)


@pytest.mark.parametrize(("broken", "sentence"), RUNS)
def test_sense_of_the_runs(bench: Any, broken: Break, sentence: str) -> None:
    assert sentence in message(bench, broken)


def test_a_sound_suite_is_silent(bench: Any) -> None:
    bench.write()
    assert checks.check(bench.suite, bench.folder, "suite.yaml") is None


def test_all_problems_come_together(bench: Any) -> None:
    bench.suite |= {"modles": [], "seeds": [-1]}
    bench.recipes["defaults"]["training"]["lr"] = 0
    path = bench.write()
    (bench.folder / "variants.yaml").write_text("slow: {training: {lr: 1e-5}}\n")
    with pytest.raises(ConfigError) as error:
        checks.check(bench.suite, bench.folder, path.name)
    head, *problems = str(error.value).replace(f"{bench.folder}/", "").split("\n  - ")
    assert head == "4 problems in the configuration:"
    assert [problem.split(":")[0] for problem in problems] == [
        *("suite.yaml", "suite.yaml", "recipes.yaml"),
        "variants.yaml, line 1",
    ]
    assert problems[-1].endswith("YAML reads 1e-5 as text, not as a number; write 1.0e-5")


def test_sense_is_checked_in_all_files_together(bench: Any) -> None:
    bench.datasets["birds"]["reader"] = "tooy"
    bench.suite |= {"models": ["a", "bb"], "folds": [9]}
    text = message(bench, lambda bench: None)
    assert text.startswith("3 problems")
    assert "did you mean 'toy'" in text
    assert "did you mean 'b'" in text
    assert "no fold 9" in text


def test_a_broken_form_hides_no_misspelled_name(bench: Any) -> None:
    def breaks(bench: Any) -> None:
        bench.suite["modles"] = []
        bench.suite["datasets"] = ["nowhere"]
        bench.suite["pairs"] = ["alone", "nobody@noone"]
        bench.suite["folds"] = "some"

    said = message(bench, breaks)
    assert "unknown key 'modles'" in said
    assert "datasets: 'nowhere' is not in" in said
    assert "there is no model 'nobody'" in said
    assert "folds is 'some'" in said
    assert "5 problems" in said


def test_a_list_that_is_none_is_said_once_and_not_read(bench: Any) -> None:
    said = message(bench, change("suite.datasets", [3]))
    assert "datasets" in said
    assert "'3' is not in" not in said


def test_the_runs_problems_come_together(bench: Any) -> None:
    text = message(bench, change("suite.pairs", ["a+tau2", "b+tau2", "a+tau2+tau4@b"]))
    assert "both set objective.tau" in text
    bench.suite["pairs"] = ["a+tau2", "b+tau2"]
    text = message(bench, lambda bench: None)
    assert text.startswith("2 problems")


def test_published_statistics_must_be_declared(bench: Any) -> None:
    bench.suite["datasets"] = ["cars"]
    text = message(bench, change("recipes.defaults.model.normalise.statistics", "published"))
    assert (
        "The dataset 'cars' has no published_statistics in datasets.yaml; add them there or set "
        "model.normalise.statistics to fold" in text
    )


def test_names_that_variants_make_too_long_are_refused(bench: Any) -> None:
    run = "@".join(["a"] * 99)
    text = message(bench, lambda b: b.suite.update(pairs=[run], variants=["fast"]))
    assert "has 202 characters; at most 200 are allowed" in text


def test_two_suites_with_other_recipes_must_not_share_results(bench: Any) -> None:
    bench.suite |= {"set": {"training": {"epochs": 3}}, "results": "results/one"}
    path = bench.write()
    (bench.folder / "broken.yaml").write_text("results/one: [")
    copy = path.read_text().replace("epochs: 3", "epochs: 4")
    (bench.folder / "other.yaml").write_text(copy)
    text = message(bench, lambda bench: None)
    assert text == (
        "suite.yaml: results: results/one belongs to the suite other.yaml too, whose 'set:' "
        "differs; "
        "give one of them another folder"
    )
    (bench.folder / "other.yaml").write_text(copy.replace("epochs: 4", "epochs: 3"))
    assert bench.load().name == "suite"


def test_a_dataset_with_validation_may_choose_its_best_epoch(bench: Any) -> None:
    bench.recipes["defaults"]["training"] |= {
        "readout": "best",
        "schedule": {"kind": "plateau", "factor": 0.5, "patience": 2},
    }
    suite = bench.load(datasets=["cars"])
    assert suite.recipe("cars", "a").values["training"]["readout"] == "best"


def test_a_builder_of_ones_own_brings_its_options(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "modules", lambda *_: {"mine", "small_cnn", "ast", "toy"})
    bench.models["a"]["recipe"]["model"] = {"builder": "mine", "colour": 3}
    bench.recipes["families"]["cnn"] = {"model": {"colour": 4}}
    assert bench.load().recipe("birds", "a").values["model"]["colour"] == 3


def test_builders_and_readers_are_those_of_the_package() -> None:
    assert checks.modules("models", "build") >= {"cnn", "small_cnn", "ast"}
    assert checks.modules("data", "rows") >= {"esc50", "toy"}
    assert "build" not in checks.modules("models", "build")


def test_planning_is_cheap() -> None:
    """Under 0.1 s of CPU to import, under 0.4 s to load and expand (about a third here)."""
    code = """
import time
import yaml
start = time.process_time()
from cmkd.plan import suites
imported = time.process_time()
suites.load().jobs()
print(imported - start, time.process_time() - imported)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, loaded = map(float, done.stdout.split())
    assert imported < 0.1
    assert loaded < 0.4
