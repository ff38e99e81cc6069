"""Your own recordings: class folders and tables, and a sentence for each thing wrong in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmkd.data import folder as reader
from cmkd.data.catalog import Row
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.errors import DataError
from cmkd.plan.catalog import parse_yaml

CLIPS = ("cat/a.wav", "cat/b.wav", "cat/deep/c.wav", "dog/a.wav", "dog/b.wav", "dog/c.wav")
TABLE = "path,label\n" + "".join(f"{clip},{clip[:3]}\n" for clip in CLIPS)


@pytest.fixture
def entry() -> dict[str, Any]:
    """Return an entry of two classes and three folds."""
    return {
        **{"name": "pets", "behaviour": 1, "reader": "folder", "labels": "single"},
        **{"metric": "accuracy", "classes": ["dog", "cat"], "folds": [1, 2, 3]},
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with six short recordings in two class folders."""
    root = tmp_path / "pets"
    for number, clip in enumerate(CLIPS):
        (root / clip).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 1600)
        soundfile.write(root / clip, noise, 16000)
    return root


def refused(entry: dict[str, Any], root: Path) -> str:
    """Return what the reader says."""
    with pytest.raises(DataError) as error:
        reader.rows(entry, root)
    return str(error.value).replace(f"{root}/", "").replace(str(root), "ROOT")


# ------------------------------------------------------------------------------------ class folders


def test_class_folders_become_rows_with_folds(entry: dict[str, Any], root: Path) -> None:
    (root / "readme.txt").write_text("no recording")
    (root / "cat" / "Thumbs.db").write_text("no recording")
    (root / "dog" / "._a.wav").write_text("no recording")
    rows = reader.rows(entry, root)
    assert [row.path for row in rows] == list(CLIPS)
    first = rows[0]
    assert first == Row("cat/a.wav", "cat/a.wav", first.split, ("cat",), "cat/a.wav")
    for name in ("cat", "dog"):
        assert {row.split for row in rows if row.labels == (name,)} == {"1", "2", "3"}


def test_they_are_prepared(
    entry: dict[str, Any], root: Path, text: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    prepare(text(entry), tmp_path / "out", root, workers=1)
    clips = Clips(tmp_path / "out")
    assert clips.ids.tolist() == list(CLIPS)
    assert clips.labels.tolist() == [[0, 1]] * 3 + [[1, 0]] * 3
    assert len(clips.subset(2, "test")) == 2 and len(clips.subset(2, "train")) == 4


def test_a_file_that_is_no_recording_is_not_passed_over(
    entry: dict[str, Any], root: Path, text: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    (root / "cat" / "d.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(40))
    with pytest.raises(DataError, match=r"cat/d\.m4a.*AAC/MP4 is not read; convert it"):
        prepare(text(entry), tmp_path / "out", root, workers=1)


def test_without_recordings_one_sentence_says_what_to_do(
    entry: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for root, said in (
        (None, "no data_root says where its recordings are"),
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path / "empty", "holds neither class folders nor a table labels.csv"),
    ):
        with pytest.raises(DataError, match=f"pets: .*{said}.*; name the folder by --config"):
            reader.rows(entry, root)


def test_folders_that_do_not_fit_are_named(entry: dict[str, Any], root: Path) -> None:
    (root / "cat" / "a.wav").rename(root / "a.wav")
    assert refused(entry, root).startswith("ROOT: 1 files lie in no class folder (a.wav); move")
    (root / "a.wav").unlink()
    (root / "cow").mkdir()
    assert refused(entry, root) == "cow holds no recordings: fill it or remove it."


def test_other_classes_print_the_list_that_was_found_ready_to_paste(
    entry: dict[str, Any], root: Path
) -> None:
    (root / "cat").rename(root / "cats, big: wild")
    said = refused(entry, root)
    assert said.startswith(
        "ROOT: the classes differ from those that datasets.yaml declares for pets: "
        "'cats, big: wild' is not declared; known: cat, dog; no clip has 'cat'. Found, ready to"
    )
    pasted = parse_yaml("\n".join(said.splitlines()[1:]), "pasted")
    assert pasted == {"classes": ["cats, big: wild", "dog"]}
    assert len(reader.rows(entry | pasted, root)) == 6


def test_numbers_and_words_of_yaml_are_quoted_in_that_list(
    entry: dict[str, Any], root: Path
) -> None:
    (root / "cat").rename(root / "1")
    (root / "dog").rename(root / "yes")
    pasted = parse_yaml("\n".join(refused(entry, root).splitlines()[1:]), "pasted")
    assert pasted == {"classes": ["1", "yes"]}


def test_fixed_splits_are_never_made_up(entry: dict[str, Any], root: Path) -> None:
    fixed = {key: value for key, value in entry.items() if key != "folds"}
    said = refused(fixed | {"splits": ["train", "test"]}, root)
    assert said.startswith("dataset pets: nothing says which split a clip is in; add a column")


# -------------------------------------------------------------------------------------------- table


def test_a_table_wins_over_folders_and_sources_stay_together(
    entry: dict[str, Any], root: Path
) -> None:
    lines = [f"{clip},{clip[:3]},{'one' if clip[4] == 'a' else clip}" for clip in CLIPS]
    (root / "labels.csv").write_text("\n".join(["path, label, source", *lines]))
    rows = reader.rows(entry, root)
    assert len({row.split for row in rows if row.source == "one"}) == 1
    assert {row.split for row in rows} == {"1", "2", "3"}
    assert sum(row.source == "one" for row in rows) == 2


def test_folds_splits_and_several_labels_are_taken_as_given(
    entry: dict[str, Any], root: Path
) -> None:
    (root / "mine.csv").write_text("\ufeffpath,label,split\ncat/a.wav,cat ; dog,test\n", "utf-8")
    many = {key: value for key, value in entry.items() if key != "folds"} | {"labels": "multi"}
    many |= {"splits": ["train", "test"], "table": "mine.csv"}
    rows = reader.rows(many, root)
    assert rows == [Row("cat/a.wav", "cat/a.wav", "test", ("cat", "dog"), "cat/a.wav")]
    (root / "data.csv").write_text("path,label,fold\n./cat/a.wav,cat,3\ndog/a.wav,dog,1\n")
    assert [(row.path, row.split) for row in reader.rows(entry, root)] == [
        ("cat/a.wav", "3"),
        ("dog/a.wav", "1"),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "the column 'path' is missing; known: none"),
        ("file,label\na,cat\n", "the column 'path' is missing; known: file, label"),
        ("path,lable\na,cat\n", "the column 'label' is missing, did you mean 'lable'?"),
        ("path,label,sourse\na,cat,b\n", "the column 'sourse' is unknown, did you mean 'source'?"),
        ("path,label,label\na,cat,b\n", "the column 'label' stands twice; keep one."),
        ("path,label,fold,split\na,cat,1,b\n", "it has the columns fold and split; keep one."),
        (
            "path,label,split\na,cat,b\n",
            "it has the column split where datasets.yaml declares fold",
        ),
        ("path,label\na,cat\nb\n", "line 3 has 1 cells where the header has 2."),
        ("path,label\na,cat,dog\n", "line 2 has 3 cells where the header has 2."),
        ("path,label\na,\n", "line 2: the cell 'label' is empty; fill it in every row."),
        (
            "path,label,fold\na,cat,1\nb,dog,\n",
            "line 3: the cell 'fold' is empty; fill it in every",
        ),
        ("path,label,source\na,cat,1\nb,dog,\n", "line 3: the cell 'source' is empty"),
        ("path,label\na,cat\n./a,dog\n", "line 3: the path 'a' stands in line 2 too; keep one"),
        ("path,label\n/b/a,cat\n", "line 2: the path '/b/a' is not below the table's folder"),
        ("path,label\n../a,cat\n", "line 2: the path '../a' is not below the table's folder"),
        ("path,label\nc\\a,cat\n", "line 2: the path 'c\\a' is not below the table's folder"),
        ("path,label\na,cat;;dog\n", "line 2: the label 'cat;;dog' has an empty or doubled part"),
        ("path,label\na,cat;cat\n", "line 2: the label 'cat;cat' has an empty or doubled part"),
        ("path,label\na,cat\nb,dgo\n", "'dgo' is not declared, did you mean 'dog'?; no clip has"),
        ("path,label\n", "no clip has 'dog'; no clip has 'cat'"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(
    entry: dict[str, Any], root: Path, table: str, message: str
) -> None:
    (root / "labels.csv").write_text(table)
    said = refused(entry, root)
    assert said.startswith("labels.csv:") and message in said


def test_all_lines_at_fault_are_listed_up_to_ten(entry: dict[str, Any], root: Path) -> None:
    (root / "labels.csv").write_text("path,label\n" + "".join(f"{n},\n" for n in range(12)))
    said = refused(entry, root).splitlines()
    assert len(said) == 12 and said[-1] == "  ... and 2 more."


def test_a_table_that_is_none_is_named(entry: dict[str, Any], root: Path) -> None:
    (root / "labels.csv").write_bytes(b"PK\x03\x04\xff\xff")
    assert refused(entry, root).startswith("labels.csv is no CSV file in UTF-8: ")
    said = refused(entry | {"table": "label.csv"}, root)
    assert said == "there is no table label.csv, did you mean 'labels.csv'?"


def test_a_fold_that_is_not_declared_stops_the_preparation(
    entry: dict[str, Any], root: Path, text: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    lines = [f"{clip},{clip[:3]},{1 + n % 3}{'.0' * (n == 5)}" for n, clip in enumerate(CLIPS)]
    (root / "labels.csv").write_text("\n".join(["path,label,fold", *lines]))
    with pytest.raises(DataError, match=r"fold or split '3\.0' \(dog/c\.wav\) is not declared"):
        prepare(text(entry), tmp_path / "out", root, workers=1)


def test_a_class_in_one_fold_only_is_noted(entry: dict[str, Any], root: Path) -> None:
    lines = [f"{clip},{clip[:3]},{clip if clip[0] == 'd' else 'one'}" for clip in CLIPS]
    (root / "labels.csv").write_text("\n".join(["path,label,source", *lines]))
    rows = reader.rows(entry, root)
    fold = next(row.split for row in rows if row.source == "one")
    text = f"all clips of class 'cat' lie in fold {fold}: where it is tested, it was never trained"
    assert [note[1] for note in rows.notes] == [f"{text} on."]
    (root / "labels.csv").unlink()
    assert reader.rows(entry, root).notes == ()
