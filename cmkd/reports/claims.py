"""Verdicts on the paper's claims from finished runs, and the files that show them.

Each claim has one verdict a dataset, and an overall one where there are several datasets. What a
claim names and what would support or contradict it stands in config/claims.yaml; the rules are in
`cmkd.scoring.verdicts`. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmkd import files
from cmkd.plan import claims as plan
from cmkd.plan.claims import Claim, Named, Pair, Weights, merged
from cmkd.plan.suites import Suite
from cmkd.reports import published
from cmkd.reports.claims_runs import Finder
from cmkd.scoring import generalise, verdicts
from cmkd.scoring.intervals import Estimate, moderate_all
from cmkd.scoring.verdicts import Rule, Verdict

OVERALL = "overall"
PAIRS_RUN = "pairs run"
STUDENTS_FOR_MODERATION, PAIRS_FOR_MODERATION = 4, 10


@dataclass(frozen=True)
class Row:
    """One verdict: of a claim on a dataset, or overall.

    found: what is shown, the claim's contrast or the mean over its pairs that were run; scope:
    "pairs run" where a verdict says nothing yet of models that were not run; general: interval
    over new models, or None; survives: by Holm over all verdicts.
    """

    claim: Claim
    dataset: str
    verdict: Verdict
    rule: Rule
    found: Estimate | None = None
    runs: int = 0
    planned: int = 0
    pairs_run: int = 0
    pairs_named: int = 0
    scope: str = ""
    general: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    survives: bool = False

    @property
    def word(self) -> str:
        """Return the verdict as it is printed."""
        return f"{self.verdict.word} ({self.scope})" if self.scope else self.verdict.word


@dataclass(frozen=True)
class Unit:
    """What counts as one pair of a claim: a pair, or the mean over those that share a word."""

    name: str
    gain: Weights
    given: Weights | None
    students: frozenset[str]


def judge(suite: Suite, finder: Finder | None = None) -> list[Row]:
    """Return the verdicts on every claim, in the file's order; each dataset, then overall.

    `finder` is where runs are read (default: the suite's results).

    Raises:
        ConfigError: claims.yaml or paper.yaml is wrong.
    """
    finder, bars = finder or Finder(suite), published.read(suite.entries)
    rows: list[Row] = []
    for claim in plan.read(suite.entries):
        own = [_row(finder, claim, name, bars) for name in claim.datasets(suite)]
        rows += own or [_absent(claim)]
        if len(own) > 1:
            rows.append(_overall(claim, own))
    single = [row for row in rows if row.dataset not in (OVERALL, "")]
    survives = dict(
        zip(map(id, single), verdicts.surviving([r.verdict for r in single]), strict=True)
    )
    return [replace(row, survives=survives.get(id(row), False)) for row in rows]


def _absent(claim: Claim) -> Row:
    """Return the row of a claim about datasets that the suite lacks."""
    wanted = ", ".join(claim.entry["datasets"])
    verdict = Verdict(verdicts.NOT_RUN, f"it is about {wanted}, which the suite does not have")
    return Row(claim, "", verdict, Rule(claim.form))


def _overall(claim: Claim, rows: Sequence[Row]) -> Row:
    """Return the verdict over datasets."""
    word = verdicts.overall([row.verdict.word for row in rows])
    each = ", ".join(f"{row.verdict.word} on {row.dataset}" for row in rows)
    done, planned = sum(row.runs for row in rows), sum(row.planned for row in rows)
    general = all(not row.scope for row in rows if row.verdict.word == word)
    scope = "" if general or word != verdicts.SUPPORTED else PAIRS_RUN
    return Row(
        claim,
        OVERALL,
        Verdict(word, each),
        Rule(claim.form),
        runs=done,
        planned=planned,
        scope=scope,
    )


def _row(finder: Finder, claim: Claim, dataset: str, bars: Mapping[str, published.Figure]) -> Row:
    """Return the verdict on one claim and dataset."""
    metric = finder.metric(dataset)
    rule = Rule(claim.form, claim.margin(metric), claim.delta(metric))
    if claim.form == "probe":
        return Row(claim, dataset, Verdict(verdicts.NOT_RUN, claim.entry["needs"]), rule)
    named = plan.expand(finder.suite, dataset, claim)
    bar = claim.entry.get("bar", {}).get(dataset)
    if (
        not named.pairs
        or ("than" in claim.entry and not named.than)
        or ("bar" in claim.entry and not bar)
    ):
        reason = "; ".join(named.notes) or "the suite's models make no such pair"
        return Row(claim, dataset, Verdict(verdicts.NOT_RUN, reason), rule)
    row = _judged(finder, claim, dataset, rule, named, bars[bar].value if bar else 0.0)
    done, planned = finder.count(_needed(claim, named))
    if row.verdict.word == verdicts.NOT_RUN and row.found is None:
        reason = f"{done} of {planned} runs are done" if done else f"none of {planned} runs is done"
        reason = "; ".join(filter(None, [reason, claim.entry.get("needs")]))
        row = replace(row, verdict=replace(row.verdict, reason=reason))
    notes = (*named.notes, *finder.taken_notes())
    return replace(row, runs=done, planned=planned, notes=notes)


def _judged(
    finder: Finder, claim: Claim, dataset: str, rule: Rule, named: Named, bar: float
) -> Row:
    """Return the verdict of the claim's form on what it names."""
    units = _units(claim, named)
    single = [finder.estimate(dataset, unit.gain) for unit in units]
    run = sum(map(verdicts.usable, single))
    if rule.form in verdicts.PAIR_FORMS:
        premises = _premises(finder, dataset, units)
        names = [unit.name for unit in units]
        verdict = verdicts.of_pairs(rule, _moderated(single, units), names, premises)
        shown = [unit for unit, found in zip(units, single, strict=True) if verdicts.usable(found)]
        found = finder.estimate(dataset, _mean([unit.gain for unit in shown])) if shown else None
    else:
        found = finder.estimate(dataset, _mean([unit.gain for unit in units]))
        found = _above_bar(found, bar)
        verdict = _contrast_verdict(finder, claim, dataset, rule, named, found)
        if len(units) > 1:
            better, worse = verdicts.counts(_moderated(single, units), rule.margin)
            verdict = replace(verdict, better=better, worse=worse, named=len(units))
    row = Row(claim, dataset, verdict, rule, found, pairs_run=run, pairs_named=len(units))
    return _scoped(finder, row, named) if found is not None else row


def _contrast_verdict(
    finder: Finder, claim: Claim, dataset: str, rule: Rule, named: Named, found: Estimate | None
) -> Verdict:
    """Return the verdict on one contrast, with its reference or premise where it has one."""
    reference = premise = gain = None
    if rule.form == "less_than_reference":
        reference = finder.estimate(dataset, _side(claim, named.than))
        gain = finder.estimate(dataset, _side(claim, named.pairs))
    if any(pair.given for pair in named.pairs):
        given = [pair.given for pair in named.pairs if pair.given]
        premise = finder.estimate(dataset, _mean(given))
        if not verdicts.usable(premise):
            return Verdict(verdicts.NOT_RUN, "a run of its premise is not done on every fold")
    return verdicts.of_contrast(rule, found, reference, premise, gain)


def _above_bar(found: Estimate | None, bar: float) -> Estimate | None:
    """Return an estimate as its distance from a published figure, which has no doubt of its own."""
    if found is None:
        return None
    return replace(found, value=found.value - bar, low=found.low - bar, high=found.high - bar)


# ----------------------------------------------------------------------------------------- units


def _units(claim: Claim, named: Named) -> list[Unit]:
    """Return what counts as one pair each: for two sides, the difference within each word."""
    groups = _grouped(claim, named.pairs)
    if not named.than:
        return [_unit(name, pairs) for name, pairs in groups.items()]
    than = _grouped(claim, named.than)
    return [
        replace(_unit(name, pairs), gain=_difference(claim, pairs, than[name]))
        for name, pairs in groups.items()
    ]


def _needed(claim: Claim, named: Named) -> list[plan.Arm]:
    """Return the runs that a verdict rests on; those that cancel are not needed."""
    found = [arm for unit in _units(claim, named) for arm in (*unit.gain, *(unit.given or {}))]
    if claim.form == "less_than_reference":
        found += [arm for pair in named.than for arm in pair.gain]
    return list(dict.fromkeys(found))


def _grouped(claim: Claim, pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return the pairs by the word that makes a unit, or each by itself."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.words[claim.each] if claim.each else pair.name, []).append(pair)
    return groups


def _unit(name: str, pairs: Sequence[Pair]) -> Unit:
    """Return the mean over some pairs as one unit."""
    given = [pair.given for pair in pairs if pair.given]
    students = frozenset(pair.words.get("S", pair.name) for pair in pairs)
    return Unit(
        name, _mean([pair.gain for pair in pairs]), _mean(given) if given else None, students
    )


def _mean(gains: Sequence[Weights]) -> dict[plan.Arm, float]:
    """Return the mean of contrasts."""
    return merged([(gain, 1 / len(gains)) for gain in gains])


def _side(claim: Claim, pairs: Sequence[Pair]) -> dict[plan.Arm, float]:
    """Return the mean over units of the means within them."""
    groups = _grouped(claim, pairs)
    return _mean([_mean([pair.gain for pair in of]) for of in groups.values()])


def _difference(claim: Claim, pairs: Sequence[Pair], than: Sequence[Pair]) -> dict[plan.Arm, float]:
    """Return pairs minus reference, or rho times the reference minus pairs."""
    mine, other = _mean([pair.gain for pair in pairs]), _mean([pair.gain for pair in than])
    if claim.form == "less_than_reference":
        return merged([(other, claim.rho), (mine, -1.0)])
    return merged([(mine, 1.0), (other, -1.0)])


def _premises(finder: Finder, dataset: str, units: Sequence[Unit]) -> list[Estimate | None] | None:
    """Return the units' premises, None where the claim has none."""
    if not any(unit.given for unit in units):
        return None
    return [finder.estimate(dataset, unit.given or {}) for unit in units]


def _moderated(found: Sequence[Estimate | None], units: Sequence[Unit]) -> list[Estimate | None]:
    """Return estimates with moderated run variances where pairs and students are enough."""
    known = [index for index, one in enumerate(found) if verdicts.usable(one)]
    students = frozenset().union(*(units[index].students for index in known))
    result = list(found)
    if len(known) < PAIRS_FOR_MODERATION or len(students) < STUDENTS_FOR_MODERATION:
        return result
    shrunk = moderate_all([one for one in found if one is not None and verdicts.usable(one)])
    for index, one in zip(known, shrunk, strict=True):
        result[index] = one
    return result


# ----------------------------------------------------------------------------------------- scope


def _scoped(finder: Finder, row: Row, named: Named) -> Row:
    """Add the interval over new models, and say where a verdict covers only the pairs run."""
    general = _general(finder, row, named)
    row = replace(row, general=general)
    # A claim that names its models says nothing of others, one of "every student" does.
    narrow = row.rule.form in ("one", "exists") or not any(
        {"S", "T"} & set(p.words) for p in named.pairs
    )
    if row.verdict.word != verdicts.SUPPORTED or narrow or _agrees(row, general):
        return row
    return replace(row, scope=PAIRS_RUN)


def _agrees(row: Row, general: tuple[float, float] | None) -> bool:
    """Tell whether the interval over new models supports the claim too."""
    if general is None:
        return False
    if row.rule.form == "no_gain":
        return -row.rule.delta < general[0] and general[1] < row.rule.delta
    return general[0] > row.rule.margin


def _general(finder: Finder, row: Row, named: Named) -> tuple[float, float] | None:
    """Return the interval over new models, None where models are few or pairs are missing."""
    if row.found is None or any(set(p.words) != {"S", "T"} for p in (*named.pairs, *named.than)):
        return None
    tables = [_values(finder, row, pairs) for pairs in (named.pairs, named.than)]
    if any(value is None for table in tables for value in table.values()):
        return None
    mine, other = ({k: v for k, v in t.items() if v is not None} for t in tables)
    if not named.than:
        return _over_pairs(mine, row.found.v_clip)
    if row.claim.each != "S":
        return None
    own = [_own_contrasts(finder, row, mine, other, place) for place in (0, 1)]
    return generalise.over_classes(row.found.value, own[0], own[1], row.found.v_clip)


def _values(finder: Finder, row: Row, pairs: Sequence[Pair]) -> dict[tuple[str, str], float | None]:
    """Return the gain of each pair by student and teacher."""
    table: dict[tuple[str, str], float | None] = {}
    for pair in pairs:
        found = finder.estimate(row.dataset, pair.gain)
        value = found.value if found is not None and verdicts.usable(found) else None
        table[pair.words["S"], pair.words["T"]] = value
    return table


def _over_pairs(
    table: Mapping[tuple[str, str], float], v_clip: float
) -> tuple[float, float] | None:
    """Return the interval of a table in which every student has every teacher."""
    students, teachers = (list(dict.fromkeys(names)) for names in zip(*table, strict=True))
    if len(table) != len(students) * len(teachers):
        return None
    gains = np.array([[table[s, t] for t in teachers] for s in students])
    return generalise.over_pairs(gains, v_clip)


def _own_contrasts(
    finder: Finder,
    row: Row,
    mine: Mapping[tuple[str, str], float],
    other: Mapping[tuple[str, str], float],
    place: int,
) -> dict[str, list[float]]:
    """Return the contrast of each student (place 0) or teacher (1) that both sides have."""
    result: dict[str, list[float]] = {}
    for model in dict.fromkeys(key[place] for key in mine):
        one = [value for key, value in mine.items() if key[place] == model]
        two = [value for key, value in other.items() if key[place] == model]
        if two:
            value = float(np.mean(one)), float(np.mean(two))
            less = row.rule.form == "less_than_reference"
            own = row.claim.rho * value[1] - value[0] if less else value[0] - value[1]
            result.setdefault(finder.suite.klass(model), []).append(own)
    return result


# ----------------------------------------------------------------------------------------- files


def write(suite: Suite, rows: Sequence[Row] | None = None) -> list[Path]:
    """Write claims.md, claims.csv and the figure (PNG, SVG); return their paths.

    The same run folders give the same bytes; `rows` saves judging anew.
    """
    from cmkd.reports import claims_figure, claims_text, style

    rows = judge(suite) if rows is None else rows
    folder = suite.results / "tables" / suite.name
    texts = {
        "claims.md": claims_text.markdown(rows, suite),
        "claims.csv": claims_text.csv(rows),
    }
    for name, text in texts.items():
        files.write_text(folder / name, text)
    with style.styled():
        figure = claims_figure.draw(rows, suite.name)
        drawn = style.save(figure, suite.results / "figures" / suite.name / "claims")
    return [folder / name for name in texts] + drawn
