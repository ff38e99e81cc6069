"""What of a recipe decides how long one clip takes: runs that share it cost the same.

A learning rate, a temperature or a number of epochs does not change the seconds a clip; a front
end, a model, a teacher's model, a batch or a way of teaching does. Measurements are kept and found
by this, so that a variant or a further fold is priced from what was measured of its like.
"""

from collections.abc import Mapping
from typing import Any

from cmkd.plan import names
from cmkd.plan.recipes import digest, dump
from cmkd.plan.suites import Suite

INPUT = ("sample_rate", "mel_bins", "shift_ms", "frames", "mixup", "sampling")
# Where weights come from and how a view is normalised costs nothing a clip.
FREE = ("weights", "normalise", "stem", "dropout", "drop_path", "behaviour", "code")


def likeness(values: Mapping[str, Any], teacher: Mapping[str, Any] | None) -> str:
    """Return the name of all work of one kind on a dataset.

    Args:
        values: a recipe's values, neutral ones filled in.
        teacher: the values of the teacher's recipe, None for a run without one.
    """
    objective = values["objective"]
    taught = {"name": objective["name"], "teaching": objective.get("teaching")}
    return digest(
        dump(
            {
                "dataset": {key: values["dataset"][key] for key in ("name", "labels", "classes")},
                "input": {key: values["input"].get(key) for key in INPUT},
                "model": _shape(values),
                "objective": taught if teacher else None,
                "teacher": _shape(teacher) if teacher else None,
                "batch": values["training"]["batch"],
            }
        )
    )


def _shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a recipe says of the model's size and form."""
    return {key: value for key, value in values["model"].items() if key not in FREE}


def of_run(suite: Suite, dataset: str, run: str) -> str:
    """Return the likeness of a run that the suite's catalogue can name."""
    teacher = names.parse(run).teacher
    above = suite.recipe(dataset, teacher).values if teacher else None
    return likeness(suite.recipe(dataset, run).values, above)


def scored(training: Mapping[str, Any]) -> dict[str, int]:
    """Return how often each readout of a recipe's `training` scores the test clips."""
    often = {"peek": training["epochs"], "checkpoints": len(kept(training))}
    return {name: often.get(name, 1) for name in (training["readout"], *training["readouts"])}


def kept(training: Mapping[str, Any]) -> range:
    """Return the epochs whose weights are kept until the run has been scored."""
    readouts = (training["readout"], *training["readouts"])
    if "peek" in readouts:
        return range(1, training["epochs"] + 1)
    if "checkpoints" not in readouts:
        return range(0)
    first, last = training["average"]
    return range(first, last + 1)
