"""What a suite would run now, and why: each run's record compared with what is wanted, key by key.

It tells what `snakemake -n` would plan, without Snakemake: the reasons are those of
cmkd/plan/agreement.py, and what stands below a run that runs again runs again too.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.errors import ConfigError
from cmkd.plan import names
from cmkd.plan.agreement import Agreement
from cmkd.plan.catalog import parse_yaml
from cmkd.plan.recipes import leaves, with_neutral
from cmkd.plan.suites import Job

DONE, SCORE, TRAIN = "done", "evaluate", "train"
NEW = "new"
UP_TO_DATE = "done and up to date"
SHOWN = 3  # changed keys named in one reason
# Digests of other recipes, which say nothing to people.
LINKED = {"teacher.recipe": "teacher", "initial.recipe": "initial"}


class Fate(NamedTuple):
    """What becomes of a job: `done`, `evaluate` alone or `train` (and then evaluate), and why."""

    what: str
    why: str


def fates(agreement: Agreement) -> dict[Job, Fate]:
    """Return the fate of every job of the agreement's suite; what a job needs stands before it."""
    found: dict[Job, Fate] = {}
    for job in agreement.suite.jobs():
        found[job] = _fate(agreement, job, found)
    return found


def _fate(agreement: Agreement, job: Job, above: Mapping[Job, Fate]) -> Fate:
    """Return a job's fate, those of its parents known."""
    complaint = agreement.disagreement(job)
    again = [p for p in agreement.parents(job) if above[p].what == TRAIN]
    if complaint == "it was not trained yet":
        return Fate(TRAIN, NEW)
    if complaint is not None:
        return Fate(TRAIN, _changed(agreement, job, complaint, again))
    if again:
        return Fate(TRAIN, _runs_again(agreement, job, again[0]))
    if agreement.prepared_state(job.dataset) == "other":
        return Fate(TRAIN, "its data will be prepared anew")
    if not agreement.settled(job):
        return Fate(TRAIN, "the weights it was made from are newer")
    if not agreement.scored(job):
        return Fate(SCORE, "trained, not scored yet")
    return Fate(DONE, UP_TO_DATE)


def _changed(agreement: Agreement, job: Job, complaint: str, again: list[Job]) -> str:
    """Return a complaint; a changed recipe is told key by key, or by the run that changed it."""
    if complaint != "its recipe has changed":
        return complaint
    suite = agreement.suite
    wanted = suite.recipe(job.dataset, job.run).values
    record = _recorded(suite.folder(job) / "recipe.yaml")
    if record is None:
        return "its recorded recipe cannot be read"
    changes = list(differences(record, wanted))
    own = [f"{key} {old} → {new}" for key, old, new in changes if key not in LINKED]
    if own:
        more = f" and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
        return f"{complaint}: {', '.join(own[:SHOWN])}{more}"
    if again:
        return _runs_again(agreement, job, again[0])
    linked = [LINKED[key] for key, _, _ in changes]
    if "teacher" in linked:
        return f"its teacher {names.parse(job.run).teacher} has another recipe"
    return "the run it starts from has another recipe" if linked else complaint


def _runs_again(agreement: Agreement, job: Job, parent: Job) -> str:
    """Return the reason of a run below another that runs again."""
    if parent == agreement.suite.teacher_of(job):
        return f"its teacher {parent.run} runs again"
    return f"{parent.dataset}/{parent.run}, which it starts from, runs again"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (key, old value, new value) where two recipes' values differ, "none" for an absent one.

    Keys are dotted; a version of the code is said as such.
    """
    before, after = dict(leaves(old)), dict(leaves(new))
    for key in dict.fromkeys((*after, *before)):
        one, other = before.get(key), after.get(key)
        if one != other:
            name = f"the code's {key}" if key.endswith((".behaviour", ".code")) else key
            yield name, _word(one), _word(other)


def _word(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_word, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recorded(path: Path) -> dict[str, Any] | None:
    """Return the values of a recorded recipe, neutral ones filled in, None where it is damaged."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        return with_neutral(values)
    except (OSError, UnicodeDecodeError, ConfigError, KeyError, TypeError, AttributeError):
        return None


# ------------------------------------------------------------------------------------ jobs by rule


class Jobs(NamedTuple):
    """What would run, by rule; each job has a name of its own, so that suites can be joined."""

    download: frozenset[str]
    prepare: frozenset[str]
    stats: frozenset[str]
    train: frozenset[str]
    distill: frozenset[str]
    evaluate: frozenset[str]
    tables: frozenset[str]
    track: frozenset[str]

    def counts(self) -> dict[str, int]:
        """Return the number of jobs of each rule; rules without any are left out."""
        return {rule: len(jobs) for rule, jobs in self._asdict().items() if jobs}


def jobs(agreement: Agreement, found: Mapping[Job, Fate]) -> Jobs:
    """Return the jobs that the suite would run now."""
    suite = agreement.suite
    trained = {str(suite.folder(job)): job for job, fate in found.items() if fate.what == TRAIN}
    scored = {str(suite.folder(job)): job for job, fate in found.items() if fate.what != DONE}
    needed = dict.fromkeys(job.dataset for job in scored.values())
    unprepared = [name for name in needed if agreement.prepared_state(name) != "sound"]
    taught = {name for name, job in trained.items() if names.parse(job.run).teacher is not None}
    drawn = (suite.results / "tables" / suite.name / "leaderboard.csv").is_file()
    tables = bool(scored) or not drawn or not agreement.rows_agree()
    track = bool(scored) or not (suite.results / "logs" / f"track-{suite.name}.json").is_file()
    return Jobs(
        download=_downloads(agreement, unprepared),
        prepare=frozenset(str(suite.prepared_folder(name)) for name in unprepared),
        stats=_statistics(agreement, trained.values(), unprepared),
        train=frozenset(trained) - taught,
        distill=frozenset(taught),
        evaluate=frozenset(scored),
        tables=frozenset([f"{suite.results}/{suite.name}"] if tables else []),
        track=frozenset([f"{suite.results}/{suite.name}"] if track else []),
    )


def joined(several: Iterable[Jobs]) -> Jobs:
    """Return the jobs of several suites as one; what they share counts once."""
    return Jobs(*(frozenset().union(*jobs) for jobs in zip(*several, strict=True)))


def _downloads(agreement: Agreement, datasets: Iterable[str]) -> frozenset[str]:
    """Return the markers of downloads that are wanted and absent."""
    markers = (agreement.marker(name) for name in datasets)
    return frozenset(str(one) for one in markers if one is not None and not one.is_file())


def _statistics(
    agreement: Agreement, trained: Iterable[Job], unprepared: Iterable[str]
) -> frozenset[str]:
    """Return the statistics that must be made for the jobs that are trained."""
    wanted = {agreement.suite.statistics(job): job.dataset for job in trained}
    again = frozenset(unprepared)
    return frozenset(
        str(path)
        for path, dataset in wanted.items()
        if dataset in again or not path.is_file() or not agreement.statistics_agree(path, dataset)
    )
