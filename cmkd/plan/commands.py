"""A suite as a shell script: the verbs in order, for machines without Snakemake."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cmkd.plan.recipes import Recipe, digest, dump

if TYPE_CHECKING:
    from cmkd.plan.suites import Job, Suite

HIDDEN = Path(".cmkd")


def lines(suite: "Suite") -> Iterator[str]:
    """Yield the script's lines; it writes the wanted recipes, so it needs no other file."""
    yield "#!/bin/sh"
    yield f"# Suite {suite.name}: every verb in order; what is done already is done again."
    yield "set -eu"
    execution = HIDDEN / "execution" / f"{digest(dump(suite.execution))}.yaml"
    yield from _write(execution, dump(suite.execution))
    for dataset in dict.fromkeys(job.dataset for job in suite.jobs()):
        yield from _prepare(suite, dataset)
    written: set[Path] = set()
    for job in suite.jobs():
        wanted = wanted_run(suite, job)
        if wanted not in written:
            yield from _write(wanted, suite.recipe(job.dataset, job.run).text)
            written.add(wanted)
        yield from _job(suite, job, wanted, execution)
    whole = HIDDEN / "suite" / f"{digest(suite.text())}.yaml"
    yield from _write(whole, suite.text())
    yield _line("tables", whole)
    yield _line("track", whole)


def wanted_run(suite: "Suite", job: "Job") -> Path:
    """Return the path of a job's wanted recipe, named by its content."""
    return _wanted(suite.recipe(job.dataset, job.run), job.dataset, job.run)


def _wanted(recipe: Recipe, dataset: str, what: str) -> Path:
    """Return the path of a wanted recipe."""
    return HIDDEN / "wanted" / dataset / what / f"{recipe.digest}.yaml"


def _prepare(suite: "Suite", dataset: str) -> Iterator[str]:
    """Yield the lines that prepare a dataset and compute its statistics."""
    recipe, folder = suite.data_recipe(dataset), suite.prepared_folder(dataset)
    wanted = _wanted(recipe, dataset, "prepared")
    yield from _write(wanted, recipe.text)
    root = suite.root(dataset)
    if suite.fetched(dataset):
        # A second dataset of the same archive finds all its recordings there.
        yield _line("prepare", wanted, *download_options(suite, dataset))
    where = ("--data-root", root) if root else ()
    yield _line(
        "prepare", wanted, "--prepared", folder, *where, "--workers", suite.execution["workers"]
    )
    done: set[Path] = set()
    for job in suite.jobs():
        out = suite.statistics(job)
        if job.dataset != dataset or out in done:
            continue
        done.add(out)
        frontend = suite.frontend(dataset, job.run)
        size = ("--mel-bins", frontend.mel_bins, "--shift-ms", frontend.shift_ms)
        frames = ("--frames", frontend.frames)
        yield _line("stats", "--prepared", folder, "--fold", job.fold, *size, *frames, "--out", out)


def download_options(suite: "Suite", dataset: str) -> list[str]:
    """Return the options that make `cmkd prepare` fetch a dataset and do no more."""
    options = ("--data-root", suite.root(dataset), "--catalog", suite.catalog, "--download-only")
    return [str(option) for option in options]


def _job(suite: "Suite", job: "Job", wanted: Path, execution: Path) -> Iterator[str]:
    """Yield the lines that train and score one run."""
    run, prepared = suite.folder(job), suite.prepared_folder(job.dataset)
    given: list[object] = ["--run", run, "--fold", job.fold, "--seed", job.seed]
    given += ["--prepared", prepared, "--statistics", suite.statistics(job)]
    teacher = suite.teacher_of(job)
    if teacher is not None:
        given += ["--teacher", suite.folder(teacher)]
    initial = initial_file(suite, job)
    if initial is not None:
        given += ["--initial", initial]
    yield _line("train", wanted, *given, "--execution", execution)
    yield _line("evaluate", "--run", run, "--prepared", prepared, "--execution", execution)


def initial_file(suite: "Suite", job: "Job") -> Path | None:
    """Return the file that a job's initial weights are read from, if they come from a file."""
    initial = suite.initial_of(job)
    if initial is not None:
        return suite.folder(initial) / "weights.safetensors"
    weights = str(suite.recipe(job.dataset, job.run).values["model"]["weights"])
    return None if weights in ("none", "imagenet") else Path(weights).expanduser()


def _write(path: Path, text: str) -> Iterator[str]:
    """Yield lines that write a file."""
    yield f"mkdir -p {shlex.quote(str(path.parent))}"
    yield f"cat > {shlex.quote(str(path))} <<'END_OF_FILE'\n{text}END_OF_FILE"


def _line(verb: str, *arguments: object) -> str:
    """Return one call of cmkd, quoted for a shell."""
    return shlex.join(["cmkd", verb, *map(str, arguments)])
