"""A training that starts from a run of another dataset: other clips, length, classes, labels."""

import yaml

from cmkd import files
from cmkd.audio.statistics import write_statistics
from cmkd.data.prepare import prepare
from cmkd.learning import inputs
from cmkd.learning.train import build_model, train
from cmkd.models import weights
from cmkd.plan import suites

TOY = {"reader": "toy", "seconds": 0.5, "seed": 3}
DATASETS = {
    "many": {
        **TOY,
        "labels": "multi",
        "metric": "map",
        "classes": ["rising", "clicks", "flutter", "hiss"],
        "splits": ["train", "val", "test"],
        "clips": 24,
    },
    "few": {
        **TOY,
        "labels": "single",
        "metric": "accuracy",
        "classes": ["falling", "rhythm"],
        "folds": [1, 2],
        "clips_per_class": 6,
    },
}
AST = {"builder": "ast", "trunk": "plain", "dim": 12, "depth": 1, "heads": 2, "token": "cls"}
MODELS = {
    "tiny_cnn": {
        **{"family": "cnn", "class": "cnn"},
        "recipe": {"model": {"builder": "small_cnn", "widths": [4, 8], "head": "mean"}},
    },
    "tiny_ast": {
        **{"family": "ast", "class": "transformer"},
        "recipe": {"model": {**AST, "patch": [16, 4], "stride": [16, 4]}},
    },
}
RECIPES = {
    "defaults": {
        "input": {"sample_rate": 16000, "mel_bins": 16, "shift_ms": 20.0, "frames": 24},
        "model": {"weights": "none", "normalise": {"statistics": "fold", "factor": 1.0}},
        "objective": {"name": "distill", "lambda": 0.5, "tau": 1.0},
        "training": {
            **{"optimiser": "adam", "lr": 0.003, "betas": [0.9, 0.99], "weight_decay": 0.0},
            **{"batch": 8, "epochs": 1, "readout": "last", "schedule": {"kind": "constant"}},
        },
    },
    "datasets": {"few": {"input": {"frames": 12}}},
    "families": {"cnn": {}, "ast": {}},
}
VARIANTS = {
    "warm_cnn": {"model": {"weights": "run:many/tiny_cnn"}},
    "warm_ast": {"model": {"weights": "run:many/tiny_ast"}},
}
SUITE = {
    "datasets": ["few"],
    "models": ["tiny_cnn", "tiny_ast"],
    "pairs": ["tiny_cnn+warm_cnn", "tiny_ast+warm_ast"],
    "folds": [2],
}


def _suite(folder):
    made = {"datasets": DATASETS, "models": MODELS, "recipes": RECIPES, "variants": VARIANTS}
    for kind, content in (made | {"suite": SUITE}).items():
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(content))
    return suites.load(folder / "suite.yaml")


def _arguments(suite, job, folder):
    """Return what the verb `train` gets for a job, with its clips and statistics made."""
    prepared = folder / "prepared" / job.dataset
    frontend = suite.frontend(job.dataset, job.run)
    numbers = prepared / f"{job.fold}.json"
    if not prepared.exists():
        prepare(suite.data_recipe(job.dataset).text, prepared, None, 1)
        sizes = {key: getattr(frontend, key) for key in inputs.FRONTEND}
        write_statistics(prepared, job.fold, sizes, numbers)
    wanted = folder / f"{job.dataset}-{job.run}.yaml"
    wanted.write_text(suite.recipe(job.dataset, job.run).text)
    start = suite.initial_of(job)
    initial = None if start is None else suite.folder(start) / "weights.safetensors"
    return wanted, job.fold, job.seed, prepared, numbers, None, initial


def test_runs_of_another_dataset_start_cnn_and_ast(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = _suite(tmp_path)
    jobs = suite.jobs()
    assert [job.dataset for job in jobs].count("many") == 2 and len(jobs) == 4
    for job in jobs:
        wanted, fold, seed, prepared, numbers, _, initial = _arguments(suite, job, tmp_path)
        run = suite.folder(job)
        if initial is not None:
            found = inputs.gather(wanted, fold, seed, prepared, numbers, None, initial)
            _check_start(build_model(found).model, weights.read(initial)[0])
        execution = {"device": "cpu", "checkpoint_seconds": 1000}
        train(wanted, run, fold, seed, prepared, numbers, None, initial, execution)
        record = files.read_json(run / "inputs.json")
        assert record["initial"] == (initial and files.sha256_file(initial))


def _check_start(model, source):
    """Body and middle of the positions are the source's; the head is this model's own."""
    state = model.state_dict()
    for name, tensor in state.items():
        theirs = source[f"model.{name}"]
        if name.startswith("head."):
            assert len(tensor) == 2 and len(theirs) == 4 or "0." in name, name
        elif name == "positions":
            assert theirs.shape[2] == 6 and tensor.equal(theirs[:, :, 2:5]), name
        else:
            assert tensor.equal(theirs), name
