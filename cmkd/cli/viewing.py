"""What is made from finished runs: tables, probes and the MLflow copy."""

import argparse
import contextlib
import os

from cmkd.cli.common import Arguments, count, load_suite, suite_options, verb


@verb("print the leaderboard of the runs that are there", "cmkd leaderboard config/demo.yaml")
def leaderboard(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd leaderboard`."""
    suite_options(sub)
    sub.set_defaults(action=_leaderboard)


def _leaderboard(chosen: Arguments) -> None:
    from cmkd.reports import leaderboard

    suite = load_suite(chosen)
    print(leaderboard.render_terminal(leaderboard.leaderboard(suite)))


@verb(
    "judge the paper's claims by the runs that are there; write claims.md and claims.csv",
    "cmkd claims config/esc10.yaml",
)
def claims(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd claims`."""
    suite_options(sub)
    sub.set_defaults(action=_claims)


def _claims(chosen: Arguments) -> None:
    from cmkd.reports import claims, claims_text

    suite = load_suite(chosen)
    rows = claims.judge(suite)
    print(claims_text.terminal(rows))
    for path in claims.write(suite, rows):
        print(path)


@verb("write the leaderboard and the figures", "cmkd tables config/demo.yaml")
def tables(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd tables`."""
    suite_options(sub)
    sub.set_defaults(action=_tables)


def _tables(chosen: Arguments) -> None:
    from cmkd.reports import tables

    for path in tables(load_suite(chosen)):
        print(path)


@verb(
    "ask finished runs what they learned: shifts, noise, layers, errors, calibration",
    "cmkd probe config/demo.yaml --run small_cnn --run small_ast@small_cnn",
)
def probe(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd probe`."""
    suite_options(sub)
    sub.add_argument("--run", action="append", default=[], help="only this run (may be repeated)")
    sub.add_argument("--clips", type=count, default=200, help="test clips of each run")
    sub.set_defaults(action=_probe)


def _probe(chosen: Arguments) -> None:
    from cmkd.operations import probes

    for path in probes.run(load_suite(chosen), chosen.run, chosen.clips):
        print(path)


@verb(
    "replay finished runs into MLflow; with --watch, show running ones",
    "cmkd track config/demo.yaml",
)
def track(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd track`."""
    suite_options(sub)
    sub.add_argument(
        "--watch",
        nargs="?",
        type=pause,
        const=30.0,
        metavar="SECONDS",
        help="look again every so many seconds (30), until all runs are done or Ctrl-C",
    )
    sub.set_defaults(action=_track)


def pause(text: str) -> float:
    """Return a time between two looks, in seconds; argparse says what is wrong with another."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a number of seconds (the suite stands before --watch)"
    )


def _track(chosen: Arguments) -> None:
    from cmkd.tracking import track, watch

    suite = load_suite(chosen)
    if chosen.watch is None:
        print(track(suite))
        return
    try:
        watch(suite, chosen.watch, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("no longer watching; the runs go on", flush=True)


@verb("open the MLflow UI on this machine, or name a server's pages", "cmkd ui config/demo.yaml")
def ui(sub: argparse.ArgumentParser) -> None:
    """Add `cmkd ui`."""
    suite_options(sub)
    sub.add_argument("--port", type=int, default=5000)
    sub.set_defaults(action=_ui)


def _ui(chosen: Arguments) -> None:
    from cmkd import tracking

    suite = load_suite(chosen)
    pages = tracking.ui_pages(suite, chosen.port)
    for title, address in pages.items():
        print(f"{title}\n  {address}")
    if tracking.is_server(tracking.tracking_uri(suite)):
        return
    command, environment, _ = tracking.ui_command(suite, chosen.port)
    print("Open one of these pages (Ctrl-C ends MLflow).", flush=True)
    os.execve(command[0], command, {**os.environ, **environment})
