"""Names of recordings of YouTube segments, and trees of any shape."""

from pathlib import Path

import pytest

from cmkd.data import youtube
from cmkd.errors import DataError

PLAIN, DASHED, LINED, Y = "ccccccccccc", "--4gqARaEJE", "_bbbbbb_30_", "Y0000000000"
STARTS = {PLAIN: 0.0, DASHED: 30.0, LINED: 30.0, Y: 0.0}


@pytest.mark.parametrize(
    ("name", "clip", "start"),
    [
        ("ccccccccccc.wav", PLAIN, None),
        ("deep/er/ccccccccccc.FLAC", PLAIN, None),
        ("Y--4gqARaEJE.wav", DASHED, None),
        ("--4gqARaEJE_30.000.opus", DASHED, 30.0),
        ("--4gqARaEJE_30.mp3", DASHED, 30.0),
        ("--4gqARaEJE_30000_40000.wav", DASHED, 30000.0),
        ("Y--4gqARaEJE_30.0-40.0.wav", DASHED, 30.0),
        ("--4gqARaEJE_30.000_40.000.m4a", DASHED, 30.0),
        ("_bbbbbb_30_.wav", LINED, None),
        ("Y_bbbbbb_30__30.wav", LINED, 30.0),
        ("Y0000000000.wav", Y, None),
        ("YY0000000000_0.wav", Y, 0.0),
        ("0000000000.wav", None, None),
        ("ccccccccccc", None, None),
        ("ccccccccccc.txt", None, None),
        ("._ccccccccccc.wav", None, None),
        ("ccccccccccc_x.wav", None, None),
        ("xccccccccccc.wav", None, None),
        ("ddddddddddd.wav", None, None),
    ],
)
def test_names_of_recordings(name: str, clip: str | None, start: float | None) -> None:
    assert youtube.read_name(name, STARTS) == (clip, start)


def made(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_first_by_path_is_taken_and_readable_ones_before_others(tmp_path: Path) -> None:
    root = made(tmp_path, "b/ccccccccccc.wav", "a/ccccccccccc.m4a", "c/ccccccccccc.flac")
    found = youtube.find(root, STARTS)
    assert found.paths == {PLAIN: "b/ccccccccccc.wav"}
    ((kind, sentence),) = found.notes
    assert kind == "second recording"
    assert sentence.startswith("further recordings of clips that have one already: 2;")
    assert "not a/ccccccccccc.m4a, c/ccccccccccc.flac." in sentence


def test_another_segment_of_the_video_is_not_the_clip(tmp_path: Path) -> None:
    root = made(tmp_path, "--4gqARaEJE_110000_120000.wav", "ccccccccccc_0.wav")
    found = youtube.find(root, STARTS)
    assert found.paths == {PLAIN: "ccccccccccc_0.wav"}
    said = found.notes[0][1]
    assert said.startswith("recordings whose names have other times than the lists: 1;")


def test_links_are_followed_once(tmp_path: Path) -> None:
    root = made(tmp_path / "root", "x/ccccccccccc.wav")
    disk = made(tmp_path / "disk", f"{DASHED}.wav")
    (root / "linked").symlink_to(disk)
    (root / "x" / "round").symlink_to(root)
    (root / "broken.wav").symlink_to(tmp_path / "nowhere")
    assert list(youtube.walk(root)) == ["broken.wav", f"linked/{DASHED}.wav", "x/ccccccccccc.wav"]
    assert youtube.find(root, STARTS).paths[DASHED] == f"linked/{DASHED}.wav"


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        list(youtube.walk(tmp_path / "nowhere"))
