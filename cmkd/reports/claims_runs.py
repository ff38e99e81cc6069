"""The runs that claims name, found by name in the suite's results whether or not it lists them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cmkd.errors import InputError
from cmkd.plan.claims import MEASURES, Arm, Weights
from cmkd.plan.suites import Job, Suite
from cmkd.reports import probes, runs
from cmkd.reports.gains import Design, Grid, Scores, readouts
from cmkd.reports.runs import RunState
from cmkd.scoring.intervals import Estimate


@dataclass
class Finder:
    """Reads each run folder and each scores file once, and forms contrasts of them."""

    suite: Suite
    notes: list[str] = field(default_factory=list)
    _states: dict[Job, RunState] = field(default_factory=dict)
    _scores: dict[str, Scores] = field(default_factory=dict)
    _grids: dict[Arm, Grid] = field(default_factory=dict)

    def metric(self, dataset: str) -> str:
        """Return a dataset's metric."""
        return str(self.suite.dataset(dataset)["metric"])

    def estimate(self, dataset: str, weights: Weights) -> Estimate | None:
        """Return a weighted sum of runs with its interval; None where one of them is not done."""
        arms = [(weight, self.grid(arm)) for arm, weight in weights.items()]
        if not arms or not all(grid for _, grid in arms):
            return None
        apart = not any(self.suite.shares_start(arm.dataset, arm.run) for arm in weights)
        design = Design(self.metric(dataset), self.suite.folds(dataset), self.suite.seeds, apart)
        try:
            return design.estimate(arms)
        except InputError as error:
            self.notes.append(str(error))
            return None

    def grid(self, arm: Arm) -> Grid:
        """Return a run's scores by fold and seed."""
        if arm.readout in MEASURES:
            return self._probed(arm)
        if arm not in self._grids:
            metric = self.metric(arm.dataset)
            scores = self._scores.setdefault(metric, Scores(metric))
            states = [self._state(job) for job in self.jobs(arm)]
            readout = arm.readout or self._headline(arm)
            self._grids[arm], complaints = scores.grid(states, readout)
            self.notes.extend(complaints)
        return self._grids[arm]

    def _probed(self, arm: Arm) -> Grid:
        """Return what a probe measured of a run, by fold and seed."""
        if arm not in self._grids:
            found = {job: probes.stability(self.suite, job) for job in self.jobs(arm)}
            self._grids[arm] = {
                (job.fold, job.seed): score for job, score in found.items() if score is not None
            }
        return self._grids[arm]

    def jobs(self, arm: Arm) -> list[Job]:
        """Return the trainings that an arm stands for."""
        folds = self.suite.folds(arm.dataset)
        return [
            Job(arm.dataset, arm.run, fold, seed) for fold in folds for seed in self.suite.seeds
        ]

    def count(self, arms: Iterable[Arm]) -> tuple[int, int]:
        """Return how many trainings of some arms are done with their readout, and how many named.

        A training counts once, whatever its readouts.
        """
        named: dict[Job, bool] = {}
        for arm in arms:
            for job in self.jobs(arm):
                done = self._done(arm, job)
                named[job] = named.get(job, True) and done
        return sum(named.values()), len(named)

    def _done(self, arm: Arm, job: Job) -> bool:
        """Tell whether a training has what an arm needs: its readout, or its probe."""
        if arm.readout in MEASURES:
            return (job.fold, job.seed) in self._probed(arm)
        return (arm.readout or self._headline(arm)) in readouts(self._state(job))

    def _headline(self, arm: Arm) -> str:
        """Return the readout that a run's recipe names."""
        recipe = self.suite.recipe(arm.dataset, arm.run).values
        return str(recipe["training"]["readout"])

    def _state(self, job: Job) -> RunState:
        """Return what is known of a run."""
        if job not in self._states:
            folder = self.suite.folder(job)
            status, cause = runs.judge(folder, self.suite.recipe(job.dataset, job.run))
            metrics = runs.read(folder / "metrics.json") if status == runs.DONE else None
            self._states[job] = RunState(job, status, cause, metrics or {}, {}, folder)
        return self._states[job]

    def taken_notes(self) -> Sequence[str]:
        """Return the complaints since the last call, each once."""
        taken = tuple(dict.fromkeys(self.notes))
        self.notes.clear()
        return taken
