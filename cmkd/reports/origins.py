"""What a run's weights had heard before: sources of its test clips in another's training."""

from collections.abc import Iterable

from cmkd.data import overlap
from cmkd.plan.suites import Job, Suite


def notes(suite: Suite, jobs: Iterable[Job]) -> list[str]:
    """Return a sentence for each other dataset that a run's initial weights were trained on.

    None where the two datasets' sources are not of one kind, or a manifest is not there.
    """
    folds: dict[str, set[tuple[int, int]]] = {}
    dataset = ""
    for job in jobs:
        initial, dataset = suite.initial_of(job), job.dataset
        if initial is not None and initial.dataset != dataset:
            folds.setdefault(initial.dataset, set()).add((job.fold, initial.fold))
    found = (_note(suite, dataset, other, pairs) for other, pairs in folds.items())
    return [note for note in found if note]


def _note(suite: Suite, dataset: str, other: str, folds: Iterable[tuple[int, int]]) -> str:
    """Return how many test sources of a dataset lie among another's training clips."""
    alike = overlap.columns(suite.dataset(dataset), suite.dataset(other))
    here, there = suite.prepared_folder(dataset), suite.prepared_folder(other)
    if alike is None or not all((path / "manifest.csv").is_file() for path in (here, there)):
        return ""
    kind, mine, its = alike
    tested: set[str] = set()
    shared: set[str] = set()
    for fold, source_fold in folds:
        tested |= overlap.sources(here, fold, "test", mine)
        shared |= set(overlap.shared_sources(here, there, fold, source_fold, (mine, its)))
    return (
        f"{len(shared)} of {len(tested)} test sources also lie in the training clips of {other} "
        f"({kind.capitalize()})"
    )
