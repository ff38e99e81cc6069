import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data import esc50 as esc50_reader
from cmkd.data import parts
from cmkd.data.clips import Clips
from cmkd.data.manifest import Decoded
from cmkd.data.prepare import prepare
from cmkd.errors import DataError

Text = Callable[[dict[str, Any]], str]
Published = Callable[..., Path]
NAMES = ["clips.bin", "clips.csv", "manifest.csv"]
WHOLE = sorted(["audit.json", "recipe.yaml", *NAMES, *(f"{name}.sha256" for name in NAMES)])


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_prepared_folder_is_complete_and_consistent(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root = published(lines, rate=44100)
    out = tmp_path / "out folder"
    prepare(text(esc50), out, root, workers=1)
    assert listing(out) == WHOLE
    assert (out / "recipe.yaml").read_text() == text(esc50)
    for name in NAMES:
        assert (out / f"{name}.sha256").read_text() == files.sha256_file(out / name) + "\n"
    header, first, *_ = (out / "manifest.csv").read_text().splitlines()
    assert header == "clip,path,split,labels,source,seconds,sample_rate,channels,sha256"
    digest = hashlib.sha256(Clips(out).wave(0).astype("<i2").tobytes()).hexdigest()
    assert first == f"1-10-A-0,audio/1-10-A-0.wav,1,dog,10,0.100000,44100,1,{digest}"
    assert (out / "clips.csv").read_text().splitlines()[:3] == [
        "clip,offset,samples",
        "1-10-A-0,0,1600",
        "1-11-A-6,1600,1600",
    ]


def test_one_and_two_workers_give_the_same_bytes(
    toy: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    recipe = text(toy | {"clips_per_class": 20})
    prepare(recipe, tmp_path / "one", None, workers=1)
    prepare(recipe, tmp_path / "two", None, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_is_prepared_stays_unless_asked_again(
    esc50: dict[str, Any],
    lines: list[Any],
    published: Published,
    text: Text,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = published(lines), tmp_path / "out"
    prepare(text(esc50), out, root, workers=1)
    before = contents(out)
    noise = np.random.default_rng(99).uniform(-0.5, 0.5, 1600)
    soundfile.write(root / "audio" / "1-10-A-0.wav", noise, 16000)
    prepare(text(esc50), out, root, workers=1)
    assert "is prepared already (--again makes it anew)" in capsys.readouterr().out
    assert contents(out) == before
    prepare(text(esc50), out, root, workers=1, again=True)
    changed = {name for name, content in contents(out).items() if content != before[name]}
    expected = {"clips.bin", "clips.bin.sha256", "manifest.csv", "manifest.csv.sha256"}
    assert changed == expected


def test_a_preparation_that_stops_leaves_the_audit_of_what_is_there(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root, out = published(lines), tmp_path / "out"
    prepare(text(esc50), out, root, workers=1)
    before = contents(out)
    (root / "audio" / "1-10-A-0.wav").unlink()
    with pytest.raises(DataError, match="audit-stopped.json"):
        prepare(text(esc50), out, root, workers=1, again=True)
    assert files.read_json(out / "audit-stopped.json")["status"] == "stopped"
    assert {name: (out / name).read_bytes() for name in before} == before
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 1600)
    soundfile.write(root / "audio" / "1-10-A-0.wav", noise, 16000)
    prepare(text(esc50), out, root, workers=1, again=True)
    assert not (out / "audit-stopped.json").exists()


def test_another_recipe_or_a_damaged_folder_is_made_anew(
    toy: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    prepare(text(toy), tmp_path, None, workers=1)
    before = contents(tmp_path)
    prepare(text(toy | {"seed": 4}), tmp_path, None, workers=1)
    assert contents(tmp_path)["clips.bin"] != before["clips.bin"]
    prepare(text(toy), tmp_path, None, workers=1)
    (tmp_path / "clips.bin").write_bytes(b"")
    prepare(text(toy), tmp_path, None, workers=1)
    assert contents(tmp_path) == before


def test_all_findings_stop_together_and_leave_only_the_audit(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root, out = published([*lines, ("2-10-B-0.wav", 2, 0, "dog", True, "10", "B")]), tmp_path / "o"
    audio = root / "audio"
    (audio / "1-11-A-6.wav").unlink()
    (audio / "2-12-A-0.wav").write_bytes(b"")
    (audio / "2-10-B-0.wav").write_bytes((audio / "1-10-A-0.wav").read_bytes())
    soundfile.write(audio / "2-13-A-6.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(DataError) as caught:
        prepare(text(esc50), out, root, workers=1)
    said = str(caught.value).splitlines()
    assert said[0].startswith("dataset tiny: 5 findings stop the preparation")
    assert [line.strip().split(":")[0].split(";")[0] for line in said[1:]] == [
        "source 10 lies in folds 1 and 2",
        f"1 of 5 clips are missing under {root}",
        "clip 2-12-A-0 (audio/2-12-A-0.wav) cannot be decoded",
        "clip 2-13-A-6 (audio/2-13-A-6.wav) holds 9 samples that are NaN or infinite.",
        "clips 1-10-A-0, 2-10-B-0 are the same audio in folds 1 and 2",
    ]
    assert listing(out) == [".building", "audit.json"]
    assert len(files.read_json(out / "audit.json")["findings"]) == 5


def test_a_failed_audit_leaves_what_was_prepared_before(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root, out = published(lines), tmp_path / "out"
    prepare(text(esc50), out, root, workers=1)
    before = contents(out)
    (root / "audio" / "1-10-A-0.wav").write_bytes(b"")
    with pytest.raises(DataError, match="1 finding stops the preparation"):
        prepare(text(esc50), out, root, workers=1, again=True)
    for name in (*NAMES, "recipe.yaml"):
        assert (out / name).read_bytes() == before[name]
    soundfile.write(root / "audio" / "1-10-A-0.wav", np.full(1600, 0.5), 16000)
    prepare(text(esc50), out, root, workers=1, again=True)
    assert listing(out) == WHOLE


def test_declared_oddities_are_printed_and_kept(
    esc50: dict[str, Any],
    lines: list[Any],
    published: Published,
    text: Text,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = published([*lines, ("2-10-B-0.wav", 2, 0, "dog", True, "10", "B")])
    entry = esc50 | {"sources_in_two_folds": {"allowed": ["10"], "reason": "as published"}}
    prepare(text(entry), tmp_path / "out", root, workers=1)
    sentence = "source 10 lies in folds 1 and 2: 1-10-A-0, 2-10-B-0 (as published)."
    assert f"declared oddity: {sentence}" in capsys.readouterr().out
    content = files.read_json(tmp_path / "out" / "audit.json")
    assert [oddity["sentence"] for oddity in content["declared"]] == [sentence]
    assert content["status"] == "passed"


def test_missing_clips_are_left_out_where_they_are_only_counted(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root = published([*lines, ("2-14-A-0.wav", 2, 0, "dog", True, "14", "A")])
    (root / "audio" / "2-14-A-0.wav").unlink()
    prepare(text(esc50 | {"on_missing": "count"}), tmp_path / "out", root, workers=1)
    assert len(Clips(tmp_path / "out")) == 4
    note = files.read_json(tmp_path / "out" / "audit.json")["notes"][0]
    assert note["clips"] == ["2-14-A-0"] and "1 of 5 clips are missing" in note["sentence"]


def test_float_audio_above_full_scale_is_scaled_and_said(
    esc50: dict[str, Any], lines: list[Any], published: Published, text: Text, tmp_path: Path
) -> None:
    root = published(lines)
    wave = np.linspace(-2.0, 2.0, 1601)
    soundfile.write(root / "audio" / "1-10-A-0.wav", wave, 16000, subtype="FLOAT")
    prepare(text(esc50), tmp_path / "out", root, workers=1)
    stored = Clips(tmp_path / "out").wave(0)
    assert np.abs(stored - wave * 16384).max() <= 1
    note = files.read_json(tmp_path / "out" / "audit.json")["notes"][0]
    assert note["sentence"].startswith("clip 1-10-A-0 reaches 2 where full scale is 1")


def _toy_parts(toy: dict[str, Any], folder: Path) -> list[parts.Part]:
    from cmkd.data import toy as reader

    rows = sorted(reader.rows(toy, None), key=lambda row: row.clip)
    return parts.divide(toy, None, rows, folder)


def test_parts_that_hold_are_not_made_again(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = _toy_parts(toy, tmp_path)
    first = list(parts.make_all(work, 1))
    assert len(work) == 3 and len(first) == 36
    work[1].samples.write_bytes(b"damaged")
    work[2].record.unlink()
    made: list[str] = []
    real = parts._synthesised

    def spy(part: parts.Part, row: parts.Row) -> tuple[Decoded, Any]:
        made.append(part.stem.name)
        return real(part, row)

    monkeypatch.setattr(parts, "_synthesised", spy)
    assert list(parts.make_all(work, 1)) == first
    assert set(made) == {"part-00001", "part-00002"}


def test_a_mended_recording_makes_its_part_anew(
    esc50: dict[str, Any], lines: list[Any], published: Published, tmp_path: Path
) -> None:
    root = published(lines)
    (part,) = parts.divide(esc50, root, esc50_reader.rows(esc50, root), tmp_path / "parts")
    path = root / "audio" / "1-10-A-0.wav"
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert "the file is empty" in parts.make(part)[0].problem
    path.write_bytes(whole)
    assert parts.make(part)[0].problem == ""


PREPARE = """
import sys
from pathlib import Path
from cmkd.data.prepare import prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]).read_text(), Path(sys.argv[2]), None, workers=2)
"""


def test_a_killed_preparation_goes_on_and_gives_the_same_bytes(
    toy: dict[str, Any], text: Text, tmp_path: Path
) -> None:
    recipe = text(toy | {"clips_per_class": 200, "seconds": 2.0})
    script, entry, out = tmp_path / "p.py", tmp_path / "e.yaml", tmp_path / "out"
    script.write_text(PREPARE)
    entry.write_text(recipe)
    command = [sys.executable, str(script), str(entry), str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((out / ".building").glob("part-*.json")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert _ends(process.pid)
    kept = {path: path.stat().st_mtime_ns for path in (out / ".building").glob("part-*.json")}
    assert kept and not (out / "recipe.yaml").exists()
    work = _toy_parts(toy | {"clips_per_class": 200, "seconds": 2.0}, out / ".building")
    list(parts.make_all(work, 1))
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert len(kept) < len(work)
    prepare(recipe, out, None, workers=1)
    prepare(recipe, tmp_path / "straight", None, workers=1)
    assert listing(out) == WHOLE and contents(out) == contents(tmp_path / "straight")


def _ends(group: int) -> bool:
    """Tell whether all processes of a group are gone within ten seconds; end them if not."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    return False


def test_a_dead_worker_is_said(
    toy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "make", os._exit)
    work = [9, 9]  # what `make` is called with: two processes that end at once
    with pytest.raises(DataError, match="a process that prepares clips died"):
        list(parts.make_all(work, 2))


def test_esc10_as_published(shared: Path, text: Text, tmp_path: Path) -> None:
    script = shared / "data" / "unpack"
    subprocess.run([sys.executable, script, "esc10", tmp_path], check=True, capture_output=True)
    catalogue = yaml.safe_load((files.checkout() / "config" / "datasets.yaml").read_text())
    prepare(text(catalogue["esc10"] | {"name": "esc10"}), tmp_path / "out", tmp_path, workers=2)
    clips = Clips(tmp_path / "out")
    assert len(clips) == 400 and clips.labels.sum(axis=0).tolist() == [40] * 10
    assert set(clips.lengths) == {80000}
    assert clips.classes[:2] == ("dog", "rooster")
    entry = catalogue["esc50"] | {"name": "esc50"}
    audit = audits.Audit()
    audits.check_present(entry, esc50_reader.rows(entry, tmp_path), tmp_path, audit)
    assert audit.findings[0].sentence.startswith("1600 of 2000 clips are missing under ")
    assert "1-100038-A-14.wav" in audit.findings[0].sentence
    assert " and 1597 more; download" in audit.findings[0].sentence
