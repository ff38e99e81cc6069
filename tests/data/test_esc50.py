import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data import esc50 as reader
from cmkd.data.catalog import Row
from cmkd.errors import DataError


def test_the_folder_itself_and_its_parent_are_found(
    esc50: dict[str, Any], lines: list[Any], published: Callable[..., Path]
) -> None:
    folder = published(lines)
    inside = reader.rows(esc50, folder)
    above = reader.rows(esc50, folder.parent)
    assert inside[0] == Row("1-10-A-0", "audio/1-10-A-0.wav", "1", ("dog",), "10")
    assert above[0].path == "ESC-50-master/audio/1-10-A-0.wav"
    for rows, root in ((inside, folder), (above, folder.parent)):
        assert all((root / row.path).is_file() for row in rows)


def test_esc10_keeps_the_marked_clips(
    esc50: dict[str, Any], lines: list[Any], published: Callable[..., Path]
) -> None:
    rows = reader.rows(esc50 | {"only_esc10": True}, published(lines))
    assert [row.clip for row in rows] == ["1-10-A-0", "2-12-A-0"]


def test_without_recordings_one_sentence_says_what_to_do(
    esc50: dict[str, Any], tmp_path: Path
) -> None:
    for root, said in (
        (None, "no data_root says where its recordings are"),
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path, "holds no meta/esc50.csv and audio/, nor does a folder right below"),
    ):
        with pytest.raises(DataError, match=f"{said}.*data_root.*get it from its authors\\."):
            reader.rows(esc50, root)


def test_two_copies_below_one_folder_are_refused(
    esc50: dict[str, Any], lines: list[Any], published: Callable[..., Path]
) -> None:
    folder = published(lines)
    shutil.copytree(folder, folder.parent / "copy")
    with pytest.raises(
        DataError, match=r"several copies of .* \(ESC-50-master, copy\); give the one"
    ):
        reader.rows(esc50, folder.parent)


def test_a_damaged_table_is_named(
    esc50: dict[str, Any], lines: list[Any], published: Callable[..., Path]
) -> None:
    table = published(lines) / "meta" / "esc50.csv"
    whole = table.read_text()
    table.write_text(whole.replace("src_file", "source"))
    with pytest.raises(DataError, match=r"esc50\.csv lacks the column src_file"):
        reader.rows(esc50, table.parents[1])
    table.write_text(whole.replace("2,6,hen", "2,6,"))
    with pytest.raises(DataError, match=r"esc50\.csv, line 5: a cell is empty"):
        reader.rows(esc50, table.parents[1])


def _published_rows(shared: Path) -> list[Row]:
    with open(shared / "data" / "esc50-16k" / "meta" / "esc50.original.csv", newline="") as file:
        return [
            Row(line["filename"][:-4], "", line["fold"], (line["category"],), line["src_file"])
            for line in csv.DictReader(file)
        ]


def _entry(name: str) -> dict[str, Any]:
    text = (files.checkout() / "config" / "datasets.yaml").read_text()
    return {**yaml.safe_load(text)[name], "name": name}


def test_the_published_oddities_are_declared_and_no_others(shared: Path) -> None:
    audit = audits.Audit()
    audits.check_table(_entry("esc50"), _published_rows(shared), audit)
    sources = [finding.sentence.split()[1] for finding in audit.declared]
    assert sources == ["131943", "134049", "209698", "234879"]
    assert audit.findings == [] and audit.notes == []
    assert audit.declared[3].clips == ("4-234879-A-6", "5-234879-A-1", "5-234879-B-1")


def test_undeclared_they_stop(shared: Path) -> None:
    audit = audits.Audit()
    entry = {key: value for key, value in _entry("esc50").items() if "two_folds" not in key}
    audits.check_table(entry, _published_rows(shared), audit)
    assert [finding.kind for finding in audit.findings] == ["source"] * 4
    assert "source 131943 lies in folds 2 and 3: 2-131943-A-38, 3-131943-A-37; move" in (
        audit.findings[0].sentence
    )


def test_the_published_table_has_the_published_sizes(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ESC-50-master"
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    original = shared / "data" / "esc50-16k" / "meta" / "esc50.original.csv"
    shutil.copy(original, folder / "meta" / "esc50.csv")
    whole = reader.rows(_entry("esc50"), tmp_path)
    small = reader.rows(_entry("esc10"), tmp_path)
    assert len(whole) == 2000 and len(small) == 400
    assert set(Counter((row.split, row.labels) for row in whole).values()) == {8}
    assert {row.labels[0] for row in small} == set(_entry("esc10")["classes"])
    audit = audits.Audit()
    audits.check_table(_entry("esc10"), small, audit)
    assert audit == audits.Audit()
