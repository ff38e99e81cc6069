"""What the verbs share: how one is registered, and the options that several have."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmkd.errors import ConfigError

Arguments = argparse.Namespace
SUITE_HELP = "the suite's YAML file (default: config/config.yaml)"
VERBS: list[tuple[str, str, str, Callable[[argparse.ArgumentParser], None]]] = []


def verb(help_text: str, example: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that adds a verb's options and names its action; the name is the verb."""

    def register(options: Callable[[Any], None]) -> Callable[[Any], None]:
        VERBS.append((options.__name__.rstrip("_"), help_text, example, options))
        return options

    return register


def suite_options(sub: argparse.ArgumentParser) -> None:
    """Add the suite's file and the one override that belongs on a command line."""
    sub.add_argument("suite", type=Path, nargs="?", help=SUITE_HELP)
    sub.add_argument("--data-root", type=Path, help="folder that holds the recordings")


def load_suite(chosen: Arguments) -> Any:
    """Load the suite that was named, or the default one."""
    from cmkd.files import checkout
    from cmkd.plan import suites

    path = chosen.suite or checkout() / "config" / "config.yaml"
    overrides: dict[str, Any] = {"data_root": str(chosen.data_root)} if chosen.data_root else {}
    if getattr(chosen, "download", False):
        overrides["download"] = True
    return suites.load(path, overrides)


def count(text: str) -> int:
    """Read a whole number from 1; argparse says what is wrong with another."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def execution(path: Path | None) -> dict[str, Any]:
    """Read the `execution:` block of a suite from its own file, or return the defaults."""
    from cmkd.plan.catalog import read_yaml
    from cmkd.plan.suites import EXECUTION

    if path is None:
        return dict(EXECUTION)
    if not path.is_file():
        raise ConfigError(f"--execution {path}: no such file; leave it out for the defaults")
    return {**EXECUTION, **read_yaml(path)}
