"""Record against wanted: what must run again because its configuration or its data changed.

A run folder's `recipe.yaml` and `inputs.json` record what it was made from. A job's input is the
wanted recipe `.cmkd/wanted/DATASET/RUN/DIGEST.yaml`, named by its content and never rewritten.
While record and wanted agree its time means nothing (`ancient()` in the rules); while they do not
it is kept newer than the record, so that Snakemake, which looks at times only, runs the job.
Prepared data and the rows of a suite's tables have records of the same kind.
"""

import functools
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cmkd import files
from cmkd.plan.commands import initial_file
from cmkd.plan.downloads import MARKER
from cmkd.plan.recipes import digest, dump
from cmkd.plan.suites import Job, Suite

STATE = Path(".cmkd")
# Declared outputs. audit.json is none: it must outlive the failure that it explains.
PREPARED = (
    "manifest.csv",
    "manifest.csv.sha256",
    "clips.bin",
    "clips.bin.sha256",
    "clips.csv",
    "clips.csv.sha256",
    "recipe.yaml",
)
TRAINED = ("weights.safetensors", "history.csv", "cost.json", "inputs.json", "recipe.yaml")
EVALUATED = ("scores.npz", "cost-evaluate.json", "metrics.json")
SECOND = 1_000_000_000  # coarse file systems keep whole seconds


class Wanted(NamedTuple):
    """A wanted file, and whether the record made from such a file agrees with it."""

    path: Path
    agrees: bool


class Agreement:
    """What a suite wants against what lies on disk.

    Files are read once: make a new one to look again. Only `wanted_*` and `*_file` write, and only
    below `state`, for the job they are asked about.
    """

    def __init__(self, suite: Suite, state: Path = STATE) -> None:
        """Take a suite and the folder for wanted files; nothing is read yet."""
        self.suite = suite
        self.state = state
        self.disagreement = functools.cache(self._disagreement)
        self.settled = functools.cache(self._settled)
        self.prepared_state = functools.cache(self._prepared_state)
        # Asked for by every job, and the same for all.
        self.suite_file = functools.cache(self._suite_file)
        self.execution_file = functools.cache(self._execution_file)
        self._hash = functools.cache(_read_hash)
        self._file_hash = functools.cache(files.sha256_file)

    # Runs.

    def wanted_recipe(self, job: Job) -> Wanted:
        """Return a run's wanted recipe, written if it is not there."""
        recipe = self.suite.recipe(job.dataset, job.run)
        path = self.state / "wanted" / job.dataset / job.run / f"{recipe.digest}.yaml"
        folder = self.suite.folder(job)
        records = (folder / "recipe.yaml", folder / "metrics.json")
        return _want(path, recipe.text, self.disagreement(job) is None, records)

    def _disagreement(self, job: Job) -> str | None:
        """Return why a run's record is not what is wanted now, or None while they agree.

        Snakemake does not miss an output that nothing reads any more, so it is missed here.
        """
        folder = self.suite.folder(job)
        record = _text(folder / "recipe.yaml")
        if record is None:
            return "it was not trained yet"
        if record != self.suite.recipe(job.dataset, job.run).text:
            return "its recipe has changed"
        if _times(folder, TRAINED) is None:
            return "a file of its training is missing"
        inputs = _json(folder / "inputs.json")
        if inputs is None:
            return "its inputs.json is missing or damaged"
        if (inputs.get("fold"), inputs.get("seed")) != (job.fold, job.seed):
            return "its inputs.json belongs to another fold or seed"
        return self._changed_data(job, inputs)

    def _changed_data(self, job: Job, inputs: dict[str, Any]) -> str | None:
        """Return which file has another hash than the one that the run was made from, or None."""
        prepared = {
            "manifest": self.suite.prepared_folder(job.dataset) / "manifest.csv",
            "statistics": self.suite.statistics(job),
        }
        for key, path in prepared.items():
            now = self._hash(path)
            if now is not None and now != inputs.get(key):
                return f"{path} has changed"
        own = self.own_weights(job)
        if own is not None and own.is_file() and self._file_hash(own) != inputs.get("initial"):
            return f"{own} has changed"
        return None

    def _settled(self, job: Job) -> bool:
        """Tell whether a run's training is sure not to run again.

        Its record agrees, and the weights it was made from are settled too and not newer.
        """
        outputs = _times(self.suite.folder(job), TRAINED)
        if outputs is None or self.disagreement(job) is not None:
            return False
        return all(
            self.settled(parent) and _time(self.weights(parent)) <= min(outputs)
            for parent in self.parents(job)
        )

    def scored(self, job: Job) -> bool:
        """Tell whether a run is sure not to be trained or evaluated again."""
        outputs = _times(self.suite.folder(job), EVALUATED)
        if outputs is None or not self.settled(job):
            return False
        return _time(self.weights(job)) <= min(outputs)

    def stale(self) -> tuple[Job, ...]:
        """Return the runs that were trained from something else than what is wanted now."""
        return tuple(
            job
            for job in self.suite.jobs()
            if (self.suite.folder(job) / "recipe.yaml").is_file()
            and self.disagreement(job) is not None
        )

    def parents(self, job: Job) -> tuple[Job, ...]:
        """Return the runs whose weights a run is made from: its teacher, its initial weights."""
        found = (self.suite.teacher_of(job), self.suite.initial_of(job))
        return tuple(parent for parent in found if parent is not None)

    def weights(self, job: Job) -> Path:
        """Return the path of a run's weights."""
        return self.suite.folder(job) / "weights.safetensors"

    def own_weights(self, job: Job) -> Path | None:
        """Return the user's file that a run's initial weights are read from, or None."""
        return None if self.suite.initial_of(job) else initial_file(self.suite, job)

    # Prepared data.

    def wanted_prepared(self, dataset: str) -> Wanted:
        """Return a dataset's wanted recipe, written if it is not there."""
        recipe = self.suite.data_recipe(dataset)
        path = self.state / "wanted" / dataset / "prepared" / f"{recipe.digest}.yaml"
        records = [self.suite.prepared_folder(dataset) / name for name in PREPARED]
        return _want(path, recipe.text, _text(records[-1]) == recipe.text, records)

    def data_file(self, dataset: str) -> Path:
        """Return a dataset's recipe as a file that is only handed on, whatever lies on disk."""
        recipe = self.suite.data_recipe(dataset)
        path = self.state / "wanted" / dataset / "prepared" / f"{recipe.digest}.yaml"
        _put(path, recipe.text)
        return path

    def marker(self, dataset: str) -> Path | None:
        """Return the marker of the download that preparing a dataset needs, or None.

        A prepared dataset needs none, so fetched archives and recordings may be removed.
        """
        owner = self.suite.fetched(dataset)
        if owner is None or self.prepared_state(dataset) == "sound":
            return None
        return self.suite.downloads / owner / MARKER

    def _prepared_state(self, dataset: str) -> str:
        """Return "sound", "absent" (some file is missing) or "other" (of another recipe)."""
        folder = self.suite.prepared_folder(dataset)
        record = _text(folder / "recipe.yaml")
        if record not in (None, self.suite.data_recipe(dataset).text):
            return "other"
        return "absent" if _times(folder, PREPARED) is None else "sound"

    def statistics_agree(self, path: Path, dataset: str) -> bool:
        """Tell whether statistics are of the manifest that lies there (or of one that is gone)."""
        manifest = self._hash(self.suite.prepared_folder(dataset) / "manifest.csv")
        made = _json(path)
        return made is not None and manifest in (None, made.get("manifest"))

    def wanted_statistics(self, dataset: str, frontend: str, fold: int) -> Wanted | None:
        """Return a file that makes a fold's statistics run again, or None if nothing must.

        Their other input, the manifest, has a time that says nothing after a copy.
        """
        path = self.suite.prepared_folder(dataset) / "stats" / frontend / f"fold-{fold}.json"
        if not path.is_file() or self.statistics_agree(path, dataset):
            return None
        text = f"{self._hash(self.suite.prepared_folder(dataset) / 'manifest.csv')}\n"
        name = f"{digest(text)}.txt"
        wanted = self.state / "wanted" / dataset / "stats" / frontend / f"fold-{fold}" / name
        return _want(wanted, text, False, [path, files.sidecar(path)])

    def left_out(self, job: Job, finished: bool) -> bool:
        """Tell whether a finished job does without its prepared files because they are absent.

        Never where some are there that were made from another recipe: they must be made anew.
        """
        state = self.prepared_state(job.dataset)
        absent = state == "absent" or not self.suite.statistics(job).is_file()
        return finished and absent and state != "other"

    # What a suite's tables show, and files that are only handed on.

    def rows_record(self) -> Path:
        """Return the path of the record of the rows that a suite's tables were made for."""
        return self.suite.results / "tables" / self.suite.name / "rows.csv"

    def wanted_rows(self) -> Wanted:
        """Return the rows that the suite's tables must have now."""
        text = self._rows()
        path = self.state / "wanted" / "rows" / self.suite.name / f"{digest(text)}.csv"
        record = self.rows_record()
        return _want(path, text, _text(record) == text, [record])

    def rows_agree(self) -> bool:
        """Tell whether the suite's tables have the rows that they must have now."""
        return _text(self.rows_record()) == self._rows()

    def _rows(self) -> str:
        """Return what the suite's tables are made from, as a table."""
        listed = self.suite.listed()
        lines = [
            f"{job.dataset},{job.run},{job.fold},{job.seed},{int((job.dataset, job.run) in listed)}"
            for job in self.suite.jobs()
        ]
        lines += [ensemble.line() for ensemble in self.suite.ensembles]
        lines += [f"{name},{files.sha256_file(path)}" for name, path in self._views_read()]
        return "\n".join(["dataset,run,fold,seed,listed", *lines, ""])

    def _views_read(self) -> list[tuple[str, Path]]:
        """Return the files beside the suite's models that tables are made from, where they are."""
        named = ("claims.yaml", "paper.yaml")
        return [(name, path) for name in named if (path := self.suite.catalog / name).is_file()]

    def _suite_file(self) -> Path:
        """Return the whole resolved suite as a file that every verb reads."""
        return self._handed_on("suite", self.suite.text())

    def _execution_file(self) -> Path:
        """Return the suite's `execution:` block as a file."""
        return self._handed_on("execution", dump(self.suite.execution))

    def _handed_on(self, kind: str, text: str) -> Path:
        """Write a text under its digest unless it is there."""
        path = self.state / kind / f"{digest(text)}.yaml"
        _put(path, text)
        return path


def _want(path: Path, text: str, agrees: bool, records: Iterable[Path]) -> Wanted:
    """Write the wanted file if it is not there; keep it newer than records that disagree."""
    _put(path, text)
    if not agrees:
        _make_newer(path, [_time(record) for record in records if record.exists()])
    return Wanted(path, agrees)


def _put(path: Path, text: str) -> None:
    """Write a file named by its content, unless it is there and whole."""
    if _text(path) != text:
        files.write_text(path, text)


def _make_newer(path: Path, times: list[int]) -> None:
    """Set a file's time after all the given ones (nanoseconds), which may lie in the future."""
    newest = max(times, default=0)
    if _time(path) <= newest:
        now = max(time.time_ns(), newest + SECOND)
        os.utime(path, ns=(now, now))


def _time(path: Path) -> int:
    """Return the time of a file's last change in nanoseconds."""
    return path.stat().st_mtime_ns


def _times(folder: Path, names: Iterable[str]) -> list[int] | None:
    """Return the times of files in a folder, or None if one of them is missing."""
    base = os.fspath(folder)  # joining texts is several times cheaper than joining paths
    try:
        return [os.stat(os.path.join(base, name)).st_mtime_ns for name in names]
    except OSError:
        return None


def _text(path: Path) -> str | None:
    """Return a file's text, or None where it is absent or damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None where it is absent or damaged."""
    try:
        value = json.loads(_text(path) or "")
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _read_hash(path: Path) -> str | None:
    """Return the hash beside a prepared file, or None where there is none."""
    text = _text(files.sidecar(path))
    return text.strip() if text else None
