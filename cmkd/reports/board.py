"""The rows of one dataset: one for each run and readout, with gains, ranks and remarks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cmkd.plan import names
from cmkd.plan.ensembles import Ensemble
from cmkd.plan.names import Run
from cmkd.plan.suites import Job, Suite
from cmkd.reports import ensembles, origins, peeking, references, runs
from cmkd.reports.ensembles import Combined
from cmkd.reports.gains import Design, Grid, Outcome, Scores, gain, readouts, score
from cmkd.reports.prices import Prices
from cmkd.reports.runs import RunState, ids_hash


@dataclass
class Board:
    """One dataset of a suite: its runs' states, in the suite's order, and their scores.

    `ensembles` are those whose members all belong to the dataset, by the names of their rows.
    """

    suite: Suite
    dataset: str
    states: Mapping[str, Sequence[RunState]]
    prices: Prices
    listed: frozenset[tuple[str, str]]
    scores: Scores = field(init=False)
    ensembles: Mapping[str, Ensemble] = field(init=False)
    _combined: dict[Ensemble, Combined] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare for reading scores."""
        self.scores = Scores(self.metric)
        self.ensembles = {
            one.row: one for one in self.suite.ensembles if set(one.runs) <= set(self.states)
        }

    @property
    def metric(self) -> str:
        """Return the dataset's metric."""
        return str(self.suite.dataset(self.dataset)["metric"])

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows: headline readouts best first, then further readouts, then no result."""
        found = [row for name in self.states for row in self._of_run(name)]
        for ensemble in self.ensembles.values():
            row = ensembles.row(self, ensemble)
            found.append(row | {"notes": joined(row["notes"])})
        self._rank([row for row in found if row["headline"]])
        order = sorted(found, key=lambda row: (row["value"] is None, not row["headline"],
                                               -(row["value"] or 0.0)))  # fmt: skip
        return [{key: row[key] for key in row if key != "headline"} for row in order]

    def combined(self, ensemble: Ensemble) -> Combined:
        """Return an ensemble formed from the runs that are done, read once."""
        if ensemble not in self._combined:
            labels = self.suite.dataset(self.dataset)["labels"]
            formed = ensembles.combine(ensemble, self.states, self.metric, labels)
            apart = not any(self.suite.shares_start(self.dataset, run) for run in ensemble.runs)
            formed = replace(formed, design=replace(formed.design, rng_per_fold=apart))
            self._combined[ensemble] = formed
        return self._combined[ensemble]

    def alone(self, run: Run) -> Run | None:
        """Return the run of the student alone, None where it is not in the suite."""
        known = map(names.parse, self.states)
        return references.alone(self.suite, self.dataset, run, known)

    def headline(self, run: Run | str) -> str:
        """Return the headline readout of a run."""
        return str(self.suite.recipe(self.dataset, run).values["training"]["readout"])

    def _of_run(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of one run, its headline readout first."""
        headline = self.headline(name)
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
            "weights_origin": self.weights(run),
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

    def weights(self, run: Run | str) -> str:
        """Return where a run's weights began: none, imagenet, a path or run:DATASET/RUN."""
        values = self.suite.recipe(self.dataset, run).values
        return str(values["model"].get("weights", "none"))

    def _design(self, run: Run | str) -> Design:
        """Return what is planned for a row: closure may ask for fewer folds than the suite."""
        if str(run) in self.ensembles:
            return self.combined(self.ensembles[str(run)]).design
        jobs = [state.job for state in self.states[str(run)]]
        folds, seeds = dict.fromkeys(j.fold for j in jobs), dict.fromkeys(j.seed for j in jobs)
        apart = not self.suite.shares_start(self.dataset, run)
        return Design(self.metric, tuple(folds), tuple(seeds), apart)

    def _notes(self, run: Run, readout: str, states: Sequence[RunState]) -> list[str]:
        """Return what a reader of the row must know before its numbers."""
        listed = (self.dataset, str(run)) in self.listed
        return [
            *runs.summary(states),
            _warned(states),
            ""
            if listed
            else f"not listed in the suite, run because {self._needed_by(run)} needs it",
            *(peeking.notes(states) if readout == peeking.PEEK else ()),
            *origins.notes(self.suite, [state.job for state in states]),
            self._oddities(),
        ]

    def _needed_by(self, run: Run) -> str:
        """Return what asks for a run that the suite does not list."""
        return "an ensemble" if run in self.suite.members() else "another run"

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
            reference = self.alone(run)
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
        chosen = self.headline(reference) if headline else readout
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

    def _is_run(self, name: str) -> bool:
        """Tell a run from an ensemble."""
        return name not in self.ensembles

    def _arm(self, name: str, readout: str) -> Grid:
        """Return the scores of a row."""
        if self._is_run(name):
            return self._grid(names.parse(name), readout, [])
        return self.combined(self.ensembles[name]).grid

    def _rank(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rank intervals of the complete rows, apart for each set of test clips."""
        complete = [row for row in rows if row["low"] is not None]
        for clips in dict.fromkeys(row["ids_hash"] for row in complete):
            group = {row["run"]: row for row in complete if row["ids_hash"] == clips}
            design = self._design(next((name for name in group if self._is_run(name)), [*group][0]))
            arms = {name: self._arm(name, row["readout"]) for name, row in group.items()}
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


def oddities(suite: Suite, dataset: str) -> list[str]:
    """Return the declared oddities of a dataset's published data, a sentence each."""
    audit = runs.read(suite.prepared_folder(dataset) / "audit.json") or {}
    return [str(finding["sentence"]) for finding in audit.get("declared", ())]
