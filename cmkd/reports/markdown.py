"""The leaderboard as Markdown, for reading in an editor or on a code host."""

from collections.abc import Mapping, Sequence

import pandas as pd

from cmkd.reports import published, wording
from cmkd.reports.published import Figure


def render(
    table: pd.DataFrame,
    suite: str,
    remarks: Mapping[str, Sequence[str]],
    figures: Mapping[str, Sequence[Figure]] | None = None,
) -> str:
    """Return the whole document; `remarks` are sentences on each dataset's published data.

    `figures` are others' published results, by dataset. Drawings are linked where `tables` writes
    them: ../../figures/SUITE/.
    """
    parts = [f"# Leaderboard of the suite `{suite}`"]
    for dataset in dict.fromkeys(table["dataset"]):
        rows = table[table["dataset"] == dataset]
        parts += [_section(rows, dataset, suite, remarks.get(dataset, ()))]
        parts += published.markdown((figures or {}).get(dataset, ()))
    if table.empty:
        parts.append("The suite has no runs.")
    return "\n\n".join(parts) + "\n"


def _section(rows: pd.DataFrame, dataset: str, suite: str, remarks: Sequence[str]) -> str:
    """Return one dataset's heading, explanation, table, remarks and figures."""
    done, planned = wording.run_counts(rows)
    parts = [
        f"## {dataset}",
        f"{done} of {planned} runs are done."
        if done < planned
        else f"All {planned} runs are done.",
        "\n".join(f"- {sentence}" for sentence in wording.explanation(rows)),
        _table(rows),
    ]
    notes = [f"- {_named(runs)}: {_escape(note)}" for note, runs in wording.remarks(rows).items()]
    if notes:
        parts += ["Remarks:", "\n".join(notes)]
    if remarks:
        parts += ["The published data, as declared:", "\n".join(f"- {text}" for text in remarks)]
    folder = f"../../figures/{suite}"
    parts += [
        f"![Gain of each student with each teacher, {dataset}]({folder}/gains-{dataset}.png)",
        f"![Quality against cost, {dataset}]({folder}/cost-{dataset}.png)",
    ]
    return "\n\n".join(parts)


def _named(runs: Sequence[str]) -> str:
    """Return run names in code quotes."""
    return ", ".join(f"`{run}`" for run in runs)


def _table(rows: pd.DataFrame) -> str:
    """Return the rows as a Markdown table with aligned columns, empty columns left out."""
    heads = wording.headings(rows)
    lines = []
    for (_, row), headline in zip(rows.iterrows(), wording.leaders(rows), strict=True):
        cells = wording.cells(row, headline)
        name, _, readout = cells[1].partition(" ")
        cells[1] = f"`{name}` {readout}".strip()
        lines.append([cells[0], cells[1], *map(_escape, cells[2:])])
    used = [i for i in range(len(heads)) if any(line[i] for line in lines)]
    grid = [[line[i] for i in used] for line in [heads, *lines]]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    left = [heads[i] in wording.LEFT for i in used]
    rule = [
        ("-" * w if flush else "-" * (w - 1) + ":") for w, flush in zip(widths, left, strict=True)
    ]
    padded = [
        [
            c.ljust(w) if flush else c.rjust(w)
            for c, w, flush in zip(line, widths, left, strict=True)
        ]
        for line in grid
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]])


def _escape(text: str) -> str:
    """Return text that cannot break a table or be taken for markup."""
    for character in "\\|<>*`":
        text = text.replace(character, f"\\{character}")
    return text
