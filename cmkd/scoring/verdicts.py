"""Verdicts on claims: pure rules from estimates to supported, contradicted, inconclusive, not run.

alpha is 5 % two-sided a claim, so 2.5 % in each direction. Pairs that were not run enter with
p = 1 both ways: they can block, never help. Supported needs three seeds, or three folds with
random streams of their own. A failed test is never a contradiction. docs/statistics.md has the
table of forms; partial conjunction is Benjamini and Heller (2008), equivalence Schuirmann (1987).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cmkd.errors import InputError
from cmkd.scoring.decisions import holm, holm_adjusted, partial_conjunction
from cmkd.scoring.intervals import CLIPS_ONLY, INCOMPLETE, ONE_SEED, Estimate

ALPHA = 0.025  # in each direction
SUPPORTED, CONTRADICTED = "supported", "contradicted"
INCONCLUSIVE, NOT_RUN, MIXED = "inconclusive", "not run", "inconclusive (mixed)"
PAIR_FORMS = ("one", "exists", "all", "majority")
CONTRAST_FORMS = ("mean", "at_least", "comparison", "no_gain", "less_than_reference")

Maybe = Estimate | None


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a claim on one dataset.

    word: supported, contradicted, inconclusive or not run; reason: a sentence without its stop.
    p_supported, p_contradicted: one-sided p-values, corrected for the claim's number of pairs.
    better, worse, named: pairs proven better and worse than the margin by Holm's rule (each a
    95 % lower bound of the true number), and pairs named.
    """

    word: str
    reason: str
    p_supported: float = 1.0
    p_contradicted: float = 1.0
    better: int = 0
    worse: int = 0
    named: int = 0

    @property
    def p(self) -> float:
        """Return the two-sided p-value of the verdict's own direction, or of the nearer one."""
        own = {SUPPORTED: self.p_supported, CONTRADICTED: self.p_contradicted}
        nearer = min(self.p_supported, self.p_contradicted)
        return min(1.0, 2 * own.get(self.word, nearer))


@dataclass(frozen=True)
class Rule:
    """A claim's form with its numbers, as fractions: written down before the data are seen.

    margin: what a gain must pass; delta: the smallest gain that matters.
    """

    form: str
    margin: float = 0.0
    delta: float = 0.01


def up(found: Maybe, margin: float) -> float:
    """Return the p-value against "at most the margin"; 1 where the design cannot support."""
    return found.p_up(margin) if found is not None and found.conclusive else 1.0


def down(found: Maybe, margin: float) -> float:
    """Return the p-value against "at least the margin"; 1 where nothing can be proven."""
    blind = (CLIPS_ONLY, INCOMPLETE, ONE_SEED)
    return 1.0 if found is None or found.label in blind else found.p_down(margin)


def usable(found: Maybe) -> bool:
    """Tell whether an estimate says something: every fold has a run."""
    return found is not None and found.label != INCOMPLETE and found.runs > 0


def counts(pairs: Sequence[Maybe], margin: float) -> tuple[int, int]:
    """Return how many pairs are proven better and how many proven worse, by Holm's rule."""
    better = sum(holm([up(pair, margin) for pair in pairs], ALPHA))
    return better, sum(holm([down(pair, margin) for pair in pairs], ALPHA))


# ------------------------------------------------------------------------------------ many pairs


def of_pairs(
    rule: Rule,
    pairs: Sequence[Maybe],
    names: Sequence[str],
    premises: Sequence[Maybe] | None = None,
) -> Verdict:
    """Return the verdict on a claim about pairs: one, exists, all or majority.

    Args:
        rule: form, margin and delta.
        pairs: one estimate for each pair named, None where it was not run.
        names: the pairs' names, for the reason.
        premises: for `one` and `exists`, what must be above zero for a pair to count.

    Raises:
        InputError: another form, no pair, or `one` with several pairs.
    """
    if rule.form not in PAIR_FORMS or not pairs or (rule.form == "one" and len(pairs) != 1):
        raise InputError(f"the form '{rule.form}' does not fit {len(pairs)} pairs")
    if not any(map(usable, pairs)):
        return Verdict(NOT_RUN, f"none of {_count(len(pairs), 'pair')} is run", named=len(pairs))
    pairs = [pair if usable(pair) else None for pair in pairs]
    found = {"one": _one, "exists": _exists, "all": _all, "majority": _majority}[rule.form](
        rule, pairs, names, premises
    )
    better, worse = counts(pairs, rule.margin)
    found = replace(found, better=better, worse=worse, named=len(pairs))
    unfit = not any(pair.conclusive for pair in pairs if pair is not None)
    return _explained(found) if unfit else found


def _one(
    rule: Rule, pairs: Sequence[Maybe], names: Sequence[str], premises: Sequence[Maybe] | None
) -> Verdict:
    """One pair: its own interval."""
    return of_contrast(replace(rule, form="mean"), pairs[0], premise=_first(premises))


def _first(premises: Sequence[Maybe] | None) -> Maybe:
    """Return the only premise, if there is one."""
    return premises[0] if premises else None


def _exists(
    rule: Rule, pairs: Sequence[Maybe], names: Sequence[str], premises: Sequence[Maybe] | None
) -> Verdict:
    """Some pair: Holm's first step; against it, every pair below delta.

    With premises a pair counts if premise and gain both hold (the larger p-value, no correction);
    it is out if either is disproven (twice the smaller one). So no pair is chosen by its data.
    """
    ups = [up(pair, rule.margin) for pair in pairs]
    downs = [down(pair, rule.delta) for pair in pairs]
    proven = True
    if premises is not None:
        bases = [up(premise, 0.0) for premise in premises]
        ups = [max(pair) for pair in zip(ups, bases, strict=True)]
        outs = [down(premise, 0.0) for premise in premises]
        downs = [min(1.0, 2 * min(pair)) for pair in zip(downs, outs, strict=True)]
        proven = any(holm(bases, ALPHA))
    p_for, p_against = min(1.0, len(pairs) * min(ups)), max(downs) if proven else 1.0
    if p_for <= ALPHA:
        text = (
            f"proven for {names[ups.index(min(ups))]}, corrected for {_count(len(pairs), 'pair')}"
        )
        return Verdict(SUPPORTED, text, p_for, p_against)
    if p_against <= ALPHA:
        return Verdict(
            CONTRADICTED, f"no pair gains {_points(rule.delta)} or more", p_for, p_against
        )
    text = "no pair is proven" if proven else "the premise is not proven for any pair"
    return Verdict(INCONCLUSIVE, text, p_for, p_against)


def _all(
    rule: Rule, pairs: Sequence[Maybe], names: Sequence[str], premises: Sequence[Maybe] | None
) -> Verdict:
    """Every pair: the largest p-value; against it, one pair proven worse by Holm's rule."""
    p_for = max(up(pair, rule.margin) for pair in pairs)
    worse = holm_adjusted([down(pair, rule.margin) for pair in pairs])
    p_against = min(worse)
    missing = sum(pair is None for pair in pairs)
    if missing and p_against > ALPHA:
        text = (
            f"{missing} of {_count(len(pairs), 'pair')} not run, and none of the others is proven"
        )
        return Verdict(NOT_RUN, f"{text} {_below(rule.margin)}", 1.0, p_against)
    if p_for <= ALPHA:
        return Verdict(
            SUPPORTED, f"all {len(pairs)} proven {_above(rule.margin)}", p_for, p_against
        )
    if p_against <= ALPHA:
        name = names[worse.index(p_against)]
        return Verdict(CONTRADICTED, f"{name} is proven {_below(rule.margin)}", p_for, p_against)
    text = f"not all are proven {_above(rule.margin)}, none {_below(rule.margin)}"
    return Verdict(INCONCLUSIVE, text, p_for, p_against)


def _majority(
    rule: Rule, pairs: Sequence[Maybe], names: Sequence[str], premises: Sequence[Maybe] | None
) -> Verdict:
    """More than half: at least u of n hypotheses true, u = floor(n / 2) + 1."""
    count = len(pairs)
    most = count // 2 + 1
    p_for = partial_conjunction([up(pair, rule.margin) for pair in pairs], most)
    half = count - most + 1
    p_against = partial_conjunction([down(pair, rule.margin) for pair in pairs], half)
    if p_for <= ALPHA:
        text = f"at least {most} of {count} pairs are {_above(rule.margin)}"
        return Verdict(SUPPORTED, text, p_for, p_against)
    if p_against <= ALPHA:
        text = f"at least {half} of {count} pairs are not {_above(rule.margin)}"
        return Verdict(CONTRADICTED, text, p_for, p_against)
    text = f"neither {most} of {count} pairs proven {_above(rule.margin)} nor {half} proven not"
    return Verdict(INCONCLUSIVE, text, p_for, p_against)


# ---------------------------------------------------------------------------------- one contrast


def of_contrast(
    rule: Rule,
    found: Maybe,
    reference: Maybe = None,
    premise: Maybe = None,
    gain: Maybe = None,
) -> Verdict:
    """Return the verdict on a claim about one contrast (mean, comparison, no_gain and so on).

    Args:
        rule: form, margin and delta.
        found: the contrast; None where a run that it names is missing.
        reference: for `less_than_reference`, the reference gain, which must be above zero.
        premise: what must be above zero for the claim to be decided either way.
        gain: for `less_than_reference`, the gain itself: "much less, or nothing" is contradicted
            only by one that is above zero, so that a reference which harms contradicts nothing.
    """
    if not usable(found) or found is None:
        return Verdict(NOT_RUN, "a run that it names is not done on every fold")
    p_for, p_against = _directions(rule, found, reference, gain)
    if premise is not None:
        base = up(premise, 0.0)
        p_for, p_against = max(p_for, base), max(p_against, base)
    word = SUPPORTED if p_for <= ALPHA else CONTRADICTED if p_against <= ALPHA else INCONCLUSIVE
    if word == INCONCLUSIVE and premise is not None and up(premise, 0.0) > ALPHA:
        reason = "the premise is not proven"
    else:
        reason = _contrast_reason(rule, word, reference)
    verdict = Verdict(word, reason, p_for, p_against, named=1)
    return verdict if found.conclusive else _explained(verdict)


def _directions(rule: Rule, found: Estimate, reference: Maybe, gain: Maybe) -> tuple[float, float]:
    """Return the p-values for and against."""
    if rule.form == "no_gain":
        inside = max(up(found, -rule.delta), down(found, rule.delta))
        outside = min(_any_up(found, rule.delta), down(found, -rule.delta))
        return (inside if found.conclusive else 1.0), outside
    p_for, p_against = up(found, rule.margin), down(found, rule.margin)
    if rule.form == "less_than_reference":
        p_for = max(p_for, up(reference, 0.0))
        p_against = max(p_against, _any_up(gain, 0.0))
    return p_for, p_against


def _any_up(found: Maybe, margin: float) -> float:
    """Return p_up for a contradiction, which two seeds may give; 1 where nothing can be proven."""
    blind = (CLIPS_ONLY, INCOMPLETE, ONE_SEED)
    return 1.0 if found is None or found.label in blind else found.p_up(margin)


def _contrast_reason(rule: Rule, word: str, reference: Maybe) -> str:
    """Return why a contrast has its verdict."""
    if rule.form == "no_gain":
        delta = _points(rule.delta)
        inside = f"between \N{MINUS SIGN}{delta} and +{delta}"
        texts = {
            SUPPORTED: f"the interval lies {inside}",
            CONTRADICTED: f"the interval lies outside {inside.removeprefix('between ')}",
            INCONCLUSIVE: f"the interval is neither {inside} nor outside",
        }
        return texts[word]
    if rule.form == "less_than_reference" and word == INCONCLUSIVE and up(reference, 0.0) > ALPHA:
        return "the reference gain itself is not proven"
    line = _signed(rule.margin)
    texts = {
        SUPPORTED: f"the interval lies above {line}",
        CONTRADICTED: f"the interval lies below {line}",
        INCONCLUSIVE: f"the interval holds {line}",
    }
    return texts[word]


def _explained(verdict: Verdict) -> Verdict:
    """Say why a design cannot support anything."""
    if verdict.word != INCONCLUSIVE:
        return verdict
    return replace(
        verdict, reason="a claim is supported by three seeds, or by three folds, not fewer"
    )


# ------------------------------------------------------------------------------- several verdicts


def overall(words: Sequence[str]) -> str:
    """Return the verdict over datasets: one way only where none says the opposite."""
    known = {word for word in words if word != NOT_RUN}
    if {SUPPORTED, CONTRADICTED} <= known:
        return MIXED
    return next((w for w in (SUPPORTED, CONTRADICTED, INCONCLUSIVE) if w in known), NOT_RUN)


def surviving(verdicts: Sequence[Verdict]) -> list[bool]:
    """Tell which verdicts survive Holm's rule at 5 % over all claims that were judged."""
    judged = [index for index, verdict in enumerate(verdicts) if verdict.word != NOT_RUN]
    proven = holm([verdicts[index].p for index in judged], 2 * ALPHA)
    result = [False] * len(verdicts)
    for index, sure in zip(judged, proven, strict=True):
        result[index] = sure and verdicts[index].word in (SUPPORTED, CONTRADICTED)
    return result


def provable(found: Maybe) -> float | None:
    """Return the smallest margin that could be proven: the farther end of the interval."""
    if found is None or not usable(found) or found.low != found.low:
        return None
    return max(abs(found.low), abs(found.high))


# ----------------------------------------------------------------------------------------- words


def _points(value: float) -> str:
    """Return a fraction in points: 0.01 -> "1 point"."""
    return f"{100 * value:g} point{'' if abs(value - 0.01) < 1e-12 else 's'}"


def _signed(margin: float) -> str:
    """Return a margin in points, zero as a word."""
    return "zero" if margin == 0 else _points(margin).replace("-", "\N{MINUS SIGN}")


def _above(margin: float) -> str:
    """Return "better", or better than a margin."""
    return "better" if margin == 0 else f"above {_signed(margin)}"


def _below(margin: float) -> str:
    """Return "worse", or below a margin."""
    return "worse" if margin == 0 else f"below {_signed(margin)}"


def _count(number: int, word: str) -> str:
    """Return a number with its noun."""
    return f"{number} {word}{'' if number == 1 else 's'}"
