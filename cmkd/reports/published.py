"""Published figures, shown beside ours in a table of their own: no rank, no interval, no mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmkd.plan.catalog import Catalog, read_yaml
from cmkd.plan.suites import Suite
from cmkd.reports.columns import METRICS, percent

TITLE = "Published (not ours, not comparable unless stated)"
HEADS = ("system", "figure", "grade", "source", "note")
GRADES = (
    "Grades: P the paper's own words, C code or logs of its authors, R1 a secondary source, R2 a "
    "recollection. Published figures have no interval here and were reached with other code."
)


@dataclass(frozen=True)
class Figure:
    """One published figure: a fraction, how sure it is, and where it was read."""

    name: str
    dataset: str
    system: str
    metric: str
    value: float
    grade: str
    source: str
    note: str = ""

    def cells(self) -> list[str]:
        """Return its texts, in the order of HEADS."""
        value = f"{percent(self.value)} % {METRICS[self.metric]}"
        return [self.system, value, self.grade, self.source, self.note]


def paper_file(catalog: Path) -> Path:
    """Return where a catalogue keeps published figures."""
    return catalog / "paper.yaml"


def read(entries: Catalog) -> dict[str, Figure]:
    """Return the checked figures of a catalogue by name; none where it has no file.

    Raises:
        ConfigError: the file breaks its schema, or names no dataset.
    """
    from cmkd.plan import checks, claim_checks

    path = paper_file(entries.folder)
    if not path.is_file():
        return {}
    document = read_yaml(path)
    checks.refuse(claim_checks.paper_problems(document, entries, str(path)))
    return {name: Figure(name, **entry) for name, entry in document.items()}


def of_dataset(figures: Iterable[Figure], dataset: str) -> list[Figure]:
    """Return the figures of one dataset, in the file's order."""
    return [figure for figure in figures if figure.dataset == dataset]


def markdown(figures: Sequence[Figure]) -> list[str]:
    """Return the paragraphs of one dataset's published figures; none without figures."""
    if not figures:
        return []
    lines = [HEADS, ["---"] * len(HEADS), *(figure.cells() for figure in figures)]
    return [f"{TITLE}:", "\n".join(f"| {' | '.join(line)} |" for line in lines), GRADES]


def of_suite(suite: Suite, dataset: str) -> list[Figure]:
    """Return the published figures of one of a suite's datasets."""
    return of_dataset(read(suite.entries).values(), dataset)
