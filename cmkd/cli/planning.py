"""What is to be run: the verbs `plan` and `explain`."""

import argparse
import sys

from cmkd.cli.common import Arguments, load_suite, suite_options, verb
from cmkd.errors import ConfigError


@verb(
    "list the runs of a suite, and estimate what they cost",
    "cmkd plan config/demo.yaml --commands > demo.sh",
)
def plan(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd plan`."""
    suite_options(sub)
    sub.add_argument("--commands", action="store_true", help="print the verbs as a shell script")
    sub.add_argument("--download", action="store_true", help="with what fetches datasets")
    sub.set_defaults(action=_plan)


def _plan(chosen: Arguments) -> None:
    from cmkd.plan import costs

    suite = load_suite(chosen)
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
