"""The leaderboard as one HTML file that needs nothing beside it: style and figures are inside."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from cmkd.reports import columns, wording
from cmkd.reports.template import PAGE

TITLES = {
    "gains": "Gain of each student with each teacher over the student alone",
    "cost": "Quality against cost",
}


def render(
    table: pd.DataFrame,
    suite: str,
    remarks: Mapping[str, Sequence[str]],
    figures: Mapping[tuple[str, str], Sequence[Path]],
) -> str:
    """Return the page; `figures` are the files drawn, by (dataset, kind), PNG then SVG."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(PAGE)
    sections = [
        _section(table[table["dataset"] == name], name, remarks.get(name, ()), figures)
        for name in dict.fromkeys(table["dataset"])
    ]
    return template.render(suite=suite, sections=sections) + "\n"


def _section(
    rows: pd.DataFrame,
    dataset: str,
    remarks: Sequence[str],
    figures: Mapping[tuple[str, str], Sequence[Path]],
) -> dict[str, Any]:
    """Return what the template shows of one dataset."""
    heads = wording.headings(rows)
    done, planned = wording.run_counts(rows)
    return {
        "dataset": dataset,
        "done": done,
        "planned": planned,
        "explanation": wording.explanation(rows),
        "headings": [{"text": head, "left": head in wording.LEFT} for head in heads],
        "rows": [
            _row(row, headline)
            for (_, row), headline in zip(rows.iterrows(), wording.leaders(rows), strict=True)
        ],
        "notes": list(wording.remarks(rows).items()),
        "remarks": list(remarks),
        "figures": [
            {"title": f"{TITLES[kind]}, {dataset}", "data": _inline(paths[1])}
            for (of, kind), paths in figures.items()
            if of == dataset
        ],
    }


def _row(row: pd.Series, headline: bool) -> dict[str, Any]:
    """Return one row's texts, and what its look depends on."""
    return {
        "cells": wording.cells(row, headline),
        "empty": not columns.known(row["value"]),
        "gains": {4: _sign(row, "gain_alone"), 5: _sign(row, "gain_teacher")},
    }


def _sign(row: pd.Series, name: str) -> str:
    """Return up or down where a gain's interval leaves zero out, else ""."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if not columns.known(low):
        return ""
    return "up" if low > 0 else "down" if high < 0 else ""


def _inline(path: Path) -> str:
    """Return an SVG file as a data address."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
