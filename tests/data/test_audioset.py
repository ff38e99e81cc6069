"""AudioSet: the published lists as they are, and made trees with holes, damage and duplicates."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cmkd import files
from cmkd.data import audioset as reader
from cmkd.data.clips import Clips
from cmkd.data.prepare import prepare
from cmkd.errors import ConfigError, DataError
from cmkd.plan.catalog import Catalog
from cmkd.scoring.scores import ids_hash

Text = Callable[[dict[str, Any]], str]
SPEECH, MUSIC, DOG = "/m/09x0r", "/m/04rlf", "/m/0bt9lr"
TRAIN = [
    ("-aaaaaaaaaa", "30.000", "40.000", f"{SPEECH},{MUSIC}"),
    ("b_bbbbb_30_", "0.000", "10.000", MUSIC),
    ("ccccccccccc", "0.000", "8.500", DOG),
    ("ddddddddddd", "10.000", "20.000", DOG),
    ("eeeeeeeeeee", "10.000", "20.000", SPEECH),
]
TEST = [
    ("--ffffffff_", "30.000", "40.000", f"{SPEECH},{DOG}"),
    ("ggggggggggg", "20.000", "30.000", MUSIC),
]
FOUND = ["train/-aaaaaaaaaa.wav", "train/b_bbbbb_30_.flac", "train/x/Yccccccccccc_0.000.ogg",
         "test/Y--ffffffff__30000_40000.wav", "test/ggggggggggg_20.wav"]  # fmt: skip


def write_list(path: Path, lines: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [
        "# Segments csv created Sun Mar  5 10:54:31 2017",
        f"# num_ytids={len(lines)}, num_segs={len(lines)}, num_unique_labels=3",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    rows = [f'{clip}, {start}, {end}, "{mids}"' for clip, start, end, mids in lines]
    path.write_text("\n".join([*head, *rows]) + "\n")


def record(path: Path, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int(files.sha256_text(path.name)[:8], 16)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(16000 * seconds))
    soundfile.write(path, noise, 16000)


@pytest.fixture
def entry() -> dict[str, Any]:
    return {
        "name": "small",
        "behaviour": 1,
        "reader": "audioset",
        "labels": "multi",
        "metric": "map",
        "classes": ["Speech", "Music", "Dog"],
        "mids": [SPEECH, MUSIC, DOG],
        "splits": ["train", "test"],
        "on_missing": "count",
        "lists": {"train": ["balanced.csv"], "test": ["eval.csv"]},
        "obtain": "take the lists from their authors",
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "AudioSet copy"
    write_list(root / "lists" / "balanced.csv", TRAIN)
    write_list(root / "eval.csv", TEST)
    for name in FOUND:
        record(root / name)
    return root


def test_every_form_of_name_is_found_and_holes_are_counted(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path, capsys: Any
) -> None:
    (tree / "train" / "ddddddddddd.wav").write_bytes(b"<html>no longer there")
    prepare(text(entry), tmp_path / "out", tree, workers=1)
    clips = Clips(tmp_path / "out")
    assert clips.ids.tolist() == [
        "--ffffffff_", "-aaaaaaaaaa", "b_bbbbb_30_", "ccccccccccc", "ggggggggggg"
    ]  # fmt: skip
    assert clips.splits.tolist() == ["test", "train", "train", "train", "test"]
    assert clips.labels.tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert clips.sources.tolist() == clips.ids.tolist()
    manifest = (tmp_path / "out" / "manifest.csv").read_text()
    assert all(f",{name}," in manifest for name in FOUND)
    for number in range(5):
        lines = manifest.splitlines()[1:]
        wave, _ = soundfile.read(tree / lines[number].split(",")[1], dtype="int16")
        tolerance = 2000 if lines[number].split(",")[1].endswith("ogg") else 1
        assert np.abs(clips.wave(number).astype(int) - wave).max() <= tolerance
    audit = files.read_json(tmp_path / "out" / "audit.json")
    lost = audit["left_out"]
    assert {key: lost["train"][key] for key in ("listed", "missing", "undecodable", "kept")} == {
        "listed": 5, "missing": 1, "undecodable": 1, "kept": 3
    }  # fmt: skip
    assert lost["train"]["classes"]["Dog"] == {
        "listed": 2, "missing": 0, "undecodable": 1, "kept": 1
    }  # fmt: skip
    assert lost["train"]["classes"]["Speech"]["missing"] == 1
    assert lost["test"]["missing"] == lost["test"]["undecodable"] == 0
    said = capsys.readouterr().out
    wanted = "left out: train 2 of 5 (1 missing, 1 undecodable), test 0 of 2 (0 missing, 0 undec"
    assert wanted in said
    assert "clip ddddddddddd (train/ddddddddddd.wav) cannot be decoded: it is a web page" in said
    assert "1 of 7 clips are missing" in said and "eeeeeeeeeee.*" in said


def test_a_class_left_without_clips_is_named_and_stops_nothing(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path, capsys: Any
) -> None:
    (tree / FOUND[2]).unlink()
    wider = {"classes": [*entry["classes"], "Cat"], "mids": [*entry["mids"], "/m/01yrx"]}
    prepare(text(entry | wider), tmp_path / "out", tree, workers=1)
    said = capsys.readouterr().out
    assert "split train has no clip of class 'Dog' (2 listed)." in said
    assert "split test has no clip of class 'Cat' (none listed)." in said
    assert files.read_json(tmp_path / "out" / "audit.json")["status"] == "passed"


def test_a_split_left_without_clips_stops(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    for name in FOUND[3:]:
        (tree / name).unlink()
    with pytest.raises(DataError, match="split test has none of its 2 clips left"):
        prepare(text(entry), tmp_path / "out", tree, workers=1)


def test_a_longer_recording_than_a_segment_is_not_guessed_at(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    record(tree / "ddddddddddd.wav", 11.5)
    record(tree / "eeeeeeeeeee.wav", 10.2)
    prepare(text(entry), tmp_path / "out", tree, workers=1)
    audit = files.read_json(tmp_path / "out" / "audit.json")
    (note,) = [note for note in audit["notes"] if note["kind"] == "undecodable"]
    assert note["sentence"].startswith("clip ddddddddddd (ddddddddddd.wav) lasts more than 11 s")
    assert "eeeeeeeeeee" in Clips(tmp_path / "out").ids


def test_the_same_audio_in_both_splits_is_noted_where_splits_are_published(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    (tree / FOUND[4]).write_bytes((tree / FOUND[0]).read_bytes())
    prepare(text(entry), tmp_path / "out", tree, workers=1)
    notes = files.read_json(tmp_path / "out" / "audit.json")["notes"]
    said = "clips -aaaaaaaaaa, ggggggggggg are the same audio in splits test and train"
    assert said in str(notes)


def test_further_recordings_of_a_clip_are_noted(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path, capsys: Any
) -> None:
    record(tree / "test" / "a_first" / "ggggggggggg.wav")
    prepare(text(entry), tmp_path / "out", tree, workers=1)
    said = capsys.readouterr().out
    assert "further recordings of clips that have one already: 1; the first" in said
    manifest = (tmp_path / "out" / "manifest.csv").read_text()
    assert ",test/a_first/ggggggggggg.wav," in manifest


def test_two_copies_have_two_hashes_of_ids(
    tree: Path, entry: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    hashes = []
    for copy in ("whole", "eroded"):
        prepare(text(entry), tmp_path / copy, tree, workers=1)
        clips = Clips(tmp_path / copy)
        hashes.append(ids_hash(clips.ids[clips.subset(0, "test")]))
        (tree / FOUND[4]).unlink(missing_ok=True)
    assert len(set(hashes)) == 2


def test_lists_lie_in_the_folder_or_one_below(tree: Path, entry: dict[str, Any]) -> None:
    assert reader.find_list(entry, tree, "balanced.csv") == tree / "lists" / "balanced.csv"
    with pytest.raises(DataError, match=r"no_such\.csv, nor does a folder right below .* take the"):
        reader.find_list(entry, tree, "no_such.csv")
    write_list(tree / "train" / "balanced.csv", TRAIN)
    with pytest.raises(
        DataError, match=r"several copies of balanced\.csv \(lists, train\); keep one"
    ):
        reader.rows(entry, tree)
    with pytest.raises(DataError, match="there is no folder"):
        reader.rows(entry, tree / "nowhere")
    with pytest.raises(DataError, match="no data_root"):
        reader.rows(entry, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"mids": [SPEECH]}, "needs an id .mids. for each of its 3 classes and has 1"),
     ({"lists": {"train": ["a"]}}, "'lists' must name the segment lists of each .*train, test"),
     ({"lists": None}, "'lists' must name the segment lists")],
)  # fmt: skip
def test_an_entry_that_does_not_fit_is_refused(
    tree: Path, entry: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        reader.rows(entry | change, tree)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'#NAME?, 30.000, 40.000, "{DOG}"', "line 5: '#NAME?' is no YouTube id"),
        (f'-0.00000123, 30.000, 40.000, "{DOG}"', "line 5: '-0.00000123' is no YouTube id"),
        (f'ccccccccccc, 30000, 40000, "{DOG}"', "line 5: '30000, 40000' is no begin and end"),
        (f'ccccccccccc,30,40,"{DOG}"', "line 5: '30, 40' is no begin and end"),
        (f"ccccccccccc, 30.000, 40.000, {DOG}", "line 5: its classes do not stand in double"),
        (f'ccccccccccc, 30.000, 40.000, "{DOG}",,', "line 5: its classes do not stand in double"),
        ("ccccccccccc", "line 5: '' is no begin and end"),
        ('ccccccccccc, 30.000, 40.000, "/m/09x0s"', "line 5: '/m/09x0s' is no class"),
    ],
)
def test_a_list_that_a_spreadsheet_spoilt_is_refused_with_its_line(
    tree: Path, entry: dict[str, Any], line: str, said: str
) -> None:
    path = tree / "eval.csv"
    path.write_text("\n".join([*path.read_text().splitlines()[:4], line]) + "\n")
    with pytest.raises(DataError) as caught:
        reader.rows(entry, tree)
    assert f"{path}, {said}" in str(caught.value)
    assert "get the published list anew" in str(caught.value)


def test_a_list_without_header_or_cut_off_is_refused(tree: Path, entry: dict[str, Any]) -> None:
    path = tree / "eval.csv"
    whole = path.read_text().splitlines()
    path.write_text("\n".join(whole[:-1]) + "\n")
    with pytest.raises(DataError, match=r"eval\.csv has 1 segments where its second line says 2"):
        reader.rows(entry, tree)
    path.write_text("\n".join(whole[3:]) + "\n")
    with pytest.raises(DataError, match=r"eval\.csv, lines 1 to 3: the three lines"):
        reader.rows(entry, tree)


def shipped(name: str) -> dict[str, Any]:
    return Catalog(files.checkout() / "config").datasets[name] | {"name": name}


@pytest.mark.parametrize(
    ("name", "clips", "labels", "dashed"),
    [("balanced_train_segments.csv", 22160, 52882, 459), ("eval_segments.csv", 20371, 51804, 392)],
)
def test_the_published_lists(shared: Path, name: str, clips: int, labels: int, dashed: int) -> None:
    entry = shipped("audioset_balanced")
    names = dict(zip(entry["mids"], entry["classes"], strict=True))
    found = list(reader.segments(shared / "data/metadata/audioset" / name, names))
    assert len(found) == len({segment.clip for segment in found}) == clips
    assert sum(len(segment.mids) for segment in found) == labels
    assert sum(segment.clip.startswith("-") for segment in found) == dashed
    assert {mid for segment in found for mid in segment.mids} == set(names)
    assert len(names) == 527


def test_the_class_table_is_the_published_one(shared: Path) -> None:
    published = shared / "data/metadata/audioset/class_labels_indices.csv"
    ours = files.checkout() / "config/classes/audioset.csv"
    assert ours.read_bytes() == published.read_bytes()
    assert shipped("audioset")["mids"][:2] == ["/m/09x0r", "/m/05zppz"]
    assert shipped("audioset")["classes"][1] == "Male speech, man speaking"


def test_the_first_lines_of_the_unbalanced_list(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/metadata/audioset/unbalanced_train_segments.first20000.csv.gz"
    text = gzip.decompress(source.read_bytes()).decode()
    path = tmp_path / "unbalanced_train_segments.csv"
    path.write_text(text)
    entry = shipped("audioset")
    names = dict(zip(entry["mids"], entry["classes"], strict=True))
    with pytest.raises(DataError, match="has 20000 segments where its second line says 2041789"):
        list(reader.segments(path, names))
    path.write_text(text.replace("num_segs=2041789", "num_segs=20000"))
    assert len(list(reader.segments(path, names))) == 20000


def test_the_published_lists_with_a_tree_of_holes(shared: Path, tmp_path: Path) -> None:
    metadata = shared / "data/metadata/audioset"
    for name in ("balanced_train_segments.csv", "eval_segments.csv"):
        (tmp_path / name).symlink_to(metadata / name)
    (tmp_path / "audio").mkdir()
    for name in ("Y--4gqARaEJE.wav", "--PJHxphWEs_30.000.flac", "not one.wav"):
        (tmp_path / "audio" / name).touch()
    rows = reader.rows(shipped("audioset_balanced"), tmp_path)
    assert len(rows) == 22160 + 20371
    there = {row.clip: row for row in rows if not row.path.endswith(".*")}
    assert set(there) == {"--4gqARaEJE", "--PJHxphWEs"}
    assert there["--4gqARaEJE"].split == "test" and "Dog" in there["--4gqARaEJE"].labels
    assert there["--PJHxphWEs"].path == "audio/--PJHxphWEs_30.000.flac"
