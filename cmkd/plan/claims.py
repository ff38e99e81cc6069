"""The paper's claims: from a few lines of claims.yaml to the runs and contrasts that each names.

A template is a run's name in which S (a student), T (a teacher) and V (a variant) stand for words,
with a dataset before it or a readout behind it where these are not the claim's own: `audioset/S+V@T
(averaged)`. `(stability)` is no readout but a measure of `cmkd probe`: the correlation of a clip's
logits with those of the clip shifted in time. A selector gives a template for the run, one for what
it is compared with, and what the letters range over; each choice of words makes a pair.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.errors import ConfigError
from cmkd.plan import names
from cmkd.plan.catalog import Catalog, read_yaml
from cmkd.plan.names import Run
from cmkd.plan.suites import Suite

LETTERS = ("S", "T", "V")
MEASURES = ("stability",)  # what stands in a readout's place and is read from probes
DIRECTIONS = {
    "cross": ("cnn_to_transformer", "transformer_to_cnn"),
    "cnn_to_transformer": ("cnn_to_transformer",),
    "transformer_to_cnn": ("transformer_to_cnn",),
    "same": ("same_class",),
    "self": ("self",),
}
TEMPLATE = re.compile(r"(?:(?P<dataset>[a-z0-9_]+)/)?(?P<run>[^ /]+)(?: \((?P<readout>\w+)\))?")
TINY = 1e-12  # weights that cancel leave less than this


class Arm(NamedTuple):
    """One run on one dataset, scored at one readout ("": its headline)."""

    dataset: str
    run: str
    readout: str = ""

    def __str__(self) -> str:
        """Return the run and its readout, as the leaderboard writes them."""
        return f"{self.run} ({self.readout})" if self.readout else self.run


Weights = Mapping[Arm, float]


@dataclass(frozen=True)
class Pair:
    """A contrast that a claim names: weights of runs, and what S, T and V are in it.

    `given` is a contrast that must be above zero for the pair to count, or None.
    """

    name: str
    words: Mapping[str, str]
    gain: Weights
    given: Weights | None = None


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yaml.

    margin, delta: by metric, as fractions; bar: names of published figures by dataset.
    """

    id: str
    entry: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @property
    def form(self) -> str:
        """Return the form, which says what supports and what contradicts the claim."""
        return str(self.entry["form"])

    @property
    def each(self) -> str | None:
        """Return the letter whose words are the claim's units, None: every pair is one."""
        return self.entry.get("each")

    @property
    def rho(self) -> float:
        """Return which share of the reference gain counts as much less."""
        return float(self.entry.get("rho", self.defaults["rho"]))

    def delta(self, metric: str) -> float:
        """Return the smallest gain that matters."""
        return float((self.entry.get("delta") or self.defaults["delta"])[metric])

    def margin(self, metric: str) -> float:
        """Return the margin that the gain must pass: a number, "delta" or "-delta"."""
        stated = self.entry.get("margin", 0.0)
        if isinstance(stated, str):
            return self.delta(metric) * (-1.0 if stated.startswith("-") else 1.0)
        return float(stated)

    def datasets(self, suite: Suite) -> tuple[str, ...]:
        """Return the suite's datasets that the claim is about."""
        own = self.entry.get("datasets")
        return tuple(name for name in suite.datasets if own is None or name in own)


@dataclass(frozen=True)
class Named:
    """What a claim names on one dataset of a suite.

    pairs, than: its pairs and those of the reference; notes: what was left out and why.
    """

    pairs: tuple[Pair, ...]
    than: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def arms(self) -> tuple[Arm, ...]:
        """Return every run that the claim names, each once."""
        every = (*self.pairs, *self.than)
        found = [arm for pair in every for arm in (*pair.gain, *(pair.given or {}))]
        return tuple(dict.fromkeys(found))


def claims_file(catalog: Path) -> Path:
    """Return where a catalogue keeps its claims."""
    return catalog / "claims.yaml"


def read(entries: Catalog) -> tuple[Claim, ...]:
    """Return the checked claims of a catalogue, in the file's order; none where it has no file.

    Raises:
        ConfigError: the file breaks its schema or makes no sense.
    """
    from cmkd.plan import checks, claim_checks

    path = claims_file(entries.folder)
    if not path.is_file():
        return ()
    document = read_yaml(path)
    checks.refuse(claim_checks.problems(document, entries, str(path)))
    return tuple(
        Claim(name, entry, document["defaults"]) for name, entry in document["claims"].items()
    )


def expand(suite: Suite, dataset: str, claim: Claim) -> Named:
    """Return what a claim names on a dataset; models are the suite's unless the claim lists them.

    With `each`, only words that both sides have are kept, so that like is compared with like.
    """
    notes: list[str] = []
    pairs = tuple(_pairs(suite, dataset, claim.entry["pairs"], notes))
    than = (
        tuple(_pairs(suite, dataset, claim.entry["than"], notes)) if "than" in claim.entry else ()
    )
    if than and claim.each:
        both = _words(pairs, claim.each) & _words(than, claim.each)
        lost = sorted((_words(pairs, claim.each) | _words(than, claim.each)) - both)
        if lost:
            notes.append(f"left out, since one side has no such pair: {', '.join(lost)}")
        pairs = tuple(pair for pair in pairs if pair.words[claim.each] in both)
        than = tuple(pair for pair in than if pair.words[claim.each] in both)
    return Named(pairs, than, tuple(dict.fromkeys(notes)))


def _words(pairs: Sequence[Pair], letter: str) -> set[str]:
    """Return what a letter stands for in some pairs."""
    return {pair.words[letter] for pair in pairs}


def _pairs(
    suite: Suite, dataset: str, selector: Mapping[str, Any], notes: list[str]
) -> Iterator[Pair]:
    """Yield the pairs of a selector; those whose recipe cannot be made are noted and left out."""
    templates = [selector["run"], selector.get("over"), *(selector.get("given") or {}).values()]
    letters = [x for x in LETTERS if any(x in template_tokens(text) for text in templates if text)]
    ranges = [_range(suite, letter, selector.get(letter), notes) for letter in letters]
    for chosen in itertools.product(*ranges):
        words = dict(zip(letters, chosen, strict=True))
        if not _in_direction(suite, words, selector.get("where")):
            continue
        try:
            gain = contrast(suite, dataset, selector, words)
            given = (
                contrast(suite, dataset, selector["given"], words) if "given" in selector else None
            )
        except ConfigError as error:
            notes.append(f"left out: {error}")
            continue
        yield Pair(_name(gain), words, gain, given)


def _name(gain: Weights) -> str:
    """Return a pair's name: the runs that count for it."""
    return " and ".join(str(arm) for arm, weight in gain.items() if weight > 0)


def template_tokens(template: str) -> list[str]:
    """Return the words and letters of a template's run."""
    found = TEMPLATE.fullmatch(template)
    return re.split(r"[@+]", found["run"]) if found else []


def _range(suite: Suite, letter: str, stated: Any, notes: list[str]) -> tuple[str, ...]:
    """Return the words a letter stands for: listed ones, or the suite's models of a kind."""
    if isinstance(stated, list):
        return tuple(stated)
    if isinstance(stated, Mapping):
        families = stated["families"]
        for family in families:
            if not any(suite.family(model) == family for model in suite.models):
                notes.append(f"the suite has no model of the family {family}")
                return ()
        return tuple(model for model in suite.models if suite.family(model) in families)
    found = tuple(model for model in suite.models if stated in (None, suite.klass(model)))
    if not found:
        notes.append(f"the suite has no model of the class {stated}")
    return found


def _in_direction(suite: Suite, words: Mapping[str, str], where: str | None) -> bool:
    """Tell whether T teaches S in the wanted direction."""
    if where is None:
        return True
    try:
        return suite.direction(Run(words["S"], (), Run(words["T"]))) in DIRECTIONS[where]
    except ConfigError:
        return True  # the recipe will say what is wrong


def contrast(
    suite: Suite, dataset: str, selector: Mapping[str, Any], words: Mapping[str, str]
) -> Weights:
    """Return the weights of a selector's run and of what it is compared with.

    Raises:
        ConfigError: a run whose recipe cannot be made.
    """
    arms = [(1.0, selector["run"]), (-1.0, selector.get("over"))]
    return merged(
        [({_arm(suite, dataset, text, words): weight}, 1.0) for weight, text in arms if text]
    )


def _arm(suite: Suite, dataset: str, template: str, words: Mapping[str, str]) -> Arm:
    """Return the run that a template names, without variants that change nothing in it."""
    found = TEMPLATE.fullmatch(template)
    if found is None:
        raise ConfigError(f"'{template}' is no template of a run, such as S+tau2@T")
    where = found["dataset"] or dataset
    run: Run | None = None
    for link in reversed(found["run"].split("@")):
        model, *variants = (words.get(token, token) for token in link.split("+"))
        run = _without_idle(suite, where, Run(model, tuple(sorted(variants)), run))
    return Arm(where, str(run), found["readout"] or "")


def _without_idle(suite: Suite, dataset: str, run: Run) -> Run:
    """Return a run without those of its variants that leave its recipe as it is.

    A suite never trains them (a temperature of a run without a teacher, epochs that are the
    default), so the plain run stands for them.
    """
    for variant in run.variants:
        rest = Run(run.model, tuple(v for v in run.variants if v != variant), run.teacher)
        if not suite.touches(dataset, rest, variant):
            run = rest
    names.parse(str(run))
    suite.recipe(dataset, run)
    return run


def merged(parts: Sequence[tuple[Weights, float]]) -> dict[Arm, float]:
    """Return the weighted sum of contrasts; runs that cancel are gone."""
    total: dict[Arm, float] = {}
    for weights, factor in parts:
        for arm, weight in weights.items():
            total[arm] = total.get(arm, 0.0) + factor * weight
    return {arm: weight for arm, weight in total.items() if abs(weight) > TINY}
