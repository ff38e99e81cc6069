"""Suites: from a few lines of configuration to the jobs of a benchmark.

A suite names datasets, models, pairs, variants, folds and seeds. Its jobs are the listed runs and,
by closure, the runs of their teachers and of the runs their initial weights come from. All paths of
a suite are relative to the working directory.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.errors import ConfigError
from cmkd.plan import downloads, ensembles, names, recipes
from cmkd.plan.catalog import Catalog, find, read_yaml
from cmkd.plan.names import Run
from cmkd.plan.recipes import Recipe

EXECUTION: dict[str, Any] = {"device": "auto", "threads": 1, "workers": 2, "gpus": 1}
EXECUTION |= {"checkpoint_seconds": 60, "lease_seconds": 60}
PAIRS = ("alone", "cross", "same", "self")
KEYS = (
    *("datasets", "models", "pairs", "variants", "folds", "seeds", "set", "results", "prepared"),
    *("data_root", "download", "downloads", "execution", "name", "catalog", "ensembles"),
)
# Keys of a dataset's entry that describe it to people and change nothing that is prepared from it.
_DESCRIPTIONS = (
    *("data_root", "title", "licence", "size", "downloads", "downloads_of", "source_ids"),
)
FRONTEND_KEYS = ("mel_bins", "shift_ms", "frames", "sample_rate")


class Job(NamedTuple):
    """One training: a run of a dataset, on one fold (0 for a fixed split), with one seed."""

    dataset: str
    run: str
    fold: int
    seed: int


@dataclass(frozen=True)
class Frontend:
    """The filter banks of a recipe: bins, shift in milliseconds, frames, samples a second."""

    mel_bins: int
    shift_ms: float
    frames: int
    sample_rate: int = 16000

    @property
    def name(self) -> str:
        """A name for paths, such as "mel128-shift10-frames512"."""
        return f"mel{self.mel_bins}-shift{self.shift_ms:g}-frames{self.frames}"


def default_suite() -> Path:
    """Return the path of the default suite."""
    return find() / "config.yaml"


def load(
    path: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    checked: bool = False,
) -> "Suite":
    """Read, check and expand a suite file (none: the default suite).

    Args:
        path: the suite; its name is the file's stem (`config` is called `default`).
        overrides: top-level keys laid over the file, such as {"data_root": "/data/ESC-50"}.
        checked: it was found to be right already, as the suite of a job that was submitted.

    Raises:
        ConfigError: all that is wrong with the suite or its catalogue, in one error.
    """
    path = Path(path) if path is not None else default_suite()
    laid_over = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in (overrides or {}).items()
    }
    return make(read_yaml(path) | laid_over, path, checked)


def make(config: Mapping[str, Any], path: Path | str, checked: bool = False) -> "Suite":
    """Expand a suite given as a mapping, after a check unless it is `checked` already.

    `path` gives its name and finds its catalogue.

    Raises:
        ConfigError: all that is wrong with the suite or its catalogue, in one error.
    """
    name, catalog = identity(config, Path(path))
    entries = Catalog(catalog)
    if checked:
        return Suite(config, name, catalog, Path(path), entries)
    from cmkd.plan import checks

    return checks.check_entries(config, entries, str(path))


def identity(config: Mapping[str, Any], path: Path) -> tuple[str, Path]:
    """Return a suite's name and the folder of its catalogue."""
    name = str(config.get("name") or ("default" if path.stem == "config" else path.stem))
    stated = config.get("catalog")
    return name, Path(str(stated)) if stated else find(path.parent)


class Suite:
    """An expanded suite; nothing in it reads data or results."""

    def __init__(
        self,
        config: Mapping[str, Any],
        name: str,
        catalog: Path,
        source: Path | None = None,
        entries: Catalog | None = None,
    ) -> None:
        """Take a checked configuration (`load` and `make` check it), a name and the catalogue.

        `source` is the suite's file, for `cmkd explain`; `entries` is the catalogue if it has
        been read already.
        """
        self.source = source
        self.config = dict(config)
        self.name = name
        self.catalog = Path(catalog)
        self.entries = entries or Catalog(self.catalog)
        self.datasets: tuple[str, ...] = tuple(config["datasets"])
        self.models: tuple[str, ...] = tuple(config["models"])
        self.seeds: tuple[int, ...] = tuple(config.get("seeds", (0,)))
        self.results = _path(config.get("results", "results"))
        self.prepared = _path(config.get("prepared", "results/prepared"))
        self.execution: dict[str, Any] = EXECUTION | dict(config.get("execution") or {})
        root = config.get("data_root")
        self.data_root = _path(root) if root and not isinstance(root, Mapping) else None
        self._roots: Mapping[str, str] = root if isinstance(root, Mapping) else {}
        # Snakemake's --config makes a text of `true`.
        self.download = str(config.get("download", False)).lower() == "true"
        self.downloads = _path(config.get("downloads", "results/downloads"))
        self.ensembles = ensembles.read(config)
        self._recipes: dict[tuple[str, str], Recipe] = {}
        self._open: list[tuple[str, str]] = []
        self._jobs: tuple[Job, ...] | None = None

    # ------------------------------------------------------------------------------ what is run

    def runs(self, dataset: str) -> tuple[Run, ...]:
        """Return the listed runs of a dataset, each once, without their closure."""
        return self._runs(dataset, self.base_runs())

    def _runs(self, dataset: str, base: tuple[Run, ...]) -> tuple[Run, ...]:
        """Add to the base runs, for each of the suite's variants, those that it changes."""
        found = dict.fromkeys(base)
        for variant in self.config.get("variants") or ():
            for run in base:
                if not run.variants and self.touches(dataset, run, variant):
                    found[run.with_variant(variant)] = None
        return tuple(found)

    def base_runs(self) -> tuple[Run, ...]:
        """Return the runs of `pairs`, in the order written, without the suite's variants."""
        found: dict[Run, None] = {}
        for word in self.config.get("pairs") or ("alone",):
            runs = self._kind(word) if word in PAIRS else (names.parse(word),)
            found.update(dict.fromkeys(runs))
        return tuple(found)

    def members(self) -> tuple[Run, ...]:
        """Return the runs of the suite's ensembles, each once."""
        found = dict.fromkeys(run for ensemble in self.ensembles for run in ensemble.runs)
        return tuple(map(names.parse, found))

    def _kind(self, kind: str) -> Iterator[Run]:
        """Yield the runs of one kind of pairs among the suite's models."""
        if kind == "alone":
            yield from map(Run, self.models)
        for student, teacher in itertools.product(self.models, repeat=2):
            run = Run(student, (), Run(teacher))
            direction = self.direction(run)
            cross = direction not in ("same_class", "self")
            if kind == {"same_class": "same"}.get(direction, "cross" if cross else direction):
                yield run

    def touches(self, dataset: str, run: Run, variant: str) -> bool:
        """Tell whether a variant changes anything in a run's recipe besides its name."""
        changed = self.recipe(dataset, run.with_variant(variant)).values | {"run": str(run)}
        return changed != self.recipe(dataset, run).values

    def listed(self) -> frozenset[tuple[str, str]]:
        """Return (dataset, run) of the runs that the suite itself asks for."""
        return frozenset((d, str(run)) for d in self.datasets for run in self.runs(d))

    @cached_property
    def _nodes(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """(dataset, run) -> folds, listed and by closure; what a run needs stands before it."""
        nodes: dict[tuple[str, str], tuple[int, ...]] = {}
        for dataset in self.datasets:
            for run in (*self.runs(dataset), *self.members()):
                self._visit(dataset, str(run), self.folds(dataset), nodes)
        return nodes

    def _visit(
        self,
        dataset: str,
        run: str,
        folds: tuple[int, ...],
        nodes: dict[tuple[str, str], tuple[int, ...]],
    ) -> None:
        """Add what a run needs, then the run; the recipe has already refused cycles."""
        known = nodes.get((dataset, run), ())
        if set(folds) <= set(known):
            return
        values = self.recipe(dataset, run).values
        if "teacher" in values:
            self._visit(dataset, values["teacher"]["run"], folds, nodes)
        if "initial" in values:
            source = values["initial"]["dataset"]
            wanted = tuple(dict.fromkeys(self._initial_fold(dataset, source, f) for f in folds))
            self._visit(source, values["initial"]["run"], wanted, nodes)
        nodes[dataset, run] = tuple(sorted({*known, *folds}))

    def jobs(self) -> tuple[Job, ...]:
        """Return every training, each once; what a job needs stands before it."""
        if self._jobs is None:
            self._jobs = tuple(
                Job(dataset, run, fold, seed)
                for (dataset, run), folds in self._nodes.items()
                for fold in folds
                for seed in self.seeds
            )
        return self._jobs

    def teacher_of(self, job: Job) -> Job | None:
        """Return the job that trains this job's teacher."""
        teacher = names.parse(job.run).teacher
        return None if teacher is None else job._replace(run=str(teacher))

    def initial_of(self, job: Job) -> Job | None:
        """Return the job whose weights this one starts from."""
        initial = self.recipe(job.dataset, job.run).values.get("initial")
        if initial is None:
            return None
        fold = self._initial_fold(job.dataset, initial["dataset"], job.fold)
        return Job(initial["dataset"], initial["run"], fold, job.seed)

    def _initial_fold(self, dataset: str, source: str, fold: int) -> int:
        """Return the fold of `source` whose run starts a run on this fold of `dataset`."""
        folds = all_folds(self.dataset(source))
        if folds == (0,):
            return 0
        if fold not in folds:
            raise ConfigError(
                f"A run on fold {fold} of '{dataset}' cannot start from a run of '{source}', which "
                f"has the folds {', '.join(map(str, folds))}"
            )
        return fold

    def shares_start(self, dataset: str, run: str | Run) -> bool:
        """Tell whether all folds of a run, or of a teacher of it, start from one and the same run.

        Then the folds of a seed are not independent trainings (docs/statistics.md).
        """
        values = self.recipe(dataset, run).values
        if "teacher" in values and self.shares_start(dataset, values["teacher"]["run"]):
            return True
        initial = values.get("initial")
        if initial is None or self.folds(dataset) == (0,):
            return False
        source = initial["dataset"]
        return self.folds(source) == (0,) or self.shares_start(source, initial["run"])

    def students(self, job: Job) -> tuple[Job, ...]:
        """Return the suite's jobs that this job teaches."""
        return tuple(student for student in self.jobs() if self.teacher_of(student) == job)

    # ---------------------------------------------------------------------------- what they are

    def family(self, run: str | Run) -> str:
        """Return the family of a run's model: which layer of recipes.yaml it takes."""
        return str(self.entries.entry("models", _run(run).model)["family"])

    def klass(self, run: str | Run) -> str:
        """Return the class of a run's model: cnn or transformer."""
        return str(self.entries.entry("models", _run(run).model)["class"])

    def direction(self, run: str | Run) -> str:
        """Return alone, self, same_class, or such as cnn_to_transformer (teacher to student)."""
        run = _run(run)
        if run.teacher is None:
            return "alone"
        if run.teacher.model == run.model:
            return "self"
        student, teacher = self.klass(run), self.klass(run.teacher)
        return "same_class" if student == teacher else f"{teacher}_to_{student}"

    def dataset(self, name: str) -> Mapping[str, Any]:
        """Return a dataset's entry in datasets.yaml."""
        return self.entries.entry("datasets", name)

    def root(self, dataset: str) -> Path | None:
        """Return where a dataset's recordings are: the suite's data_root, else the entry's.

        The suite's is one path for all datasets, or a mapping of datasets to paths. A dataset
        that has neither is fetched where the suite says `download` and the entry knows from where.
        """
        fetched = self.fetched(dataset)
        return self.downloads / fetched if fetched else self._stated_root(dataset)

    def _stated_root(self, dataset: str) -> Path | None:
        """Return the folder that the suite or the entry names."""
        stated = self._roots.get(dataset) or self.dataset(dataset).get("data_root")
        return self.data_root or (_path(stated) if stated else None)

    def fetched(self, dataset: str) -> str | None:
        """Return the entry whose downloads a dataset is read from, or None if none are fetched."""
        if not self.download or self._stated_root(dataset):
            return None
        return downloads.owner(self.entries, dataset)

    def folds(self, dataset: str) -> tuple[int, ...]:
        """Return the folds that are run on a dataset: (0,) for a fixed split."""
        every, wanted = all_folds(self.dataset(dataset)), self.config.get("folds", "all")
        return every if wanted == "all" or every == (0,) else tuple(wanted)

    # ----------------------------------------------------------------------------------- recipes

    @property
    def set_layer(self) -> recipes.Layer | None:
        """The suite's own layer, or None."""
        parts = self.config.get("set")
        if not parts:
            return None
        return recipes.Layer(
            recipes.Origin(f"set of suite {self.name}", str(self.source or "")), parts
        )

    def recipe(self, dataset: str, run: str | Run) -> Recipe:
        """Return the recipe of a run on a dataset, made once.

        Raises:
            ConfigError: an unknown word, conflicting variants, front ends that differ between
                student and teacher, or initial weights that lead back to the run itself.
        """
        key = (dataset, str(run))
        if key not in self._recipes:
            if key in self._open:
                path = [*self._open[self._open.index(key) :], key]
                text = " needs ".join("/".join(step) for step in path)
                raise ConfigError(f"Initial weights go round in a circle: {text}; break it")
            self._open.append(key)
            try:
                self._recipes[key] = self._resolve(dataset, _run(run))
            finally:
                self._open.pop()
        return self._recipes[key]

    def _resolve(self, dataset: str, run: Run) -> Recipe:
        """Resolve a recipe after those it depends on."""
        self.dataset(dataset)
        teacher = self.recipe(dataset, run.teacher) if run.teacher else None
        weights = recipes.weights_of(self.entries, dataset, run, self.set_layer)
        initial = (
            self.recipe(*recipes.initial_name(weights)) if weights.startswith("run:") else None
        )
        made = recipes.resolve(self.entries, dataset, run, self.set_layer, teacher, initial)
        if teacher is not None:
            _same_frontend(dataset, run, made, teacher)
        return made

    def data_recipe(self, dataset: str) -> Recipe:
        """Return what prepared data is made from: the entry without what only describes it."""
        entry = self.dataset(dataset)
        values = {key: value for key, value in entry.items() if key not in _DESCRIPTIONS}
        values |= {"name": dataset, "behaviour": recipes.BEHAVIOUR["data"]}
        text = recipes.dump(values)
        return Recipe(values, text, recipes.digest(text))

    def frontend(self, dataset: str, run: str | Run) -> Frontend:
        """Return the filter banks that a run sees."""
        return frontend_of(self.recipe(dataset, run))

    def frontends(self, dataset: str) -> dict[str, Frontend]:
        """Return the filter banks of all runs on a dataset, closure included, by name."""
        found = (self.frontend(d, run) for d, run in self._nodes if d == dataset)
        return {frontend.name: frontend for frontend in found}

    # ------------------------------------------------------------------------------------- files

    def folder(self, job: Job) -> Path:
        """Return a job's run folder."""
        within = f"runs/{job.dataset}/{job.run}/fold-{job.fold}/seed-{job.seed}"
        return self.results / within

    def prepared_folder(self, dataset: str) -> Path:
        """Return where a dataset's prepared clips are."""
        return self.prepared / dataset

    def statistics(self, job: Job) -> Path:
        """Return the file of mean and standard deviation of a job's front end and fold."""
        frontend = self.frontend(job.dataset, job.run).name
        return self.prepared_folder(job.dataset) / "stats" / frontend / f"fold-{job.fold}.json"

    def text(self) -> str:
        """Return the whole suite as YAML, which `load` reads back as an equal suite."""
        whole = self.config | {"name": self.name, "catalog": str(self.catalog)}
        return recipes.dump(whole)

    def commands(self) -> str:
        """Return a shell script that calls the verbs in order, without Snakemake."""
        from cmkd.plan import commands

        return "\n".join([*commands.lines(self), ""])


def all_folds(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Return every fold of a dataset's entry: (0,) for a fixed split."""
    return tuple(entry.get("folds") or (0,))


def frontend_of(recipe: Recipe) -> Frontend:
    """Return the filter banks of a recipe."""
    return Frontend(**{key: recipe.values["input"][key] for key in FRONTEND_KEYS})


def _same_frontend(dataset: str, run: Run, student: Recipe, teacher: Recipe) -> None:
    """Refuse a teacher that was trained on other filter banks than its student sees."""
    for key in FRONTEND_KEYS:
        mine, its = student.values["input"][key], teacher.values["input"][key]
        if mine != its:
            raise ConfigError(
                f"On '{dataset}', '{run}' sees input.{key} {mine} but its teacher "
                f"'{run.teacher}' was trained with {its}; give both the same"
            )


def _path(text: object) -> Path:
    """Return a path as the user meant it: no shell has replaced a `~` in a YAML file."""
    return Path(str(text)).expanduser()


def _run(run: str | Run) -> Run:
    """Return the run of a name."""
    return names.parse(run) if isinstance(run, str) else run
