"""FSD50K's reader on a made tree, on the real lists, and on what may be wrong with either."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data import fsd50k as reader
from cmkd.data.catalog import Row
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.errors import DataError
from cmkd.plan.catalog import Catalog

CLASSES = ["Bark", "Dog", "Rain"]
DEV = [("10", "Bark,Dog", "train"), ("11", "Rain", "train"), ("12", "Bark,Dog,Rain", "val")]
EVAL = [("20", "Bark,Dog"), ("21", "Rain")]
SECONDS = {"10": 0.3, "11": 3.0, "12": 0.5, "20": 0.4, "21": 0.6}


@pytest.fixture
def entry() -> dict[str, Any]:
    """Return an entry of three classes in FSD50K's layout."""
    return {
        **{"name": "tiny", "behaviour": 1, "reader": "fsd50k", "labels": "multi", "metric": "map"},
        **{"splits": ["train", "val", "test"], "on_missing": "stop", "classes": CLASSES},
        "obtain": "get it from its authors",
    }


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of a tree in the published layout; its clips are noise, each of its own."""

    def make(prefix: str = "FSD50K.", ending: str = ".wav") -> Path:
        folder = tmp_path / "FSD50K"
        truth = folder / f"{prefix}ground_truth"
        truth.mkdir(parents=True)
        vocabulary = "".join(f"{n},{name},/m/0{n}\n" for n, name in enumerate(CLASSES))
        (truth / "vocabulary.csv").write_text(vocabulary)
        for part, header, lines in (
            ("dev", ("fname", "labels", "mids", "split"), [(a, b, b, c) for a, b, c in DEV]),
            ("eval", ("fname", "labels", "mids"), [(a, b, b) for a, b in EVAL]),
        ):
            with open(truth / f"{part}.csv", "w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([header, *lines])
            (folder / f"{prefix}{part}_audio").mkdir()
            for line in lines:
                size = round(SECONDS[line[0]] * 44100)
                noise = np.random.default_rng(int(line[0])).uniform(-0.5, 0.5, size)
                path = folder / f"{prefix}{part}_audio" / f"{line[0]}{ending}"
                soundfile.write(path, noise, 44100)
        return folder

    return make


def add_metadata(folder: Path, uploaders: dict[str, str]) -> None:
    """Write the two published files of metadata; only the uploader matters here."""
    where = folder / "FSD50K.metadata"
    where.mkdir(exist_ok=True)
    for part, clips in (("dev", DEV), ("eval", EVAL)):
        facts = {
            clip[0]: {"title": "a", "tags": [], "uploader": uploaders[clip[0]]} for clip in clips
        }
        (where / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(facts))


def test_the_folder_itself_and_its_parent_are_found(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder = tree()
    inside, above = reader.rows(entry, folder), reader.rows(entry, folder.parent)
    assert inside[0] == Row("10", "FSD50K.dev_audio/10.wav", "train", ("Bark", "Dog"), "10")
    assert above[3] == Row("20", "FSD50K/FSD50K.eval_audio/20.wav", "test", ("Bark", "Dog"), "20")
    assert [row.split for row in inside] == ["train", "train", "val", "test", "test"]
    assert all((folder.parent / row.path).is_file() for row in above)


def test_folders_without_the_prefix_and_other_endings_are_read_in_place(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder = tree(prefix="", ending=".flac")
    assert [row.path for row in reader.rows(entry, folder)][2:4] == [
        "dev_audio/12.flac",
        "eval_audio/20.flac",
    ]


def test_without_recordings_one_sentence_says_what_to_do(
    entry: dict[str, Any], tmp_path: Path
) -> None:
    for root, said in (
        (None, "no data_root says where its recordings are"),
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path, r"holds no FSD50K\.ground_truth/dev\.csv and"),
    ):
        with pytest.raises(DataError, match=f"{said}.*data_root.*get it from its authors\\."):
            reader.rows(entry, root)


def test_two_copies_below_one_folder_are_refused(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder = tree()
    (folder.parent / "old" / "ground_truth").mkdir(parents=True)
    for part in ("dev", "eval"):
        (folder.parent / "old" / "ground_truth" / f"{part}.csv").write_text("fname,labels\n")
    with pytest.raises(DataError, match=r"several copies of .* \(FSD50K, old\); give the one"):
        reader.rows(entry, folder.parent)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("dev", "labels", "label", "dev.csv lacks the column labels: put the published table"),
        ("eval", "fname", "file", "eval.csv lacks the column fname"),
        ("dev", ",train\n11", ",\n11", "dev.csv, line 2: a cell is empty"),
        ("eval", "21,Rain", "21,", "eval.csv, line 3: a cell is empty"),
        ("dev", '"Bark,Dog"', "Bark,Dog", "line 2 has 5 cells where the header has 4 (lists of"),
        ("dev", "train", "test", "dev.csv, line 2: the split 'test' is neither train nor val"),
        ("dev", "Rain,Rain,train", "Rain,Rain", "dev.csv, line 3 has 3 cells where the header"),
        ("vocabulary", "1,Dog,/m/01\n", "", "vocabulary.csv has 2 classes where tiny declares 3"),
        ("vocabulary", "1,Dog,", "1,Dogs,", "has the class 'Dogs', which dataset tiny does not"),
        ("vocabulary", "Rain,/m/02\n", "Rain,/m/02\n3,Rain,/m/02\n", "has 4 classes where tiny"),
    ],
)
def test_a_damaged_table_is_named(
    entry: dict[str, Any],
    tree: Callable[..., Path],
    table: str,
    old: str,
    new: str,
    message: str,
) -> None:
    folder = tree()
    path = folder / "FSD50K.ground_truth" / f"{table}.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError) as error:
        reader.rows(entry, folder)
    assert message in str(error.value) and str(folder) in str(error.value)


def test_a_table_that_is_no_text_is_named(entry: dict[str, Any], tree: Callable[..., Path]) -> None:
    folder = tree()
    (folder / "FSD50K.ground_truth" / "eval.csv").write_bytes(b"PK\x03\x04\xff\xff")
    with pytest.raises(DataError, match=r"eval\.csv is no table: .*; get the published file"):
        reader.rows(entry, folder)


def test_a_split_column_of_the_eval_set_moves_no_test_clip(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder = tree()
    path = folder / "FSD50K.ground_truth" / "eval.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},split", *(f"{line},train" for line in lines[1:])]))
    assert [row.split for row in reader.rows(entry, folder)][3:] == ["test", "test"]


# ------------------------------------------------------------------------------------- uploaders


def test_with_metadata_the_source_is_the_uploader(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder = tree()
    add_metadata(folder, {"10": "ann", "11": "ann", "12": "bob", "20": "cyd", "21": "cyd"})
    rows = reader.rows(entry, folder)
    assert [row.source for row in rows] == ["ann", "ann", "bob", "cyd", "cyd"]
    (folder / "FSD50K.metadata" / "eval_clips_info_FSD50K.json").unlink()
    assert [row.source for row in reader.rows(entry, folder)] == ["10", "11", "12", "20", "21"]


def test_an_uploader_of_train_and_val_counts_as_two_but_never_dev_and_eval(
    entry: dict[str, Any], tree: Callable[..., Path]
) -> None:
    folder, audit = tree(), audits.Audit()
    add_metadata(folder, {"10": "ann", "11": "bob", "12": "ann", "20": "cyd", "21": "cyd"})
    rows = reader.rows(entry, folder)
    assert [row.source for row in rows] == ["ann (train)", "bob", "ann (val)", "cyd", "cyd"]
    assert rows.notes == (
        ("uploader", "1 uploaders have clips in train and in val, as published."),
    )
    audits.check_table(entry, rows, audit)
    assert audit.findings == []
    add_metadata(folder, {"10": "ann", "11": "bob", "12": "ann", "20": "ann", "21": "cyd"})
    audits.check_table(entry, reader.rows(entry, folder), audit)
    said = [finding.sentence for finding in audit.findings]
    assert len(said) == 1
    assert said[0].startswith("source ann lies in folds test and train and val: 10, 12, 20; move")


@pytest.mark.parametrize("text", ["{", "[]", '{"10": {}}', '{"10": "ann"}'])
def test_damaged_metadata_are_named(
    entry: dict[str, Any], tree: Callable[..., Path], text: str
) -> None:
    folder = tree()
    add_metadata(folder, dict.fromkeys(SECONDS, "ann"))
    (folder / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").write_text(text)
    with pytest.raises(DataError, match=r"dev_clips_info_FSD50K\.json does not give each clip's"):
        reader.rows(entry, folder)


def test_a_clip_without_metadata_is_named(entry: dict[str, Any], tree: Callable[..., Path]) -> None:
    folder = tree()
    add_metadata(folder, dict.fromkeys(SECONDS, "ann"))
    (folder / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").write_text("{}")
    with pytest.raises(DataError, match=r"metadata names no uploader of clip 10; get"):
        reader.rows(entry, folder)


# ------------------------------------------------------------------------------------ preparation


def test_a_made_tree_is_prepared_with_its_splits_lengths_and_sources(
    entry: dict[str, Any],
    tree: Callable[..., Path],
    text: Callable[[dict[str, Any]], str],
    tmp_path: Path,
) -> None:
    folder = tree()
    add_metadata(folder, {"10": "ann", "11": "ann", "12": "bob", "20": "cyd", "21": "cyd"})
    prepare(text(entry), tmp_path / "out", folder, workers=1)
    clips = Clips(tmp_path / "out")
    assert clips.ids.tolist() == sorted(SECONDS)
    assert [clips.ids[clips.subset(0, role)].tolist() for role in ("train", "val", "test")] == [
        ["10", "11"],
        ["12"],
        ["20", "21"],
    ]
    assert clips.labels.tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 1]]
    assert clips.lengths.tolist() == [round(SECONDS[clip] * 16000) for clip in sorted(SECONDS)]
    assert clips.sources.tolist() == ["ann", "ann", "bob", "cyd", "cyd"]


def test_a_missing_recording_stops_with_where_to_get_it(
    entry: dict[str, Any],
    tree: Callable[..., Path],
    text: Callable[[dict[str, Any]], str],
    tmp_path: Path,
) -> None:
    folder = tree()
    (folder / "FSD50K.eval_audio" / "21.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 5 clips are missing .*eval_audio/21\.wav; get it"):
        prepare(text(entry), tmp_path / "out", folder, workers=1)


# -------------------------------------------------------------------------------- the real lists


def published_entry() -> dict[str, Any]:
    """Return the entry of FSD50K that the checkout has."""
    return {**Catalog(files.checkout() / "config").entry("datasets", "fsd50k"), "name": "fsd50k"}


@pytest.fixture
def published(shared: Path, tmp_path: Path) -> Path:
    """Return a tree with the real vocabulary and real rows of eval.csv; dev.csv is made up."""
    metadata = shared / "data" / "metadata" / "fsd50k"
    truth = tmp_path / "FSD50K.ground_truth"
    truth.mkdir()
    (truth / "vocabulary.csv").write_bytes((metadata / "vocabulary.csv").read_bytes())
    (truth / "eval.csv").write_bytes((metadata / "eval.sample.csv").read_bytes())
    with open(metadata / "clips.csv", newline="") as file:
        numbers = [line["fname"] for line in csv.DictReader(file) if line["set"] == "dev"]
    classes = published_entry()["classes"]
    lines = [
        f"{number},{classes[n % 200]},/m/0,{'val' if n < 4170 else 'train'}"
        for n, number in enumerate(numbers)
    ]
    (truth / "dev.csv").write_text("\n".join(["fname,labels,mids,split", *lines]))
    return tmp_path


def test_the_real_vocabulary_rows_and_numbers_are_read(published: Path) -> None:
    rows = reader.rows(published_entry(), published)
    # the published sizes of train and val; of eval only 13 rows are at hand
    assert Counter(row.split for row in rows) == {"train": 36796, "val": 4170, "test": 13}
    real = [row for row in rows if row.split == "test"]
    assert real[0].clip == "37199" and real[0].path == "FSD50K.eval_audio/37199.wav"
    assert real[0].labels == (
        *("Electric_guitar", "Guitar", "Plucked_string_instrument", "Musical_instrument"),
        "Music",
    )
    assert {label for row in real for label in row.labels} <= set(published_entry()["classes"])
    audit = audits.Audit()
    audits.check_table(published_entry(), rows, audit)
    assert audit.findings == []


def test_the_mids_of_real_rows_are_those_of_their_labels(shared: Path) -> None:
    entry = published_entry()
    mid = dict(zip(entry["classes"], entry["mids"], strict=True))
    sample = shared / "data" / "metadata" / "fsd50k" / "eval.sample.csv"
    with open(sample, newline="") as file:
        for line in csv.DictReader(file):
            assert [mid[name] for name in line["labels"].split(",")] == line["mids"].split(",")
            assert all(name in mid for name in line["labels"].split(","))


def test_all_51197_published_numbers_differ(shared: Path) -> None:
    with open(shared / "data" / "metadata" / "fsd50k" / "clips.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert Counter(line["set"] for line in lines) == {"dev": 40966, "eval": 10231}
    assert len({line["fname"] for line in lines}) == 51197
