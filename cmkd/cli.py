"""The verbs of `cmkd`; each imports what it needs only when it is called."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cmkd import __version__
from cmkd.errors import CmkdError, ConfigError

Arguments = argparse.Namespace
SUITE_HELP = "the suite's YAML file (default: config/config.yaml)"
VERBS: list[tuple[str, str, str, Callable[[argparse.ArgumentParser], None]]] = []


def verb(help_text: str, example: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that adds a verb's options and names its action; the name is the verb."""

    def register(options: Callable[[Any], None]) -> Callable[[Any], None]:
        VERBS.append((options.__name__.rstrip("_"), help_text, example, options))
        return options

    return register


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="cmkd",
        description="Benchmark suite for cross-model knowledge distillation in audio.",
        epilog="exit codes: 0 done, 1 a bug, 2 wrong input, 75 stopped in time (run it again)",
    )
    top.add_argument("--version", action="version", version=f"cmkd {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, help_text, example, options in VERBS:
        sub = verbs.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        options(sub)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; say a user's error in one sentence and return the exit code."""
    try:
        chosen = parser().parse_args(arguments)
        chosen.action(chosen)
    except CmkdError as error:
        print(f"cmkd: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cmkd: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


# What several verbs share.


def _suite_options(sub: argparse.ArgumentParser) -> None:
    """Add the suite's file and the one override that belongs on a command line."""
    sub.add_argument("suite", type=Path, nargs="?", help=SUITE_HELP)
    sub.add_argument("--data-root", type=Path, help="folder that holds the recordings")


def _suite(chosen: Arguments) -> Any:
    """Load the suite that was named, or the default one."""
    from cmkd.files import checkout
    from cmkd.plan import suites

    path = chosen.suite or checkout() / "config" / "config.yaml"
    overrides: dict[str, Any] = {"data_root": str(chosen.data_root)} if chosen.data_root else {}
    if getattr(chosen, "download", False):
        overrides["download"] = True
    return suites.load(path, overrides)


def _count(text: str) -> int:
    """Read a whole number from 1; argparse says what is wrong with another."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _execution(path: Path | None) -> dict[str, Any]:
    """Read the `execution:` block of a suite from its own file, or return the defaults."""
    from cmkd.plan.catalog import read_yaml
    from cmkd.plan.suites import EXECUTION

    if path is None:
        return dict(EXECUTION)
    if not path.is_file():
        raise ConfigError(f"--execution {path}: no such file; leave it out for the defaults")
    return {**EXECUTION, **read_yaml(path)}


# The verbs, in the order of a run.


@verb(
    "list the runs of a suite, and estimate what they cost",
    "cmkd plan config/demo.yaml --commands > demo.sh",
)
def plan(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd plan`."""
    _suite_options(sub)
    sub.add_argument("--commands", action="store_true", help="print the verbs as a shell script")
    sub.add_argument("--download", action="store_true", help="with what fetches datasets")
    sub.set_defaults(action=_plan)


def _plan(chosen: Arguments) -> None:
    from cmkd.plan import costs

    suite = _suite(chosen)
    if chosen.commands:
        print(suite.commands(), end="")
        return
    for job in suite.jobs():
        direction = suite.direction(job.run)
        print(f"{job.dataset}\t{job.run}\tfold-{job.fold}\tseed-{job.seed}\t{direction}")
    sys.stdout.flush()
    print(costs.summary(suite), file=sys.stderr)


@verb(
    "print every value of a run's recipe with its layer and source",
    "cmkd explain ast_tiny@effnet_b0 --dataset esc50",
)
def explain(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd explain`."""
    sub.add_argument("run", nargs="?", help="the run's name, as in the leaderboard")
    _suite_options(sub)
    sub.add_argument("--dataset", help="the dataset (default: the suite's first)")
    sub.add_argument("--all", action="store_true", help="print docs/recipes.md instead of one run")
    sub.set_defaults(action=_explain)


def _explain(chosen: Arguments) -> None:
    from cmkd.plan.explain import explain

    if chosen.all:
        _explain_all()
        return
    if chosen.run is None:
        raise ConfigError("explain needs the name of a run, such as ast_tiny@effnet_b0, or --all")
    suite = _suite(chosen)
    print(explain(suite, chosen.dataset or suite.datasets[0], chosen.run))


def _explain_all() -> None:
    from cmkd.files import checkout
    from cmkd.plan.catalog import Catalog
    from cmkd.plan.handbook import page

    print(page(Catalog(checkout() / "config"), checkout() / "docs" / "recipes.in.md"), end="")


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
    sub.add_argument("--workers", type=_count, default=1, help="processes that decode")
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
    sub.add_argument("--mel-bins", type=_count, required=True)
    sub.add_argument("--shift-ms", type=float, required=True)
    sub.add_argument("--frames", type=_count, required=True)
    sub.add_argument("--out", type=Path, required=True, help="JSON file to write")
    sub.set_defaults(action=_stats)


def _stats(chosen: Arguments) -> None:
    from cmkd.audio.statistics import write_statistics

    frontend = {
        "sample_rate": 16000,
        "mel_bins": chosen.mel_bins,
        "shift_ms": chosen.shift_ms,
        "frames": chosen.frames,
    }
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
    sub.add_argument("--execution", type=Path, help="YAML: device, threads, checkpoint_seconds")
    sub.set_defaults(action=_train)


def _train(chosen: Arguments) -> None:
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
        execution=_execution(chosen.execution),
    )


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
    from cmkd.scoring.evaluate import evaluate

    evaluate(chosen.run[0], chosen.prepared, _execution(chosen.execution))


@verb(
    "turn a sibling code's checkpoint (ast, ssast, psla, uavm) into weights to start from",
    "cmkd convert audioset_10_10_0.4593.pth --model ast_base --out ast_audioset.safetensors",
)
def convert(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd convert`."""
    sub.add_argument("source", type=Path, help="the .pth or .safetensors file")
    sub.add_argument("--model", required=True, help="the entry of models.yaml of the same shape")
    sub.add_argument("--out", type=Path, required=True, help=".safetensors file to write")
    sub.add_argument("--classes", type=_count, help="of the new model (default: as in the file)")
    sub.set_defaults(action=_convert)


def _convert(chosen: Arguments) -> None:
    from cmkd.models.convert import convert, report

    found = convert(chosen.source, chosen.model, chosen.out, chosen.classes)
    print(report(found, chosen.out))


@verb("print the leaderboard of the runs that are there", "cmkd leaderboard config/demo.yaml")
def leaderboard(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd leaderboard`."""
    _suite_options(sub)
    sub.set_defaults(action=_leaderboard)


def _leaderboard(chosen: Arguments) -> None:
    from cmkd.reports import leaderboard

    suite = _suite(chosen)
    print(leaderboard.render_terminal(leaderboard.leaderboard(suite)))


@verb(
    "judge the paper's claims by the runs that are there; write claims.md and claims.csv",
    "cmkd claims config/esc10.yaml",
)
def claims(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd claims`."""
    _suite_options(sub)
    sub.set_defaults(action=_claims)


def _claims(chosen: Arguments) -> None:
    from cmkd.reports import claims, claims_text

    suite = _suite(chosen)
    rows = claims.judge(suite)
    print(claims_text.terminal(rows))
    for path in claims.write(suite, rows):
        print(path)


@verb("write the leaderboard and the figures", "cmkd tables config/demo.yaml")
def tables(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd tables`."""
    _suite_options(sub)
    sub.set_defaults(action=_tables)


def _tables(chosen: Arguments) -> None:
    from cmkd.reports import tables

    for path in tables(_suite(chosen)):
        print(path)


@verb(
    "ask finished runs what they learned: shifts, noise, layers, errors, calibration",
    "cmkd probe config/demo.yaml --run small_cnn --run small_ast@small_cnn",
)
def probe(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd probe`."""
    _suite_options(sub)
    sub.add_argument("--run", action="append", default=[], help="only this run (may be repeated)")
    sub.add_argument("--clips", type=_count, default=200, help="test clips of each run")
    sub.set_defaults(action=_probe)


def _probe(chosen: Arguments) -> None:
    from cmkd.operations import probes

    for path in probes.run(_suite(chosen), chosen.run, chosen.clips):
        print(path)


@verb("replay finished runs into MLflow", "cmkd track config/demo.yaml")
def track(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd track`."""
    _suite_options(sub)
    sub.set_defaults(action=_track)


def _track(chosen: Arguments) -> None:
    from cmkd.tracking import track

    print(track(_suite(chosen)))


@verb("open the MLflow UI on this machine", "cmkd ui config/demo.yaml --port 5000")
def ui(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd ui`."""
    _suite_options(sub)
    sub.add_argument("--port", type=int, default=5000)
    sub.set_defaults(action=_ui)


def _ui(chosen: Arguments) -> None:
    from cmkd.tracking import ui_command, ui_pages

    suite = _suite(chosen)
    command, environment, _ = ui_command(suite, chosen.port)
    for title, address in ui_pages(suite, chosen.port).items():
        print(f"{title}\n  {address}")
    print("Open one of these pages (Ctrl-C ends MLflow).", flush=True)
    os.execve(command[0], command, {**os.environ, **environment})


if __name__ == "__main__":
    sys.exit(main())
