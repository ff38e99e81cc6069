"""Before and while jobs run: the verbs `doctor` and `status`."""

import argparse
import sys
from pathlib import Path

from cmkd.cli.common import Arguments, suite_options, verb
from cmkd.errors import ConfigError

WATCH_SECONDS = 5.0


@verb(
    "show what is done, running, queued, failed or waiting, and how long the rest takes",
    "cmkd status config/esc10.yaml --watch",
)
def status(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd status`."""
    suite_options(sub)
    sub.add_argument(
        "--watch", type=_seconds, nargs="?", const=WATCH_SECONDS, metavar="SECONDS",
        help=f"again every SECONDS (default {WATCH_SECONDS:g}) until all is done; Ctrl-C ends it",
    )  # fmt: skip
    sub.add_argument("--all", action="store_true", help="leave nothing out of long lists")
    sub.add_argument("--json", action="store_true", help="for programs (docs/interfaces.md)")
    sub.set_defaults(action=_status)


def _status(chosen: Arguments) -> None:
    from cmkd.cli.common import load_suite
    from cmkd.operations.status import show, watch

    if chosen.json and chosen.watch is not None:
        raise ConfigError("status shows --json or --watch; a program asks for --json again")
    suite = load_suite(chosen)
    if chosen.json:
        show.show_json(suite, sys.stdout)
    elif chosen.watch is not None:
        watch.watch(suite, sys.stdout, chosen.watch, chosen.all)
    else:
        show.show(suite, sys.stdout, chosen.all)


def _seconds(text: str) -> float:
    """Read the seconds between two looks; argparse says what is wrong."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from 0.1 to 86400 (name the suite first: "
            "cmkd status SUITE --watch)"
        )
    return seconds


@verb(
    "check this installation, or with --slurm the profile against the cluster",
    "cmkd doctor --slurm --write",
)
def doctor(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd doctor`."""
    suite_options(sub)
    sub.add_argument("--slurm", action="store_true", help="check the profile against the cluster")
    sub.add_argument("--profile", type=Path, help="its folder (default: profiles/slurm)")
    sub.add_argument("--no-job", action="store_true", help="submit no job that looks at a node")
    sub.add_argument("--wait", type=_seconds, default=180.0, help="seconds to wait for such a job")
    sub.add_argument(
        "--write",
        nargs="*",
        metavar="KEY",
        help="fill the profile's form; lines of these keys even if they are filled",
    )
    sub.set_defaults(action=_doctor)


def _doctor(chosen: Arguments) -> None:
    from cmkd.cli.common import load_suite
    from cmkd.operations import doctor

    if not chosen.slurm:
        _need_slurm(chosen)
        doctor.installation(load_suite(chosen))
        return
    profile = chosen.profile or Path("profiles/slurm")
    if chosen.write is not None:
        doctor.fill(load_suite(chosen), profile, chosen.write)
    else:
        doctor.cluster(load_suite(chosen), profile, not chosen.no_job, chosen.wait)


def _need_slurm(chosen: Arguments) -> None:
    """Refuse options that are about a cluster where --slurm is missing."""
    given = {
        "--profile": chosen.profile is not None,
        "--write": chosen.write is not None,
        "--no-job": chosen.no_job,
    }
    for option, there in given.items():
        if there:
            raise ConfigError(f"doctor {option} is about a cluster: add --slurm")
