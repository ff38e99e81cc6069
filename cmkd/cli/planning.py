"""What is to be run: the verbs `plan` and `explain`."""

import argparse
from pathlib import Path
from typing import Any

from cmkd.cli.common import SUITE_HELP, Arguments, count, load_suite, suite_options, verb
from cmkd.errors import ConfigError


@verb(
    "tell what suites would run and why, and what it would cost",
    "cmkd plan config/demo.yaml\n"
    "  cmkd plan config/studies/lambda.yaml config/studies/tau.yaml --at-once 8\n"
    "  cmkd plan config/esc10.yaml --calibrate\n"
    "  cmkd plan config/demo.yaml --commands > demo.sh",
)
def plan(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd plan`."""
    sub.add_argument("suite", type=Path, nargs="*", help=SUITE_HELP)
    sub.add_argument("--data-root", type=Path, help="folder that holds the recordings")
    sub.add_argument("--at-once", type=count, metavar="N", help="runs at once, for the wall time")
    sub.add_argument("--device", help="price by measurements of this device (part of its name)")
    sub.add_argument(
        "--calibrate",
        action="store_true",
        help="first measure some steps of each pair on this device (under a minute a pair)",
    )
    sub.add_argument("--jobs", action="store_true", help="list every training, tab-separated")
    sub.add_argument("--commands", action="store_true", help="print the verbs as a shell script")
    sub.add_argument("--download", action="store_true", help="with what fetches datasets")
    sub.set_defaults(action=_plan)


def _plan(chosen: Arguments) -> None:
    from cmkd.plan.forecast import forecasts
    from cmkd.plan.preview import render

    suites = _suites(chosen)
    if chosen.commands:
        _commands(suites)
        return
    if chosen.jobs:
        _jobs(suites)
        return
    if chosen.calibrate:
        from cmkd.operations import calibrate

        calibrate.calibrate(suites, chosen.at_once)
    print(render(forecasts(suites, chosen.device), chosen.at_once))


def _suites(chosen: Arguments) -> list[Any]:
    """Load every suite that was named, or the default one."""
    given = chosen.suite or [None]
    return [load_suite(argparse.Namespace(**{**vars(chosen), "suite": path})) for path in given]


def _commands(suites: list[Any]) -> None:
    """Print a suite as a shell script."""
    if len(suites) > 1:
        raise ConfigError("--commands prints the script of one suite; name one")
    print(suites[0].commands(), end="")


def _jobs(suites: list[Any]) -> None:
    """Print every training, each once, whatever is done."""
    lines = dict.fromkeys(
        f"{job.dataset}\t{job.run}\tfold-{job.fold}\tseed-{job.seed}\t{suite.direction(job.run)}"
        for suite in suites
        for job in suite.jobs()
    )
    print("\n".join(lines))


@verb(
    "print every value of a run's recipe with its layer and source",
    "cmkd explain ast_tiny@effnet_b0 --dataset esc50",
)
def explain(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd explain`."""
    sub.add_argument("run", nargs="?", help="the run's name, as in the leaderboard")
    suite_options(sub)
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
    suite = load_suite(chosen)
    print(explain(suite, chosen.dataset or suite.datasets[0], chosen.run))


def _explain_all() -> None:
    from cmkd.files import checkout
    from cmkd.plan.catalog import Catalog
    from cmkd.plan.handbook import page

    print(page(Catalog(checkout() / "config"), checkout() / "docs" / "recipes.in.md"), end="")
