"""Your own recordings: a folder for each class, or a table of paths and labels.

`data_root` holds class folders (`dog/*.wav`, at any depth below), or a CSV file, `table` of the
entry (else labels.csv or data.csv): columns `path` and `label` (several joined by `;`), and where
known `fold` or `split`, and `source` (what a clip was cut from; else each file is its own). Folds
that are declared but not given are dealt out by source. A clip's id is its path.
"""

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cmkd.data import deal
from cmkd.data.catalog import Row, Rows, needs_recordings, splits
from cmkd.errors import DataError, nearest

TABLES = ("labels.csv", "data.csv")
NEEDED, KNOWN = ("path", "label"), ("path", "label", "fold", "split", "source")
NOT_AUDIO = {
    *(".cfg", ".csv", ".db", ".html", ".ini", ".jpg", ".json", ".md", ".pdf", ".png", ".rst"),
    *(".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
}
MOST_SAID = 10
SIMILAR = 0.75  # of difflib: a column so like a known one is a slip of the pen


def rows(entry: Mapping[str, Any], data_root: Path | None) -> Rows:
    """Return the clips of a table or of class folders.

    Raises:
        DataError: what is wrong with them, at most ten sentences; where classes differ from the
            declared ones, the list that was found, ready to paste.
    """
    if data_root is None:
        raise DataError(needs_recordings(entry, "no data_root says where its recordings are"))
    root = Path(data_root)
    if not root.is_dir():
        raise DataError(needs_recordings(entry, f"there is no folder {root}"))
    table = _table_path(entry, root)
    found = _of_table(entry, table) if table else _of_folders(entry, root)
    _check_classes(entry, found, table or root)
    if not entry.get("folds"):
        _check_given(entry, found)
    elif not all(row.split for row in found):
        found = deal.by_source(found, splits(entry), str(entry["name"]))
    return Rows(found, _lonely(found) if entry.get("folds") else ())


def _check_given(entry: Mapping[str, Any], found: Sequence[Row]) -> None:
    """Raise DataError where fixed splits are declared that nothing gives."""
    if not all(row.split for row in found):
        raise DataError(
            f"dataset {entry['name']}: nothing says which split a clip is in; add a column 'split' "
            "to its table, or declare folds: [1, 2, 3, 4, 5] in datasets.yaml to have them made."
        )


def _lonely(found: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield a note for each class that lies in one fold only."""
    folds: dict[str, set[str]] = {}
    for row in found:
        for label in row.labels:
            folds.setdefault(label, set()).add(row.split)
    for label, of in sorted(folds.items()):
        if len(of) == 1:
            text = f"all clips of class '{label}' lie in fold {min(of)}: where it is tested"
            yield "fold", f"{text}, it was never trained on."


def _table_path(entry: Mapping[str, Any], root: Path) -> Path | None:
    """Return the table that the entry names, or one of the usual names, or None."""
    stated = entry.get("table")
    if stated and not (root / str(stated)).is_file():
        there = [path.name for path in root.glob("*.csv")]
        raise DataError(f"there is no table {root / str(stated)}{nearest(stated, there)}")
    names = (str(stated),) if stated else TABLES
    return next((root / name for name in names if (root / name).is_file()), None)


def _refuse(where: Path, problems: Sequence[str]) -> None:
    """Raise one DataError with the first problems, each once, if there are any."""
    problems = list(dict.fromkeys(problems))
    if problems:
        more = len(problems) - MOST_SAID
        said = [*problems[:MOST_SAID], *([f"... and {more} more."] if more > 0 else [])]
        raise DataError(
            "\n  ".join([f"{where}:", *said]) if len(said) > 1 else f"{where}: {said[0]}"
        )


# ------------------------------------------------------------------------------------ class folders


def _of_folders(entry: Mapping[str, Any], root: Path) -> list[Row]:
    """Return the files below each class folder, every file its own source."""
    inside = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    loose = [path.name for path in inside if path.is_file() and _may_be_audio(path)]
    if loose:
        few = ", ".join(loose[:3])
        raise DataError(
            f"{root}: {len(loose)} files lie in no class folder ({few}); move them into one, or "
            f"write a table {TABLES[0]} with the columns path,label."
        )
    found = []
    for folder in (path for path in inside if path.is_dir()):
        clips = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(root).as_posix() for path in clips if _may_be_audio(path)]
        if not names:
            raise DataError(f"{folder} holds no recordings: fill it or remove it.")
        found += [Row(name, name, "", (folder.name,), name) for name in names]
    if not found:
        text = f"{root} holds neither class folders nor a table {TABLES[0]}"
        raise DataError(needs_recordings(entry, text))
    return found


def _may_be_audio(path: Path) -> bool:
    """Tell whether a file is taken for a recording: all but hidden ones and documents."""
    return not path.name.startswith(".") and path.suffix.lower() not in NOT_AUDIO


# -------------------------------------------------------------------------------------------- table


def _of_table(entry: Mapping[str, Any], path: Path) -> list[Row]:
    """Return the clips of a CSV file; DataError lists what is wrong with its lines."""
    lines = _lines(path)
    header = lines[0][1] if lines else []
    _refuse(path, [*_columns(entry, header)])
    fields = [(number, dict(zip(header, cells, strict=False))) for number, cells in lines[1:]]
    problems = [
        f"line {number} has {len(cells)} cells where the header has {len(header)}."
        for number, cells in lines[1:]
        if len(cells) != len(header)
    ]
    _refuse(path, problems or [*_cells(header, fields), *_doubled(fields)])
    return [_row(line) for _, line in fields]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a CSV file with their numbers, stripped, without empty ones."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
            return [(number, line) for number, line in lines if any(line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}; save it as one.") from None


def _columns(entry: Mapping[str, Any], header: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the columns."""
    for name in NEEDED:
        if name not in header:
            yield f"the column '{name}' is missing{nearest(name, header)}"
    for name in header:
        absent = [known for known in KNOWN if known not in header]
        close = difflib.get_close_matches(name, absent, 1, SIMILAR)
        if close and close[0] not in NEEDED:
            yield f"the column '{name}' is unknown, did you mean '{close[0]}'?"
        if header.count(name) > 1:
            yield f"the column '{name}' stands twice; keep one."
    given, declared = {"fold", "split"} & set(header), "folds" if entry.get("folds") else "splits"
    if len(given) == 2:
        yield "it has the columns fold and split; keep one."
    elif given and f"{min(given)}s" != declared:
        yield f"it has the column {min(given)} where datasets.yaml declares {declared}."


def _cells(header: Sequence[str], lines: Sequence[tuple[int, Mapping[str, str]]]) -> Iterator[str]:
    """Yield what is wrong with single cells."""
    for number, line in lines:
        empty = [name for name in KNOWN if name in header and not line[name]]
        if empty:
            yield f"line {number}: the cell '{empty[0]}' is empty; fill it in every row."
            continue
        path = PurePosixPath(line["path"])
        if "\\" in line["path"] or path.is_absolute() or ".." in path.parts:
            yield (
                f"line {number}: the path '{path}' is not below the table's folder; write it "
                "relative to that, with /."
            )
        labels = _labels(line)
        if not all(labels) or len(set(labels)) < len(labels):
            yield f"line {number}: the label '{line['label']}' has an empty or doubled part."


def _doubled(lines: Sequence[tuple[int, Mapping[str, str]]]) -> Iterator[str]:
    """Yield the paths that stand in two lines."""
    first: dict[str, int] = {}
    for number, line in lines:
        path = str(PurePosixPath(line["path"]))
        if path in first:
            remedy = "keep one (several labels are joined by ';')"
            yield f"line {number}: the path '{path}' stands in line {first[path]} too; {remedy}."
        first.setdefault(path, number)


def _labels(line: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of a line."""
    return tuple(label.strip() for label in line["label"].split(";"))


def _row(line: Mapping[str, str]) -> Row:
    """Return one line as a row; without a source the file is its own."""
    path = str(PurePosixPath(line["path"]))
    split = line.get("fold") or line.get("split") or ""
    return Row(path, path, split, _labels(line), line.get("source") or path)


# ------------------------------------------------------------------------------------------ classes


def _check_classes(entry: Mapping[str, Any], found: Sequence[Row], where: Path) -> None:
    """Raise DataError where the classes are others than the declared, with the list found."""
    declared = [str(name) for name in entry["classes"]]
    there = sorted({label for row in found for label in row.labels})
    if set(there) == set(declared):
        return
    said = [f"'{name}' is not declared{nearest(name, declared)}" for name in there]
    said = [text for name, text in zip(there, said, strict=True) if name not in declared]
    said += [f"no clip has '{name}'" for name in declared if name not in there]
    listed = yaml.safe_dump(there, default_flow_style=True, width=88, allow_unicode=True).rstrip()
    more = f"; and {len(said) - MOST_SAID} more" if len(said) > MOST_SAID else ""
    raise DataError(
        f"{where}: the classes differ from those that datasets.yaml declares for "
        f"{entry['name']}: {'; '.join(said[:MOST_SAID])}{more}. Found, ready to paste "
        f"(or correct the labels):\n  classes: {listed}"
    )
