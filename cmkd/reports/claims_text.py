"""Verdicts in words: claims.md, claims.csv and what `cmkd claims` prints."""

import csv as csv_module
import io
import textwrap
from collections import Counter
from collections.abc import Sequence

from cmkd import files
from cmkd.plan import claims as plan
from cmkd.plan.suites import Suite
from cmkd.reports import published
from cmkd.reports.claims import OVERALL, Row
from cmkd.reports.columns import known, points
from cmkd.reports.wording import LABELS
from cmkd.scoring import verdicts

COLUMNS = (
    *("id", "dataset", "verdict", "estimate", "low", "high", "p", "runs", "planned", "label"),
    *("reason", "scope", "form", "margin", "delta", "pairs_run", "pairs", "better", "worse"),
    *("provable", "general_low", "general_high", "survives_holm"),
)
WORDS = (
    verdicts.SUPPORTED, verdicts.CONTRADICTED, verdicts.INCONCLUSIVE, verdicts.MIXED,
    verdicts.NOT_RUN,
)  # fmt: skip
RULES = {
    "one": "supported if the pair's interval lies above {m}, contradicted if below",
    "exists": "supported if some pair is above {m} after a correction for all pairs, contradicted "
    "if every pair is below {d} points",
    "all": "supported if every pair is above {m}, contradicted if one is below by Holm's rule",
    "majority": "supported if more than half of the pairs are proven above {m}, contradicted if "
    "half or more are proven not to be (partial conjunction)",
    "mean": "supported if the interval of the mean lies above {m}, contradicted if below",
    "at_least": "supported if the interval lies above {m} (the published figure, where one is "
    "named), contradicted if below",
    "no_gain": "supported if the interval of the mean lies within −{d} and +{d} points, "
    "contradicted if outside",
    "comparison": "supported if the interval of the first gain minus the second lies above {m}, "
    "contradicted if below",
    "less_than_reference": "supported if {r} of the reference gain minus the gain lies above zero "
    "and the reference gain is proven itself, contradicted if it lies below and the gain is proven "
    "itself",
    "probe": "decided by other measurements than scores",
}
WIDTH = 110
NAME_WIDTH = 20


# ------------------------------------------------------------------------------------------- csv


def csv(rows: Sequence[Row]) -> str:
    """Return the verdicts as CSV; numbers are fractions with ten significant digits."""
    text = io.StringIO()
    writer = csv_module.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_plain(value) for value in _values(row)])
    return text.getvalue()


def _values(row: Row) -> list[object]:
    """Return a row's values, in the order of COLUMNS."""
    found, verdict = row.found, row.verdict
    low, high = row.general or (None, None)
    shown = (found.value, found.low, found.high) if found else (None, None, None)
    judged = verdict.word != verdicts.NOT_RUN and row.dataset != OVERALL
    return [
        row.claim.id, row.dataset, verdict.word, *shown, verdict.p if judged else None,
        row.runs, row.planned, found.label if found else "", verdict.reason, row.scope,
        row.rule.form, row.rule.margin, row.rule.delta, row.pairs_run, row.pairs_named,
        verdict.better, verdict.worse, verdicts.provable(found), low, high, int(row.survives),
    ]  # fmt: skip


def _plain(value: object) -> object:
    """Return a cell of a CSV: nothing for what is unknown, no minus zero."""
    if isinstance(value, float):
        return f"{value + 0.0:.10g}" if known(value) else ""
    return "" if value is None else value


# -------------------------------------------------------------------------------------- markdown


def markdown(rows: Sequence[Row], suite: Suite) -> str:
    """Return claims.md."""
    parts = [f"# The paper's claims on the suite `{suite.name}`"]
    if not rows:
        parts.append(
            f"There is no {plan.claims_file(suite.catalog).name} beside the suite's models."
        )
        return "\n\n".join(parts) + "\n"
    parts += [_summary(rows), "\n".join(f"- {text}" for text in _explanation(rows, suite))]
    for dataset in _datasets(rows):
        own = [row for row in rows if row.dataset == dataset]
        parts += [f"## {dataset or 'Datasets that the suite lacks'}", _table(own)]
        if dataset in suite.datasets:
            parts += published.markdown(published.of_suite(suite, dataset))
            parts += ["Our protocol differs from the paper's on all of these:"]
            parts += ["\n".join(f"- {text}" for text in differences(suite, dataset))]
    parts += [f"![Claims](../../figures/{suite.name}/claims.png)", "## Each claim"]
    parts += [_details(row) for row in rows if row.dataset != OVERALL]
    return "\n\n".join(parts) + "\n"


def _datasets(rows: Sequence[Row]) -> list[str]:
    """Return the datasets with verdicts in their order, overall and what is lacking last."""
    found = dict.fromkeys(row.dataset for row in rows)
    return sorted(found, key=lambda name: (name == "", name == OVERALL))


def _summary(rows: Sequence[Row]) -> str:
    """Return how many verdicts there are of each kind."""
    counts = Counter(row.verdict.word for row in rows if row.dataset != OVERALL)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word]) + "."


def _explanation(rows: Sequence[Row], suite: Suite) -> list[str]:
    """Return the sentences above the tables."""
    judged = sum(_is_judged(row) for row in rows)
    surviving = [f"{r.claim.id} on {r.dataset}" for r in rows if r.survives]
    digest = files.sha256_file(plan.claims_file(suite.catalog))[:16]
    sentences = [
        "Verdicts come from rules that were written down before the runs, in claims.yaml (sha256 "
        f"{digest}…): each direction is tested at 2.5 %. Inconclusive means that the runs prove "
        "neither side, never that there is no effect.",
        "Estimates are in points, with 95 % intervals over new trainings and test clips. Pairs: "
        "run/named; a pair that was not run can block a verdict, never help it.",
        f"{judged} verdicts were judged, so about {judged / 20:.1f} false ones are to be expected "
        "at worst. "
        + (
            f"Marked with \\*: those that also hold after Holm's correction for all of them "
            f"({', '.join(surviving)})."
            if surviving
            else "None holds after Holm's correction for all of them."
        ),
    ]
    if any(row.scope for row in rows):
        sentences.append(
            "Supported (pairs run) covers the models that were run; for models in general three or "
            "more of each class are needed, and an interval over them that agrees."
        )
    return sentences


def _is_judged(row: Row) -> bool:
    """Tell whether a row is a test of its own that was made."""
    return row.dataset not in (OVERALL, "") and row.verdict.word != verdicts.NOT_RUN


def _table(rows: Sequence[Row]) -> str:
    """Return verdicts as a Markdown table."""
    heads = ["id", "claim", "verdict", "estimate", "pairs", "runs", "reason"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        star = " \\*" if row.survives else ""
        pairs = f"{row.pairs_run}/{row.pairs_named}" if row.pairs_named else ""
        runs = f"{row.runs}/{row.planned}" if row.planned else ""
        cells = [row.claim.id, row.claim.entry["text"], f"**{row.word}**{star}", estimate(row),
                 pairs, runs, row.verdict.reason]  # fmt: skip
        lines.append([cell.replace("|", "\\|") for cell in cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def estimate(row: Row) -> str:
    """Return what is shown of a claim's contrast: "+1.2 [−0.3, +2.7]", in points."""
    if row.found is None:
        return ""
    text = points(row.found.value)
    if not known(row.found.low):
        return text
    return f"{text} [{points(row.found.low)}, {points(row.found.high)}]"


def _details(row: Row) -> str:
    """Return one claim's paragraph: what it is, how it was judged, what differs."""
    entry, where = row.claim.entry, f" on {row.dataset}" if row.dataset else ""
    published_on = ", ".join(entry.get("published_on", ()))
    outcome = f": {entry['published']}" if "published" in entry else ""
    lines = [
        f"**{row.claim.id}{where}: {row.word}.** {entry['text']}",
        f"- Claimed on {published_on or 'no dataset in particular'} ({entry['source']}; grade "
        f"{', '.join(entry['grade'])}){outcome}.",
        f"- Rule ({row.rule.form}): {_rule(row)}.",
        *(f"- {text}." for text in _numbers(row)),
        *(f"- Differs from the paper: {text}." for text in entry.get("differs", ())),
        *(f"- {text[0].upper()}{text[1:]}." for text in row.notes),
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def _rule(row: Row) -> str:
    """Return the rule of a claim's form with its numbers."""
    margin = "zero" if row.rule.margin == 0 else f"{points(row.rule.margin)} points"
    text = RULES[row.rule.form].format(
        m=margin, d=f"{100 * row.rule.delta:g}", r=f"{100 * row.claim.rho:g} %"
    )
    given = row.claim.entry.get("pairs", {}).get("given")
    return f"{text}; only where {given['run']} is proven above {given['over']}" if given else text


def _numbers(row: Row) -> list[str]:
    """Return the numbers behind a verdict."""
    found, verdict = row.found, row.verdict
    if found is None:
        return []
    what = "Estimate" if row.rule.form not in verdicts.PAIR_FORMS else "Mean over the pairs run"
    numbers = [
        f"{what}: {estimate(row)} points; {row.runs} of {row.planned} runs; "
        f"[{found.label}] {LABELS[found.label]}",
        f"Reason: {verdict.reason} (two-sided p = {verdict.p:.2g})",
    ]
    smallest = verdicts.provable(found)
    if smallest is not None:
        numbers.append(
            f"Smallest margin that these runs could prove: {100 * smallest:.1f} points (gains "
            "beyond it, either way, are ruled out)"
        )
    if verdict.named > 1:
        undecided = verdict.named - verdict.better - verdict.worse
        above, below = _sides(row)
        numbers.append(
            f"Of {verdict.named} pairs: {verdict.better} proven {above}, {verdict.worse} proven "
            f"{below}, {undecided} undecided (Holm's rule)"
        )
    if row.general:
        ends = " to ".join(points(end) for end in row.general)
        numbers.append(f"Interval over new models of these classes: {ends} points")
    return numbers


def _sides(row: Row) -> tuple[str, str]:
    """Return what a pair above and one below the margin is proven to be."""
    if row.rule.form == "less_than_reference":
        return "smaller than that share of the reference", "larger"
    if row.rule.margin == 0:
        return "better", "worse"
    margin = points(row.rule.margin)
    return f"above {margin} points", "below"


def differences(suite: Suite, dataset: str) -> list[str]:
    """Return how this suite's protocol differs from the paper's on a dataset, in sentences."""
    found = []
    claims = plan.read(suite.entries)
    elsewhere = [
        claim.id for claim in claims
        if dataset in claim.datasets(suite) and dataset not in claim.entry.get("published_on", ())
    ]  # fmt: skip
    if elsewhere:
        found.append(f"{dataset} is not what {', '.join(elsewhere)} were published on")
    models = claims[0].defaults.get("models", ()) if claims else ()
    others = [model for model in suite.models if model not in models]
    if others:
        found.append(f"models that are not the paper's: {', '.join(others)}")
    recipes = {model: suite.recipe(dataset, model).values for model in suite.models}
    fresh = [m for m, values in recipes.items() if values["model"].get("weights", "none") == "none"]
    if fresh:
        found.append(f"trained from scratch, not from ImageNet weights: {', '.join(fresh)}")
    if suite.config.get("set"):
        parts = ", ".join(suite.config["set"])
        found.append(f"the suite lays values of its own over the recipe ({parts})")
    readouts = sorted({str(values["training"]["readout"]) for values in recipes.values()})
    found.append(f"readout: {', '.join(readouts)}; the paper's choice of epochs is not known")
    seeds = len(suite.seeds)
    found.append(f"{seeds} seed{'s' if seeds > 1 else ''}; the paper's number is not known")
    return found


# -------------------------------------------------------------------------------------- terminal


def terminal(rows: Sequence[Row]) -> str:
    """Return the verdicts as plain text, at most 110 columns wide."""
    if not rows:
        return "There is no claims.yaml beside the suite's models."
    lines = []
    for dataset in _datasets(rows):
        lines += [dataset or "datasets that the suite lacks", ""]
        for row in (row for row in rows if row.dataset == dataset):
            star = "*" if row.survives else " "
            name = f"{row.claim.id:<5}{row.word:<{NAME_WIDTH + 5}}{star}{estimate(row):>20}  "
            reason = textwrap.shorten(row.verdict.reason, WIDTH - len(name), placeholder="…")
            lines.append(f"{name}{reason}".rstrip())
        lines.append("")
    judged = sum(_is_judged(row) for row in rows)
    lines.append(f"{_summary(rows)} Estimates in points, 95 % intervals.")
    if judged:
        lines.append(
            f"About {judged / 20:.1f} of {judged} verdicts may be false; * holds after a "
            "correction for all of them."
        )
    return "\n".join(lines)
