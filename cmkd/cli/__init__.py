"""The verbs of `cmkd`; each imports what it needs only when it is called.

A verb is registered where its module is imported; `cmkd --help` lists them by MODULES and place.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from cmkd import __version__
from cmkd.cli import making, planning, running, viewing
from cmkd.cli.common import VERBS
from cmkd.errors import CmkdError

MODULES = [module.__name__ for module in (planning, making, running, viewing)]


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="cmkd",
        description="Benchmark suite for cross-model knowledge distillation in audio.",
        epilog="exit codes: 0 done, 1 a bug, 2 wrong input, 75 stopped in time (run it again)",
    )
    top.add_argument("--version", action="version", version=f"cmkd {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, help_text, example, options in sorted(VERBS, key=_place):
        sub = verbs.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        options(sub)
    return top


def _place(entry: tuple[str, str, str, Callable[..., None]]) -> int:
    """Return where a verb's module stands; verbs of one module keep their order."""
    return MODULES.index(entry[3].__module__)


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
