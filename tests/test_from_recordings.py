"""From recordings to a leaderboard: FSD50K's layout, end to end, with weights chosen on val."""

import csv
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from sklearn.metrics import average_precision_score

from cmkd import cli, files
from cmkd.plan import suites
from cmkd.plan.suites import Suite

PARTS = (("dev", 60), ("eval", 24))
SET = {
    "input": {"mel_bins": 64, "shift_ms": 40.0, "frames": 64, "frequency_mask": 4, "time_mask": 8},
    "training": {
        **{"batch": 16, "epochs": 3, "warmup_steps": 0, "readout": "best", "readouts": ["last"]},
        "schedule": {"kind": "plateau", "factor": 0.5, "patience": 1},
    },
}


def run_all(suite: Suite) -> None:
    """Call the verbs of a suite in order, in this process, without the copy in MLflow."""
    script = suite.commands()
    Path("suite.sh").write_text(f"cmkd() {{ :; }}\n{script}")
    subprocess.run(["sh", "suite.sh"], check=True)  # only writes the wanted files
    for line in script.splitlines():
        verb, *arguments = shlex.split(line) if line.startswith("cmkd ") else [""]
        if verb and arguments[0] != "track":
            assert cli.main(arguments) == 0, line


def load(name: str, root: Path, **keys: Any) -> Suite:
    """Write and load a suite of small models on one dataset."""
    config = {
        **{"datasets": [name], "models": ["small_cnn", "small_ast"], "results": "out"},
        **{"pairs": ["small_cnn@small_ast", "small_cnn"], "prepared": "prepared"},
        **{"data_root": str(root), "set": SET, "execution": {"device": "cpu"}},
    }
    Path("suite.yaml").write_text(yaml.safe_dump(config | keys))
    return suites.load("suite.yaml")


@pytest.fixture(scope="module")
def few(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder above some clips of mix2, in place as Opus, that have all its classes."""
    source, few = shared / "data" / "mix2", tmp_path_factory.mktemp("few") / "mix2"
    (few / "ground_truth").mkdir(parents=True)
    shutil.copy(source / "ground_truth" / "vocabulary.csv", few / "ground_truth")
    for part, count in PARTS:
        with open(source / "ground_truth" / f"{part}.csv", newline="") as file:
            header, *lines = csv.reader(file)
        lines.sort(key=lambda line: (line[-1] == "train", int(line[0])))  # of dev, val first
        chosen = lines[: count // 3] + lines[-count:]
        (few / f"{part}_audio").mkdir()
        with open(few / "ground_truth" / f"{part}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *chosen])
        for line in chosen:
            clip = f"{part}_audio/{line[0]}.opus"
            (few / clip).symlink_to(source / clip)
    return few.parent


@pytest.fixture(scope="module")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the suite of a distilled CNN on those clips, run to its tables, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        suite = load("mix2", few)
        run_all(suite)
        yield suite


def rows(suite: Suite) -> dict[tuple[str, str], dict[str, str]]:
    """Return the leaderboard's lines by run and readout."""
    table = suite.results / "tables" / suite.name / "leaderboard.csv"
    with open(table, newline="") as file:
        return {(line["run"], line["readout"]): line for line in csv.DictReader(file)}


def score(path: Path) -> float:
    """Return scikit-learn's mean average precision over the classes that have a positive."""
    scores = np.load(path)
    there = scores["targets"].any(axis=0)
    values = [
        average_precision_score(scores["targets"][:, k], scores["logits"][:, k])
        for k in np.flatnonzero(there)
    ]
    return float(np.mean(values))


def test_every_run_of_real_clips_has_a_row_from_the_eval_set(finished: Suite) -> None:
    found = rows(finished)
    assert {run for run, _ in found} == {"small_cnn", "small_ast", "small_cnn@small_ast"}
    with open(finished.prepared / "mix2" / "manifest.csv", newline="") as file:
        splits = {line["clip"]: line["split"] for line in csv.DictReader(file)}
    for job in finished.jobs():
        folder = finished.folder(job)
        test, val = np.load(folder / "scores.npz"), np.load(folder / "scores-val.npz")
        assert {splits[clip] for clip in test["ids"]} == {"test"}
        assert {splits[clip] for clip in val["ids"]} == {"val"}
        expected = score(folder / "scores.npz")
        assert float(found[job.run, "best"]["value"]) == pytest.approx(expected, abs=1e-6)


def test_weights_are_those_of_the_best_epoch_on_val(finished: Suite) -> None:
    for job in finished.jobs():
        folder = finished.folder(job)
        with open(folder / "history.csv", newline="") as file:
            by_epoch = [float(line["val_map"]) for line in csv.DictReader(file)]
        assert len(by_epoch) == 3
        assert score(folder / "scores-val.npz") == pytest.approx(max(by_epoch), abs=1e-5)


def test_no_number_of_val_stands_in_a_table(finished: Suite) -> None:
    tables = finished.results / "tables" / finished.name
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    kept = {}
    for job in finished.jobs():
        folder = finished.folder(job)
        for name in ("history.csv", "scores-val.npz"):
            kept[folder / name] = (folder / name).read_bytes()
        text = (folder / "history.csv").read_text().splitlines()
        column = text[0].split(",").index("val_map")
        lines = [line.split(",") for line in text[1:]]
        spoilt = [[*line[:column], "0.123456", *line[column + 1 :]] for line in lines]
        (folder / "history.csv").write_text("\n".join([text[0], *map(",".join, spoilt)]) + "\n")
        (folder / "scores-val.npz").unlink()
    try:
        assert cli.main(["tables", "suite.yaml"]) == 0
        assert {path.name: path.read_bytes() for path in tables.iterdir()} == before
        assert not any(b"0.123456" in content for content in before.values())
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def test_metrics_of_a_run_name_the_split_and_have_no_other(finished: Suite) -> None:
    for job in finished.jobs():
        metrics = files.read_json(finished.folder(job) / "metrics.json")
        assert metrics["split"] == "test"
        assert metrics["value"] == metrics["readouts"]["best"]["value"]
        assert not any("val_" in key or key == "val" for key in json_keys(metrics))


def json_keys(value: Any) -> list[str]:
    """Return all keys of nested mappings."""
    if not isinstance(value, dict):
        return []
    return [*value, *(key for part in value.values() for key in json_keys(part))]


def test_a_made_tree_of_44100_hz_runs_to_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = tmp_path / "config"
    shutil.copytree(files.checkout() / "config", catalog)
    entry = {
        **{"reader": "fsd50k", "labels": "multi", "metric": "map"},
        **{"splits": ["train", "val", "test"], "classes": ["High", "Low"]},
    }
    datasets = catalog / "datasets.yaml"
    datasets.write_text(datasets.read_text() + yaml.safe_dump({"made": entry}))
    make_tree(tmp_path / "sounds" / "FSD50K")
    keys = {"pairs": ["alone"], "models": ["small_cnn"], "catalog": "config"}
    made = load("made", tmp_path / "sounds", **keys)
    run_all(made)
    row = rows(made)["small_cnn", "best"]
    assert row["metric"] == "map" and 0 < float(row["value"]) <= 1
    # each uploader of the eval set has two clips: intervals know four sources, not eight clips
    scores = np.load(made.folder(made.jobs()[0]) / "scores.npz")
    assert len(scores["ids"]) == 8 and set(scores["sources"]) == {f"u{n}" for n in range(8, 12)}


def make_tree(root: Path) -> None:
    """Write 24 short tones in FSD50K's published layout, with uploaders."""
    (root / "FSD50K.ground_truth").mkdir(parents=True)
    (root / "FSD50K.metadata").mkdir()
    (root / "FSD50K.ground_truth" / "vocabulary.csv").write_text("0,High,/m/1\n1,Low,/m/2\n")
    for part, numbers in (("dev", range(16)), ("eval", range(16, 24))):
        (root / f"FSD50K.{part}_audio").mkdir()
        lines, uploaders = ["fname,labels,mids" + (",split" if part == "dev" else "")], {}
        for number in numbers:
            labels = ("High", "Low", "High,Low")[number % 3]
            split = f",{'val' if number % 4 > 1 else 'train'}" if part == "dev" else ""
            lines.append(f'{number},"{labels}","{labels}"{split}')
            uploaders[str(number)] = {"uploader": f"u{number // 2}"}
            time = np.arange(round(44100 * (0.3 + 0.2 * (number % 5)))) / 44100
            tones = {"High": 3000 + 10 * number, "Low": 300 + number}
            wave = sum(np.sin(2 * np.pi * tones[name] * time) for name in labels.split(","))
            soundfile.write(root / f"FSD50K.{part}_audio" / f"{number}.wav", 0.2 * wave, 44100)
        (root / "FSD50K.ground_truth" / f"{part}.csv").write_text("\n".join(lines))
        path = root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
        path.write_text(json.dumps(uploaders))
