"""What a student is compared with: the same link without a teacher, and its teacher's run."""

from collections.abc import Iterable, Mapping
from typing import Any

from cmkd.errors import ConfigError
from cmkd.plan.names import Run
from cmkd.plan.suites import Suite


def alone(suite: Suite, dataset: str, run: Run, known: Iterable[Run]) -> Run | None:
    """Return the run of the student alone among the known runs, or None where it is not there.

    That is the same link without a teacher; a variant that changes nothing for a run without a
    teacher (a temperature, say) is not trained twice, so an alone run of the same model whose
    recipe differs in nothing but its name stands for it.
    """
    wanted = Run(run.model, run.variants)
    candidates = [other for other in known if other.teacher is None]
    if wanted in candidates:
        return wanted
    recipe = _without_name(suite, dataset, wanted)
    same = (
        other
        for other in candidates
        if other.model == run.model and _without_name(suite, dataset, other) == recipe
    )
    return next(same, None) if recipe is not None else None


def _without_name(suite: Suite, dataset: str, run: Run) -> Mapping[str, Any] | None:
    """Return a recipe's values without the run's name, or None where it has no recipe."""
    try:
        values = suite.recipe(dataset, run).values
    except ConfigError:
        return None
    return {key: value for key, value in values.items() if key != "run"}
