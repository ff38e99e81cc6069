"""From recordings to scored runs: the verbs that the DAG calls, and `convert`."""

import argparse
from pathlib import Path
from typing import Any

from cmkd.cli.common import Arguments, count, execution, verb
from cmkd.errors import ConfigError


@verb(
    "decode a dataset into manifest.csv, audit.json and clips.bin",
    "cmkd prepare .cmkd/wanted/esc50/prepared/1a2b.yaml --prepared results/prepared/esc50"
    " --data-root ~/ESC-50-master",
)
def prepare(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd prepare`."""
    sub.add_argument("wanted", type=Path, help="the dataset's recipe")
    sub.add_argument("--prepared", type=Path, help="folder to write")
    sub.add_argument("--data-root", type=Path, help="folder that holds the recordings")
    sub.add_argument("--download", action="store_true", help="fetch what is missing there first")
    sub.add_argument("--download-only", action="store_true", help="fetch it, prepare nothing")
    sub.add_argument("--catalog", type=Path, help="folder of datasets.yaml, for downloads")
    sub.add_argument("--workers", type=count, default=1, help="processes that decode")
    sub.add_argument("--again", action="store_true", help="read the recordings anew")
    sub.set_defaults(action=_prepare)


def _prepare(chosen: Arguments) -> None:
    try:
        text = chosen.wanted.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{chosen.wanted} cannot be read: {error}") from None
    if chosen.download or chosen.download_only:
        _download(chosen, text)
    if chosen.download_only:
        return
    if chosen.prepared is None:
        raise ConfigError("--prepared is missing: name the folder to write by --prepared FOLDER")
    from cmkd.data.prepare import prepare
    from cmkd.scoring import failures

    with failures.noted(chosen.prepared / "manifest.csv", "prepare"):
        prepare(text, chosen.prepared, chosen.data_root, chosen.workers, chosen.again)


def _download(chosen: Arguments, text: str) -> None:
    """Fetch what is missing of a dataset into its data root."""
    from cmkd.data import catalog, obtain

    if chosen.data_root is None:
        raise ConfigError("--data-root is missing: name the folder to fetch into by it")
    entry = catalog.entry(text)
    obtain.obtain(obtain.source(entry["name"], chosen.catalog), entry, chosen.data_root)


@verb(
    "mean and deviation of the filter banks of a fold's training clips",
    "cmkd stats --prepared results/prepared/esc50 --fold 1 --mel-bins 128 --shift-ms 10"
    " --frames 512 --out results/prepared/esc50/stats/mel128-shift10-frames512/fold-1.json",
)
def stats(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd stats`."""
    sub.add_argument("--prepared", type=Path, required=True)
    sub.add_argument("--fold", type=int, required=True)
    sub.add_argument("--mel-bins", type=count, required=True)
    sub.add_argument("--shift-ms", type=float, required=True)
    sub.add_argument("--frames", type=count, required=True)
    sub.add_argument("--out", type=Path, required=True, help="JSON file to write")
    sub.set_defaults(action=_stats)


def _stats(chosen: Arguments) -> None:
    from cmkd.audio.statistics import write_statistics
    from cmkd.scoring import failures

    frontend = {
        "sample_rate": 16000,
        "mel_bins": chosen.mel_bins,
        "shift_ms": chosen.shift_ms,
        "frames": chosen.frames,
    }
    with failures.noted(chosen.out, "stats"):
        write_statistics(chosen.prepared, chosen.fold, frontend, chosen.out)


@verb(
    "train one run on one fold with one seed",
    "cmkd train WANTED.yaml --run FOLDER --fold 1 --seed 0 --prepared results/prepared/esc50"
    " --statistics STATS.json --teacher TEACHERS_FOLDER",
)
def train(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd train`."""
    sub.add_argument("wanted", type=Path, help="the run's recipe")
    sub.add_argument("--run", type=Path, required=True, help="run folder to write")
    sub.add_argument("--fold", type=int, required=True)
    sub.add_argument("--seed", type=int, required=True)
    sub.add_argument("--prepared", type=Path, required=True, help="the dataset's prepared folder")
    sub.add_argument("--statistics", type=Path, required=True, help="the fold's statistics")
    sub.add_argument("--teacher", type=Path, help="the teacher's run folder")
    sub.add_argument("--initial", type=Path, help="weights to start from")
    sub.add_argument("--execution", type=Path, help="YAML: device, gpus, threads and such")
    sub.add_argument("--suite", type=Path, help="the resolved suite, whose budget must reach")
    sub.set_defaults(action=_train)


def _train(chosen: Arguments) -> None:
    if chosen.suite is not None:
        _within_budget(chosen)
    settings = execution(chosen.execution)
    from cmkd.operations import devices

    if devices.started_by_torchrun():
        from cmkd.learning.launch import replying

        with replying():
            _train_here(chosen, settings)
        return
    processes = settings["gpus"]
    if type(processes) is not int or processes < 1:
        raise ConfigError(f"execution.gpus is {processes!r}, but must be a whole number from 1")
    with devices.claimed(settings, processes):
        if processes == 1:
            _train_here(chosen, settings)
            return
        from cmkd.learning.launch import launch

        launch(_arguments(chosen), processes, chosen.run)


def _arguments(chosen: Arguments) -> list[str]:
    """Return the command line of a training, for each of its processes."""
    options = ("run", "fold", "seed", "prepared", "statistics", "teacher", "initial", "execution")
    given = [(name, getattr(chosen, name)) for name in options]
    pairs = [(f"--{name}", str(value)) for name, value in given if value is not None]
    return ["train", str(chosen.wanted), *(word for pair in pairs for word in pair)]


def _train_here(chosen: Arguments, settings: dict[str, Any]) -> None:
    """Train in this process."""
    from cmkd.learning.train import train

    train(
        wanted=chosen.wanted,
        run=chosen.run,
        fold=chosen.fold,
        seed=chosen.seed,
        prepared=chosen.prepared,
        statistics=chosen.statistics,
        teacher=chosen.teacher,
        initial=chosen.initial,
        execution=settings,
    )


def _within_budget(chosen: Arguments) -> None:
    """Refuse a training that the suite's budget does not reach for, before torch is imported."""
    from cmkd import files
    from cmkd.errors import BudgetError
    from cmkd.plan import budget
    from cmkd.plan.recipes import digest
    from cmkd.scoring import failures

    try:
        budget.guard(chosen.suite, chosen.wanted, chosen.fold, chosen.seed)
    except BudgetError as error:
        recipe = digest(chosen.wanted.read_text(encoding="utf-8"))
        record = failures.describe(error, "train", recipe)
        files.write_json(chosen.run / "state" / failures.NAME, record)
        raise


@verb(
    "score a trained run's test clips, or from stored scores only those in a list",
    "cmkd evaluate --run results/runs/esc50/ast_tiny/fold-1/seed-0"
    " --prepared results/prepared/esc50\n"
    "  cmkd evaluate --ids both_copies.txt --run FOLDER --run FOLDER",
)
def evaluate(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd evaluate`."""
    sub.add_argument(
        "--run", type=Path, required=True, action="append", help="the run's folder; with --ids any"
    )
    sub.add_argument("--prepared", type=Path, help="the dataset's prepared folder; not with --ids")
    sub.add_argument("--execution", type=Path, help="YAML: device, threads")
    sub.add_argument("--ids", type=Path, help="file of clip ids, one a line: metrics-HASH.json")
    sub.set_defaults(action=_evaluate)


def _evaluate(chosen: Arguments) -> None:
    if chosen.ids is not None:
        from cmkd.scoring.intersection import evaluate_on

        evaluate_on(chosen.run, chosen.ids)
        return
    if len(chosen.run) > 1:
        raise ConfigError("evaluate takes one --run at a time; several only with --ids")
    if chosen.prepared is None:
        raise ConfigError("evaluate needs --prepared, the dataset's folder; only --ids does not")
    settings = execution(chosen.execution)
    from cmkd.operations import devices

    with devices.claimed(settings):
        from cmkd.scoring.evaluate import evaluate

        evaluate(chosen.run[0], chosen.prepared, settings)


@verb(
    "turn a sibling code's checkpoint (ast, ssast, psla, uavm) into weights to start from",
    "cmkd convert audioset_10_10_0.4593.pth --model ast_base --out ast_audioset.safetensors",
)
def convert(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd convert`."""
    sub.add_argument("source", type=Path, help="the .pth or .safetensors file")
    sub.add_argument("--model", required=True, help="the entry of models.yaml of the same shape")
    sub.add_argument("--out", type=Path, required=True, help=".safetensors file to write")
    sub.add_argument("--classes", type=count, help="of the new model (default: as in the file)")
    sub.set_defaults(action=_convert)


def _convert(chosen: Arguments) -> None:
    from cmkd.models.convert import convert, report

    found = convert(chosen.source, chosen.model, chosen.out, chosen.classes)
    print(report(found, chosen.out))
