"""What a suite will cost, before anything is run: trainings, GPU-hours, disk. All of it estimated.

A training takes, in seconds on one device,

    epochs x train clips x (3 F / S + F_t / S_t + H)      forward, backward; the teacher forward
    + (epochs x val clips + scored clips) x (F / S + H)   validation, and every readout's scores
    + 60                                                  starting two programs, reading, writing

F, F_t: operations of one forward pass of the student and of the teacher on one clip, `gflops` of
models.yaml scaled by the size of the view (exact for CNNs, some 30 % too much for AST at half the
length). A backward pass is taken as two forward ones. S, S_t: operations a second that a class of
models sustains; H: seconds to read and mix a clip's waves on the host. Scored clips: the test and
validation splits once for each readout, once for each of its epochs under `checkpoints` and `peek`.

On disk stay the prepared clips (int16, 16 kHz), a run's weights (4 bytes a parameter, one file for
each readout that has weights of its own) and its scores. While a run trains it also keeps the
weights of the epochs that `checkpoints` and `peek` score, and two checkpoints.
"""

import csv
import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cmkd.plan import names, work
from cmkd.plan.suites import Job, Suite

# Operations a second in float32 on a GPU of the H100's class: our assumption, nothing was measured.
# Counting operations and bytes for bfloat16 gives a small CNN, which waits for memory, about 40e12
# in training and AST 380e12 to 550e12. We take half of that as reached; float32 moves twice the
# bytes (CNN), or does without the tensor cores under a peak of some 60e12 (AST).
SUSTAINED = {"cnn": 10e12, "transformer": 30e12}
HOST = 5e-5  # seconds of the host for each second of audio: 0.08 ms a 5 s clip, mixup, masks
START = 60.0  # seconds of a job beside training and scoring
VIEW = (128, 1000)  # mel bins and frames of 10 ms for which models.yaml gives `gflops`
BYTES_A_SECOND = 32000  # int16 at 16 kHz
SMALL_FILES = 100_000  # bytes of a run's recipe, history, metrics and costs
CHECKPOINT = 3  # a checkpoint holds the weights and the optimiser's two moments
WITH_WEIGHTS = ("last", "averaged", "best")  # readouts that are a file of weights


class Estimate(NamedTuple):
    """What jobs cost: GPU-hours; bytes of run folders, of prepared clips, of one run at work.

    `unknown` names the models and datasets whose size is not in the catalogue; what depends on
    them is left out.
    """

    jobs: int
    hours: float
    runs: float
    prepared: float
    passing: float
    unknown: tuple[str, ...]

    @property
    def disk(self) -> float:
        """Bytes that stay."""
        return self.runs + self.prepared


class Sizes(NamedTuple):
    """Clips of one fold of a dataset, and seconds of the average clip."""

    train: float
    val: float
    test: float
    seconds: float


def estimate(suite: Suite, jobs: Iterable[Job] | None = None) -> Estimate:
    """Return what a suite's jobs cost, or some of them (formula and assumptions: module)."""
    chosen = tuple(suite.jobs() if jobs is None else jobs)
    each = {key: _run(suite, *key) for key in dict.fromkeys((job[0], job[1]) for job in chosen)}
    costs = [each[job.dataset, job.run] for job in chosen]
    datasets = tuple(dict.fromkeys(job.dataset for job in chosen))
    return Estimate(
        jobs=len(chosen),
        hours=sum(cost.hours for cost in costs),
        runs=sum(cost.runs for cost in costs),
        prepared=sum(prepared(suite.dataset(name)) for name in datasets),
        passing=max((cost.passing for cost in costs), default=0.0),
        unknown=tuple(dict.fromkeys(word for cost in costs for word in cost.unknown)),
    )


def _run(suite: Suite, dataset: str, run: str) -> Estimate:
    """Return what one job of a run costs."""
    clips, unknown = sizes(suite, dataset), _unknown(suite, dataset, names.parse(run))
    if clips is None or unknown:
        return Estimate(1, 0.0, 0.0, 0.0, 0.0, unknown)
    values = suite.recipe(dataset, run).values
    weights = 4e6 * suite.entries.entry("models", names.parse(run).model)["params_m"]
    scored = work.scored(values["training"])
    with_weights = max(1, sum(name in WITH_WEIGHTS for name in scored))
    rows = len(scored) * (clips.test + clips.val)
    return Estimate(
        jobs=1,
        hours=_seconds(suite, run, values, clips) / 3600,
        runs=with_weights * weights + 5 * rows * values["dataset"]["classes"] + SMALL_FILES,
        prepared=0.0,
        passing=weights * (2 * CHECKPOINT + len(work.kept(values["training"]))),
        unknown=(),
    )


def _unknown(suite: Suite, dataset: str, run: names.Run) -> tuple[str, ...]:
    """Return what of a run has no size in the catalogue: its data set, its model, its teacher."""
    links = (run, run.teacher) if run.teacher else (run,)
    models = dict.fromkeys(link.model for link in links)
    entries = suite.entries
    sized = [m for m in models if {"gflops", "params_m"} <= set(entries.entry("models", m))]
    found = [] if sizes(suite, dataset) else [dataset]
    return (*found, *(model for model in models if model not in sized))


def _seconds(suite: Suite, run: str, values: Mapping[str, Any], clips: Sizes) -> float:
    """Return the seconds of one job, training and scoring."""
    view, training = values["input"], values["training"]
    teacher = names.parse(run).teacher
    forward = _forward(suite, names.parse(run).model, view)
    above = _forward(suite, teacher.model, view) if teacher else 0.0
    length = min(clips.seconds, view["frames"] * view["shift_ms"] / 1000)
    host = HOST * length
    step = training["epochs"] * clips.train * (3 * forward + above + host)
    scored = sum(work.scored(training).values()) * (clips.test + clips.val)
    validated = training["epochs"] * clips.val
    return float(START + step + (validated + scored) * (forward + host))


def _forward(suite: Suite, model: str, view: Mapping[str, Any]) -> float:
    """Return the seconds of one forward pass on one clip."""
    entry = suite.entries.entry("models", model)
    scale = view["mel_bins"] * view["frames"] / (VIEW[0] * VIEW[1])
    return float(entry["gflops"] * 1e9 * scale / SUSTAINED[entry["class"]])


def sizes(suite: Suite, dataset: str) -> Sizes | None:
    """Return the clips of one fold: from the entry's `size`, else from the prepared manifest."""
    stated = _stated(suite.dataset(dataset))
    return stated or _counted(suite, dataset)


def _stated(entry: Mapping[str, Any]) -> Sizes | None:
    """Return the clips of one fold from an entry's `size`, None where it has none."""
    size = entry.get("size")
    if size is None:
        return None
    if "folds" not in entry:
        return Sizes(size["train"], size.get("val", 0), size["test"], size["seconds"])
    test = size["clips"] / len(entry["folds"])
    return Sizes(size["clips"] - test, 0, test, size["seconds"])


def _counted(suite: Suite, dataset: str) -> Sizes | None:
    """Return the clips of one fold as prepared, None where nothing is."""
    path = suite.prepared_folder(dataset) / "manifest.csv"
    try:
        splits, seconds = _count(str(path), path.stat().st_mtime_ns)
    except (OSError, KeyError, ValueError):
        return None
    clips, folds = sum(splits.values()), suite.dataset(dataset).get("folds")
    if not clips:
        return None
    if not folds:
        return Sizes(splits["train"], splits["val"], splits["test"], seconds / clips)
    test = clips / len(folds)
    return Sizes(clips - test, 0, test, seconds / clips)


@functools.cache
def _count(path: str, time: int) -> tuple[Counter[str], float]:
    """Return a manifest's clips by split and their seconds in all; read once a time of change."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [(row["split"], float(row["seconds"])) for row in csv.DictReader(file)]
    return Counter(split for split, _ in rows), sum(seconds for _, seconds in rows)


def prepared(entry: Mapping[str, Any]) -> float:
    """Return the bytes of a dataset's prepared clips, 0 where its size is unknown."""
    size = entry.get("size") or {}
    clips = sum(size.get(key, 0) for key in ("clips", "train", "val", "test"))
    return float(clips * size.get("seconds", 0) * BYTES_A_SECOND)


# ------------------------------------------------------------------------------------ in sentences


def hours(value: float) -> str:
    """Return GPU-hours with two digits: "about 120 GPU-hours", "under 0.1 GPU-hours"."""
    return "under 0.1 GPU-hours" if value < 0.1 else f"about {_two(value)} GPU-hours"


def size(value: float) -> str:
    """Return bytes with two digits: "about 4.5 GB"."""
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= 0.995 * bytes_:
            return f"about {_two(value / bytes_)} {unit}"
    return "under 1 MB"


def _two(value: float) -> str:
    """Return a number rounded to two significant digits, without an exponent."""
    return f"{float(f'{value:.2g}'):g}"
