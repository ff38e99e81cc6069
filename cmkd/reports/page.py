"""The leaderboard as one HTML file that needs nothing beside it: style and figures are inside."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from cmkd.reports import columns, published, wording
from cmkd.reports.published import Figure
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
    others: Mapping[str, Sequence[Figure]] | None = None,
    claims: Path | None = None,
) -> str:
    """Return the page; `figures` are the files drawn, by (dataset, kind), PNG then SVG.

    `others` are published figures by dataset; `claims` is the SVG of the claims.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(PAGE)
    sections = [
        _section(table[table["dataset"] == name], name, remarks.get(name, ()), figures)
        for name in dict.fromkeys(table["dataset"])
    ]
    for section in sections:
        found = (others or {}).get(section["dataset"], ())
        section["published"] = [figure.cells() for figure in found]
    words = {"title": published.TITLE, "heads": published.HEADS, "grades": published.GRADES}
    drawn = _inline(claims) if claims else None
    return template.render(suite=suite, sections=sections, published=words, claims=drawn) + "\n"


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
        "look": "empty" if not columns.known(row["value"]) else _look(row),
        "gains": {4: _sign(row, "gain_alone"), 5: _sign(row, "gain_teacher")},
    }


def _look(row: pd.Series) -> str:
    """Return peek for a row whose epoch was chosen on the test clips, else ""."""
    return "peek" if row["readout"] == "peek" else ""


def _sign(row: pd.Series, name: str) -> str:
    """Return up or down where a gain's interval leaves zero out, else ""."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if not columns.known(low):
        return ""
    return "up" if low > 0 else "down" if high < 0 else ""


def _inline(path: Path) -> str:
    """Return an SVG file as a data address."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
