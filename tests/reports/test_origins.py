"""The note on a row whose weights come from a run on another dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.reports import leaderboard, origins

NOTE = "2 of 4 test sources also lie in the training clips of many (Freesound)"


def manifest(folder: Path, lines: list[tuple[str, str, str]]) -> None:
    """Write a manifest of (clip, split, source)."""
    folder.mkdir(parents=True)
    rows = [f"{clip},p,{split},x,{source}" for clip, split, source in lines]
    (folder / "manifest.csv").write_text("\n".join(["clip,path,split,labels,source", *rows, ""]))


@pytest.fixture
def warm(made: Callable[..., Any], catalog: Path) -> Any:
    """A suite with a run on `tiny` (three folds) that starts from a run on `many`."""
    entries = yaml.safe_load((catalog / "datasets.yaml").read_text())
    entries["tiny"]["source_ids"] = {"freesound": "source"}
    entries["many"]["source_ids"] = {"freesound": "clip"}
    (catalog / "datasets.yaml").write_text(yaml.safe_dump(entries))
    word = {"warm": {"model": {"weights": "run:many/cnn_a"}}}
    (catalog / "variants.yaml").write_text(yaml.safe_dump(word))
    return made(models=["cnn_a"], pairs=["alone", "cnn_a+warm"], seeds=[0])


def prepared(folder: Any) -> None:
    """Write both manifests; sources 2 and 3 of four are trained on in `many`."""
    suite = folder.suite
    tiny = [(f"c{n}", str(1 + n % 3), str(n)) for n in range(4)]
    manifest(suite.prepared_folder("tiny"), tiny)
    many = [("0", "test", "u"), ("1", "val", "u"), ("2", "train", "u"), ("3", "train", "v")]
    manifest(suite.prepared_folder("many"), many)


def test_it_counts_test_sources_over_all_folds(warm: Any) -> None:
    prepared(warm)
    assert origins.notes(warm.suite, warm.jobs("cnn_a+warm")) == [NOTE]


def test_it_stands_only_in_rows_of_such_weights(warm: Any) -> None:
    prepared(warm)
    rows = {(r["dataset"], r["run"]): r["notes"] for r in
            leaderboard.leaderboard(warm.suite).to_dict("records")}  # fmt: skip
    assert {key for key, notes in rows.items() if NOTE in notes} == {("tiny", "cnn_a+warm")}


def test_without_a_manifest_or_without_ids_of_one_kind_nothing_is_said(
    warm: Any, catalog: Path
) -> None:
    jobs = warm.jobs("cnn_a+warm")
    assert origins.notes(warm.suite, jobs) == []
    prepared(warm)
    warm.suite.dataset("many")["source_ids"] = {"youtube": "clip"}
    assert origins.notes(warm.suite, jobs) == []
