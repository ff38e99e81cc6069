"""What a check found: one line each, with what to do about it."""

import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("ok", "warning", "wrong")
WIDTH = 96


@dataclass(frozen=True)
class Finding:
    """One line of a check: how bad, what about, what is so, and what to change (or nothing)."""

    level: str
    subject: str
    text: str
    cure: str = ""


def ok(subject: str, text: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str, cure: str = "") -> Finding:
    """Return a finding that may cost time or be unwanted."""
    return Finding("warning", subject, text, cure)


def wrong(subject: str, text: str, cure: str) -> Finding:
    """Return a finding that will make a run fail or hang, with what to change."""
    return Finding("wrong", subject, text, cure)


def page(findings: Iterable[Finding]) -> str:
    """Return findings as lines for a terminal, what to do indented below each."""
    lines = []
    for found in findings:
        head = f"{found.level:<8} {found.subject}: "
        lines += textwrap.wrap(head + found.text, WIDTH, subsequent_indent=" " * 9)
        if found.cure:
            arrow = {"initial_indent": " " * 9 + "-> ", "subsequent_indent": " " * 12}
            lines += textwrap.wrap(found.cure, WIDTH, break_on_hyphens=False, **arrow)
    return "\n".join(lines)


def summary(findings: Iterable[Finding]) -> str:
    """Return how many findings there are of each level, as words."""
    count = Counter(found.level for found in findings)
    return ", ".join(f"{count[level]} {level}" for level in LEVELS)
