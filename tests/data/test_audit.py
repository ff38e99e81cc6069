from pathlib import Path
from typing import Any

import pytest

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data.catalog import Row
from cmkd.data.manifest import Decoded
from cmkd.errors import DataError

ENTRY = {"name": "pets", "labels": "single", "classes": ["dog", "hen"], "folds": [1, 2]}
ROWS = [
    Row("a", "a.wav", "1", ("dog",), "s1"),
    Row("b", "b.wav", "1", ("hen",), "s2"),
    Row("c", "c.wav", "2", ("dog",), "s3"),
    Row("d", "d.wav", "2", ("hen",), "s4"),
]


def table_findings(rows: list[Row], **changes: Any) -> list[str]:
    audit = audits.Audit()
    audits.check_table(ENTRY | changes, rows, audit)
    return [finding.sentence for finding in audit.findings]


def decoded(**changes: dict[str, Any]) -> dict[str, Decoded]:
    facts = {clip: {"samples": 5, "seconds": 1.0, "sha256": clip} for clip in "abcd"}
    return {clip: Decoded(clip, **(facts[clip] | changes.get(clip, {}))) for clip in "abcd"}


def audio(**changes: dict[str, Any]) -> audits.Audit:
    audit = audits.Audit()
    audits.check_audio(ROWS, decoded(**changes), audit)
    return audit


def test_a_sound_table_gives_no_findings() -> None:
    assert table_findings(ROWS) == []


def test_wrong_number_of_classes() -> None:
    assert table_findings(ROWS, classes=["dog", "hen", "cow"]) == [
        "the clips have 2 classes where datasets.yaml declares 3: no clip has cow."
    ]
    found = table_findings(ROWS, classes=["dog"])
    assert found[0].startswith("the clips have 2 classes where datasets.yaml declares 1: not decl")
    assert found[1] == "class 'hen' (b, d) is not declared; known: dog"


def test_a_misspelt_class_is_named_with_the_nearest() -> None:
    rows = [*ROWS[:3], Row("d", "d.wav", "2", ("hens",), "s4")]
    assert "class 'hens' (d) is not declared, did you mean 'hen'?" in table_findings(rows)


def test_one_source_in_two_folds_stops_unless_declared() -> None:
    rows = [*ROWS[:3], Row("d", "d.wav", "2", ("hen",), "s1")]
    (found,) = table_findings(rows)
    assert found.startswith("source s1 lies in folds 1 and 2: a, d; move them into one, or declare")
    audit = audits.Audit()
    oddity = {"allowed": ["s1", "s9"], "reason": "as published"}
    audits.check_table(ENTRY | {"sources_in_two_folds": oddity}, rows, audit)
    assert audit.findings == []
    assert [f.sentence for f in audit.declared] == [
        "source s1 lies in folds 1 and 2: a, d (as published)."
    ]
    assert "source s9 is declared" in audit.notes[0].sentence


def test_clips_without_a_source_are_not_one_source() -> None:
    rows = [Row(row.clip, row.path, row.split, row.labels, "") for row in ROWS]
    assert table_findings(rows) == []


def test_ids_labels_and_folds() -> None:
    assert table_findings([*ROWS, ROWS[0]]) == ["clip a has 2 rows: keep one."]
    extra = Row("e", "e.wav", "2", ("dog", "hen"), "s5")
    assert table_findings([*ROWS, extra]) == ["clip e has 2 labels where one is needed."]
    assert table_findings([*ROWS, extra], labels="multi") == []
    assert "fold or split '3' (f) is not declared; known: 1, 2" in table_findings(
        [*ROWS, Row("f", "f.wav", "3", ("dog",), "s6")]
    )
    assert table_findings(ROWS[:2])[0].startswith("fold or split '2' has no clips")
    assert table_findings([])[0].startswith("the dataset's table lists no clips")


def test_missing_clips_stop_or_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    stop, count = audits.Audit(), audits.Audit()
    entry = ENTRY | {"obtain": "fetch it."}
    left = audits.check_present(entry, ROWS, tmp_path, stop)
    assert [row.clip for row in left] == ["a"]
    assert [f.sentence for f in stop.findings] == [
        f"3 of 4 clips are missing under {tmp_path}: b.wav, c.wav, d.wav; fetch it."
    ]
    audits.check_present(entry | {"on_missing": "count"}, ROWS, tmp_path, count)
    assert count.findings == [] and count.notes[0].sentence.endswith("they are left out.")
    assert count.notes[0].clips == ("b", "c", "d")


def test_a_dataset_of_which_nothing_is_there_stops(tmp_path: Path) -> None:
    audit = audits.Audit()
    assert audits.check_present(ENTRY | {"on_missing": "count"}, ROWS, tmp_path, audit) == []
    assert audit.findings[0].sentence == f"none of 4 clips is under {tmp_path}: correct it."


def test_unusable_clips_are_named() -> None:
    audit = audio(b={"problem": "holds no samples (zero length)", "sha256": ""})
    assert [f.sentence for f in audit.findings] == [
        "clip b (b.wav) holds no samples (zero length)."
    ]


def test_same_audio_in_two_folds_stops_and_within_one_is_noted() -> None:
    across = audio(c={"sha256": "a"})
    assert [f.sentence for f in across.findings] == [
        "clips a, c are the same audio in folds 1 and 2: keep them in one fold."
    ]
    within = audio(b={"sha256": "a"})
    assert within.findings == []
    assert [f.sentence for f in within.notes] == ["clips a, b are the same audio within fold 1."]


def test_unusable_clips_are_not_the_same_audio() -> None:
    broken = {"problem": "is not a file", "sha256": ""}
    assert [f.kind for f in audio(a=broken, c=broken).findings] == ["undecodable"] * 2


def test_levels_and_what_files_tell_are_noted() -> None:
    audit = audio(a={"scale": 2.0}, b={"clipped": 7}, c={"notes": ("is cut off",)})
    assert audit.findings == []
    assert [f.sentence for f in audit.notes] == [
        "clip c (c.wav) is cut off.",
        "clip a reaches 2 where full scale is 1: all its samples were divided by that.",
        "resampling drove 7 samples of 1 clips beyond full scale; they were clipped (b).",
    ]


def test_all_findings_are_written_and_raised_together(tmp_path: Path) -> None:
    audit = audio(a={"problem": "is empty", "sha256": ""}, d={"sha256": "b"})
    path = tmp_path / "audit.json"
    audits.write(path, ENTRY, list(decoded(a={"problem": "is empty"}).values()), audit)
    with pytest.raises(DataError) as caught:
        audits.raise_findings(ENTRY, audit, path)
    assert str(caught.value).splitlines() == [
        f"dataset pets: 2 findings stop the preparation (all in {path}):",
        "  clip a (a.wav) is empty.",
        "  clips b, d are the same audio in folds 1 and 2: keep them in one fold.",
    ]
    content = files.read_json(path)
    assert content["status"] == "stopped" and content["clips"] == 3
    assert [f["clips"] for f in content["findings"]] == [["a"], ["b", "d"]]
    audits.raise_findings(ENTRY, audits.Audit(), path)


def test_long_lists_are_cut_on_the_terminal_only() -> None:
    findings = [audits.Finding("x", f"s{n}.") for n in range(23)]
    lines = audits.sentences(findings)
    assert len(lines) == 21 and lines[-1] == "... and 3 more (x)."


def test_declared_oddities_can_be_read_back(tmp_path: Path) -> None:
    assert audits.declared(tmp_path) == []
    audit = audits.Audit()
    audit.declare("source", "source s1 lies in folds 1 and 2.", ["a"])
    audits.write(tmp_path / "audit.json", ENTRY, [], audit)
    assert audits.declared(tmp_path) == ["source s1 lies in folds 1 and 2."]


def test_clips_twice_are_counted() -> None:
    assert table_findings([*ROWS, ROWS[2], ROWS[2]]) == ["clip c has 3 rows: keep one."]


def test_where_clips_may_be_lost_the_list_of_classes_is_fixed() -> None:
    assert table_findings(ROWS, classes=["dog", "hen", "cow"], on_missing="count") == []
    found = table_findings(ROWS, classes=["dog", "cow"], on_missing="count")
    assert len(found) == 1 and found[0].startswith("class 'hen' (b, d) is not declared")
