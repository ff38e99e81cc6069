"""FSD50K in its published layout (Fonseca et al., IEEE/ACM TASLP 30, 2022; Zenodo record 4060432).

`FSD50K.ground_truth/{dev,eval,vocabulary}.csv`, `FSD50K.dev_audio/`, `FSD50K.eval_audio/` (or the
same names without `FSD50K.`). The split is the official one: `train` and `val` as dev.csv says, its
eval set is our `test`. A clip's id is its file number, which is that of the sound on Freesound.

A clip's source is its uploader where both files of `FSD50K.metadata/` are there, else the clip. Dev
and eval are published to share no uploader, so the audit stops where one has clips in both. Train
and val are not: an uploader of both counts as two sources there.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cmkd.data.catalog import Row, Rows, locate, needs_recordings
from cmkd.errors import DataError, nearest

COLUMNS = {"dev": ("fname", "labels", "split"), "eval": ("fname", "labels")}
PREFIXES = ("FSD50K.", "")
ENDINGS = (".wav", ".flac", ".opus", ".ogg")  # published are .wav; copies may be smaller


class Home(NamedTuple):
    """Where the dataset is: the folder, and what its folders' names begin with."""

    folder: Path
    prefix: str

    def path(self, name: str) -> Path:
        """Return a path such as FSD50K.ground_truth/dev.csv."""
        return self.folder / f"{self.prefix}{name}"


def rows(entry: Mapping[str, Any], data_root: Path | None) -> Rows:
    """Return all clips of dev and eval.

    Raises:
        DataError: a table is absent, damaged, or has other classes than the entry declares.
    """
    if data_root is None:
        raise DataError(needs_recordings(entry, "no data_root says where its recordings are"))
    found = home(entry, Path(data_root))
    check_vocabulary(entry, found.path("ground_truth/vocabulary.csv"))
    clips = [row for part in COLUMNS for row in _part(found, part, Path(data_root))]
    return _by_uploader(clips, found)


def home(entry: Mapping[str, Any], data_root: Path) -> Home:
    """Return where the tables are: in `data_root` or one folder below it."""
    tables = "FSD50K.ground_truth/dev.csv and FSD50K.ground_truth/eval.csv"
    return locate(entry, data_root, _homes, tables)


def _homes(folder: Path) -> list[Home]:
    """Return the forms in which a folder holds both tables."""
    forms = (Home(folder, prefix) for prefix in PREFIXES)
    return [
        form
        for form in forms
        if all(form.path(f"ground_truth/{part}.csv").is_file() for part in COLUMNS)
    ]


def check_vocabulary(entry: Mapping[str, Any], path: Path) -> None:
    """Raise DataError where vocabulary.csv (index,label,mid; no header) has other classes."""
    if not path.is_file():
        return
    found = [line[1] for _, line in _lines(path) if len(line) > 1]
    declared = [str(name) for name in entry["classes"]]
    remedy = "put the published file there, or correct 'classes' of the dataset's entry"
    for name in found:
        if name not in declared:
            text = f"{path} has the class '{name}', which dataset {entry['name']} does not declare"
            raise DataError(f"{text}{nearest(name, declared)}; {remedy}.")
    if len(found) != len(declared):
        lacking = next((name for name in declared if name not in found), "none; one stands twice")
        text = f"{path} has {len(found)} classes where {entry['name']} declares {len(declared)}"
        raise DataError(f"{text} (not there: {lacking}); {remedy}.")


def _part(found: Home, part: str, data_root: Path) -> Iterator[Row]:
    """Yield the clips of dev or eval, each its own source."""
    table = found.path(f"ground_truth/{part}.csv")
    audio = found.path(f"{part}_audio")
    there = {file.name for file in audio.iterdir()} if audio.is_dir() else set()
    for clip, labels, split in _table(table, part):
        names = [f"{clip}{ending}" for ending in ENDINGS]
        name = next((name for name in names if name in there), names[0])
        path = (audio / name).relative_to(data_root).as_posix()
        yield Row(clip, path, split, labels, source=clip)


def _table(path: Path, part: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield clip, labels and split of dev.csv or eval.csv; DataError names the line at fault."""
    lines = _lines(path)
    header = next(lines, (0, []))[1]
    for name in COLUMNS[part]:
        if name not in header:
            raise DataError(f"{path} lacks the column {name}: put the published table there.")
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {number} has {len(cells)} cells where the header has {len(header)} "
                "(lists of labels stand in quotes); get the published table."
            )
        line = dict(zip(header, cells, strict=True))
        labels = tuple(line["labels"].split(","))
        if not line["fname"] or not all(labels) or not line.get("split", "test"):
            raise DataError(f"{path}, line {number}: a cell is empty; get the published table.")
        split = line["split"] if part == "dev" else "test"
        if part == "dev" and split not in ("train", "val"):
            text = f"{path}, line {number}: the split '{split}' is neither train nor val"
            raise DataError(f"{text}; get the published table.")
        yield line["fname"].removesuffix(".wav"), labels, split


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a table with their numbers, without empty ones."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            yield from ((reader.line_num, line) for line in reader if line)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table: {error}; get the published file.") from None


def _by_uploader(clips: Sequence[Row], found: Home) -> Rows:
    """Return the clips with their uploaders as sources, where both files of metadata are there."""
    paths = [found.path(f"metadata/{part}_clips_info_FSD50K.json") for part in COLUMNS]
    if not all(path.is_file() for path in paths):
        return Rows(clips)
    uploaders = {clip: name for path in paths for clip, name in _uploaders(path).items()}
    without = [row.clip for row in clips if row.clip not in uploaders]
    if without:
        where = found.path("metadata")
        raise DataError(f"{where} names no uploader of clip {without[0]}; get the published files.")
    splits: dict[str, set[str]] = {}
    for row in clips:
        splits.setdefault(uploaders[row.clip], set()).add(row.split)
    divided = {name for name, of in splits.items() if of == {"train", "val"}}
    sources = (_source(uploaders[row.clip], row.split, divided) for row in clips)
    named = [replace(row, source=source) for row, source in zip(clips, sources, strict=True)]
    text = f"{len(divided)} uploaders have clips in train and in val, as published."
    return Rows(named, [("uploader", text)] if divided else [])


def _source(uploader: str, split: str, divided: set[str]) -> str:
    """Return an uploader as a source, one in each split if published with clips in both."""
    return f"{uploader} ({split})" if uploader in divided else uploader


def _uploaders(path: Path) -> dict[str, str]:
    """Return the uploader of each clip of a file such as dev_clips_info_FSD50K.json."""
    try:
        clips = json.loads(path.read_text(encoding="utf-8"))
        return {str(clip): str(facts["uploader"]) for clip, facts in clips.items()}
    except (ValueError, AttributeError, KeyError, TypeError):
        raise DataError(
            f"{path} does not give each clip's uploader; get the published file, or take "
            "FSD50K.metadata away to count each clip for itself."
        ) from None
