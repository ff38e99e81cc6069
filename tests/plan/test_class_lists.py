"""Classes in files of their own: both published forms, and a sentence for whatever is odd."""

from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.errors import ConfigError
from cmkd.plan import class_lists
from cmkd.plan.catalog import parse_yaml

PUBLISHED = "0,Alarm,/m/07pp_mv\n1,Bark,/m/05tny_\n"
WITH_HEADER = (
    'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05zppz,"Male speech, man speaking"\n'
)


def write(folder: Path, text: str) -> Path:
    """Write a file of classes."""
    path = folder / "classes" / "some.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "names", "mids"),
    [
        (PUBLISHED, ["Alarm", "Bark"], ["/m/07pp_mv", "/m/05tny_"]),
        (WITH_HEADER, ["Speech", "Male speech, man speaking"], ["/m/09x0r", "/m/05zppz"]),
        ("index,label\r\n0,a\r\n1,b\r\n", ["a", "b"], []),
        ("\ufeffmid,index,label\n/m/1,0,a\n\n/m/2,1,b\n", ["a", "b"], ["/m/1", "/m/2"]),
    ],
)
def test_the_published_forms_are_read(
    tmp_path: Path, text: str, names: list[str], mids: list[str]
) -> None:
    assert class_lists.read(write(tmp_path, text)) == (names, mids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists 0 classes; at least two are needed"),
        ("0,a,/m/1\n", "lists 1 classes"),
        ("index,name\n0,a\n1,b\n", "has the columns index,name; wanted is index,mid,display_name"),
        ("mid,label\n/m/1,a\n", "has the columns mid,label; wanted is"),
        ("index,label,mid,colour\n0,a,/m/1,red\n", "has the columns index,label,mid,colour"),
        ("index,label,label\n0,a,b\n", "has the columns index,label,label"),
        ("0,a\n1,b\n", "line 1 has 2 cells where index,label,mid are wanted"),
        ("0,a,/m/1\n2,b,/m/2\n", "line 2: the index is '2' where 1 is next"),
        ("0,a,/m/1\n1,a,/m/2\n", "line 2: the class 'a' stands twice, also as number 0"),
        ("0,a,/m/1\n1,b,/m/1\n", "line 2: the mid /m/1 stands twice, also as 0"),
        ("0,/m/1,a\n1,/m/2,b\n", "line 1: 'a' is no mid such as /m/09x0r; are columns exchanged"),
        ("0,a;b,/m/1\n1,c,/m/2\n", "line 1: the class 'a;b' is empty, or holds a ';'"),
        ("0,a,/m/1\n1, ,/m/2\n", "line 2: the class '' is empty"),
    ],
)
def test_what_is_odd_is_said_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        class_lists.read(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    write(tmp_path, "").write_bytes(b"\xff\xfe0")
    with pytest.raises(ConfigError, match=r"some\.csv cannot be read: "):
        class_lists.read(tmp_path / "classes" / "some.csv")


def test_everybody_else_sees_lists(bench: Any) -> None:
    write(bench.folder, PUBLISHED)
    bench.datasets["birds"]["classes"] = "classes/some.csv"
    suite = bench.load()
    entry = suite.dataset("birds")
    assert entry["classes"] == ["Alarm", "Bark"] and entry["mids"] == ["/m/07pp_mv", "/m/05tny_"]
    prepared = parse_yaml(suite.data_recipe("birds").text, "x")
    assert prepared["classes"] == entry["classes"] and prepared["mids"] == entry["mids"]
    assert suite.recipe("birds", "a").values["dataset"]["classes"] == 2


def test_the_same_names_in_a_file_or_in_place_are_the_same_run(bench: Any) -> None:
    before = bench.load().recipe("birds", "a").text
    write(bench.folder, "index,label\n0,wren\n1,robin\n")
    bench.datasets["birds"]["classes"] = "classes/some.csv"
    assert bench.load().recipe("birds", "a").text == before
    assert "mids" not in bench.load().dataset("birds")


def test_a_missing_file_and_other_problems_are_said_together(bench: Any) -> None:
    write(bench.folder, PUBLISHED)
    bench.datasets["birds"]["classes"] = "classes/sme.csv"
    bench.suite["modles"] = []
    with pytest.raises(ConfigError) as error:
        bench.load()
    said = str(error.value).replace(f"{bench.folder}/", "")
    assert (
        "datasets.yaml: birds: there is no file classes/sme.csv, did you mean 'some.csv'?" in said
    )
    assert "suite.yaml: unknown key 'modles'" in said


def test_what_is_neither_list_nor_file_is_refused(bench: Any) -> None:
    bench.datasets["birds"]["classes"] = "wren, robin"
    with pytest.raises(ConfigError, match="must be a list of at least two names, each once, or"):
        bench.load()


def test_mids_are_one_a_class(bench: Any) -> None:
    bench.datasets["birds"]["mids"] = ["/m/1"]
    with pytest.raises(ConfigError, match="birds has 1 mids for 2 classes; give one each"):
        bench.load()


def test_fsd50k_is_the_published_vocabulary(shared: Path) -> None:
    published = shared / "data" / "metadata" / "fsd50k" / "vocabulary.csv"
    ours = files.checkout() / "config" / "classes" / "fsd50k.csv"
    assert ours.read_bytes() == published.read_bytes()


def test_fsd50k_has_200_classes_with_mids() -> None:
    found = class_lists.read(files.checkout() / "config" / "classes" / "fsd50k.csv")
    assert len(found.names) == len(found.mids) == 200
    assert found.names[0] == "Accelerating_and_revving_and_vroom"


def test_audiosets_own_table_is_read(shared: Path) -> None:
    table = shared / "data" / "metadata" / "audioset" / "class_labels_indices.csv"
    found = class_lists.read(table)
    assert len(found.names) == len(found.mids) == 527
    assert found.names[1] == "Male speech, man speaking" and found.mids[1] == "/m/05zppz"
