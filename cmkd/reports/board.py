"""The rows of one dataset: one for each run and readout, with gains, ranks and remarks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmkd import files
from cmkd.plan import names
from cmkd.plan.names import Run
from cmkd.plan.suites import Job, Suite
from cmkd.reports import references, runs
from cmkd.reports.gains import Design, Grid, Outcome, Scores, gain, readouts, score
from cmkd.reports.prices import Prices
from cmkd.reports.runs import RunState

PEEK = "its epoch was chosen on the test clips"


@dataclass
class Board:
    """One dataset of a suite: its runs' states, in the suite's order, and their scores."""

    suite: Suite
    dataset: str
    states: Mapping[str, Sequence[RunState]]
    prices: Prices
    listed: frozenset[tuple[str, str]]
    scores: Scores = field(init=False)

    def __post_init__(self) -> None:
        """Prepare for reading scores."""
        self.scores = Scores(self.metric)

    @property
    def metric(self) -> str:
        """Return the dataset's metric."""
        return str(self.suite.dataset(self.dataset)["metric"])

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows: headline readouts best first, then further readouts, then no result."""
        found = [row for name in self.states for row in self._of_run(name)]
        self._rank([row for row in found if row["headline"]])
        order = sorted(found, key=lambda row: (row["value"] is None, not row["headline"],
                                               -(row["value"] or 0.0)))  # fmt: skip
        return [{key: row[key] for key in row if key != "headline"} for row in order]

    def _of_run(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of one run, its headline readout first."""
        headline = str(self.suite.recipe(self.dataset, name).values["training"]["readout"])
        found = dict.fromkeys([headline])
        for state in self.states[name]:
            found |= dict.fromkeys(readouts(state))
        return [self._row(names.parse(name), readout, readout == headline) for readout in found]

    def _row(self, run: Run, readout: str, headline: bool) -> dict[str, Any]:
        """Return one row."""
        states = self.states[str(run)]
        done = [state for state in states if readout in readouts(state)]
        notes = self._notes(run, readout, states)
        value, over_alone, over_teacher = self._outcomes(run, readout, headline, notes)
        return {
            **self._identity(run),
            "readout": readout,
            "headline": headline,
            "metric": self.metric,
            "value": value.value,
            "low": value.low,
            "high": value.high,
            **over_alone.cells("gain_alone"),
            **over_teacher.cells("gain_teacher"),
            "label": value.label,
            "done": len(done),
            "planned": len(states),
            **self.prices.row(done),
            "weights_origin": self._weights(run),
            "ids_hash": ids_hash(done),
            "notes": joined(notes),
        }

    def _identity(self, run: Run) -> dict[str, str]:
        """Return what a run is."""
        return {
            "dataset": self.dataset,
            "run": str(run),
            "student": run.link,
            "teacher": str(run.teacher or ""),
            "class": self.suite.klass(run),
            "teacher_class": self.suite.klass(run.teacher) if run.teacher else "",
            "direction": self.suite.direction(run),
        }

    def _weights(self, run: Run) -> str:
        """Return where a run's weights began: none, imagenet, a path or run:DATASET/RUN."""
        values = self.suite.recipe(self.dataset, run).values
        return str(values["model"].get("weights", "none"))

    def _design(self, run: Run | str) -> Design:
        """Return what is planned for a run: closure may ask for fewer folds than the suite."""
        jobs = [state.job for state in self.states[str(run)]]
        folds, seeds = dict.fromkeys(j.fold for j in jobs), dict.fromkeys(j.seed for j in jobs)
        return Design(self.metric, tuple(folds), tuple(seeds))

    def _notes(self, run: Run, readout: str, states: Sequence[RunState]) -> list[str]:
        """Return what a reader of the row must know before its numbers."""
        listed = (self.dataset, str(run)) in self.listed
        return [
            *runs.summary(states),
            _warned(states),
            "" if listed else "not listed in the suite, run because another run needs it",
            PEEK if readout == "peek" else "",
            self._oddities(),
        ]

    def _oddities(self) -> str:
        """Return how many oddities of the published data are declared."""
        count = len(oddities(self.suite, self.dataset))
        return f"data: {count} declared oddities, see audit.json" if count else ""

    def _outcomes(
        self, run: Run, readout: str, headline: bool, notes: list[str]
    ) -> tuple[Outcome, Outcome, Outcome]:
        """Return value, gain over the student alone and gain over the teacher; add their notes."""
        design, grid = self._design(run), self._grid(run, readout, notes)
        value = score(design, grid, self._values(run, readout))
        over_alone = over_teacher = Outcome()
        if run.teacher is not None:
            reference = references.alone(
                self.suite, self.dataset, run, map(names.parse, self.states)
            )
            over_alone = self._over(run, grid, reference, readout, headline, "the student alone")
            over_teacher = self._over(run, grid, run.teacher, readout, headline, "its teacher")
            if reference is not None and reference.link != run.link:
                notes.append(f"its student alone is {reference}, which has the same recipe")
        for outcome in (value, over_alone, over_teacher):
            notes.extend(outcome.notes)
        for outcome in (over_alone, over_teacher):
            if outcome.label not in ("", value.label):
                notes.append(f"gain: {outcome.label}")
        return value, over_alone, over_teacher

    def _over(
        self, run: Run, grid: Grid, reference: Run | None, readout: str, headline: bool, what: str
    ) -> Outcome:
        """Return the gain over a reference run.

        Headline readouts are compared with headline readouts, further ones with the same one.
        """
        if reference is None or str(reference) not in self.states:
            return Outcome(notes=(f"{what} is not in the suite, so there is no gain over it",))
        theirs = self.suite.recipe(self.dataset, reference).values["training"]["readout"]
        chosen = str(theirs) if headline else readout
        other = self._grid(reference, chosen, [])
        found = gain(self._design(run), grid, other, what)
        if headline and chosen != readout and found.value is not None:
            return Outcome(found.value, found.low, found.high, found.label,
                           (*found.notes, f"{what} is read out by {chosen}"))  # fmt: skip
        return found

    def _grid(self, run: Run, readout: str, notes: list[str]) -> Grid:
        """Return a run's scores by fold and seed; a damaged file is left out and said."""
        grid, complaints = self.scores.grid(self.states[str(run)], readout)
        notes.extend(complaints)
        return grid

    def _values(self, run: Run, readout: str) -> dict[tuple[int, int], float]:
        """Return the metric of each done run by fold and seed."""
        found = {(s.job.fold, s.job.seed): readouts(s) for s in self.states[str(run)]}
        return {key: float(of[readout]["value"]) for key, of in found.items() if readout in of}

    def _rank(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rank intervals of the complete rows, apart for each set of test clips."""
        complete = [row for row in rows if row["low"] is not None]
        for clips in dict.fromkeys(row["ids_hash"] for row in complete):
            group = {row["run"]: row for row in complete if row["ids_hash"] == clips}
            design = self._design(next(iter(group)))
            arms = {
                name: self._grid(names.parse(name), row["readout"], [])
                for name, row in group.items()
            }
            for name, (low, high) in design.ranks(arms).items():
                group[name] |= {"rank_low": low, "rank_high": high}


def _warned(states: Sequence[RunState]) -> str:
    """Return how many done runs carry a warning, with the first one."""
    warnings = [found[0] for s in states if s.done and (found := s.metrics.get("warnings"))]
    return (
        f"warning {len(warnings)}/{len(states)}: {warnings[0].partition(';')[0]}"
        if warnings
        else ""
    )


def joined(notes: Iterable[str]) -> str:
    """Return the notes of a row as one text: each once, a semicolon only between them."""
    return "; ".join(dict.fromkeys(note.replace(";", ",") for note in notes if note))


def boards(suite: Suite) -> list[Board]:
    """Return the boards of a suite's datasets, those that only closure asks for last."""
    states = runs.collect(suite)
    prices = Prices(states)
    by_dataset: dict[str, dict[str, list[RunState]]] = {name: {} for name in suite.datasets}
    for job in _in_order(suite, states):
        by_dataset.setdefault(job.dataset, {}).setdefault(job.run, []).append(states[job])
    listed = suite.listed()
    return [Board(suite, name, of, prices, listed) for name, of in by_dataset.items()]


def _in_order(suite: Suite, jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs in the order in which the suite lists runs, by closure needed ones last."""
    listed = [(d, str(run)) for d in suite.datasets for run in suite.runs(d)]
    place = {key: number for number, key in enumerate(listed)}
    return sorted(jobs, key=lambda job: place.get((job.dataset, job.run), len(place)))


def ids_hash(states: Sequence[RunState]) -> str:
    """Return what names the test clips of runs: the hash of one set, or of the folds' hashes."""
    found = sorted({(s.job.fold, str(s.metrics.get("ids_hash", ""))) for s in states})
    if len(found) < 2:
        return found[0][1] if found else ""
    return files.sha256_text("\n".join(f"{fold} {value}" for fold, value in found))


def oddities(suite: Suite, dataset: str) -> list[str]:
    """Return the declared oddities of a dataset's published data, a sentence each."""
    audit = runs.read(suite.prepared_folder(dataset) / "audit.json") or {}
    return [str(finding["sentence"]) for finding in audit.get("declared", ())]
