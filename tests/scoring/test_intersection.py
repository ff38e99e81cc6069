"""`cmkd evaluate --ids`: runs scored again on some clips, from their stored logits alone."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import average_precision_score, roc_auc_score

from cmkd import cli, files
from cmkd.errors import DataError, RunError
from cmkd.scoring import intersection
from cmkd.scoring.scores import ids_hash, write_scores

IDS = np.array([f"-clip{number:02d}" for number in range(40)])
READOUTS = {"last": "", "averaged": "-averaged"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    recipe: dict[str, Any] = {
        "run": "small_cnn", "depth": 0,
        "dataset": {"name": "many", "labels": "multi", "classes": 3, "metric": "map"},
        "input": {}, "model": {}, "objective": {},
        "training": {"readout": "last", "readouts": ["averaged"]},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    random = np.random.default_rng(3)
    targets = (random.random((40, 3)) < 0.3).astype(np.uint8)
    targets[:, 2] = np.arange(40) == 39
    for suffix in READOUTS.values():
        logits = random.normal(size=(40, 3)).astype(np.float32) + targets
        write_scores(folder / f"scores{suffix}.npz", IDS, ["a", "b", "c"], logits, targets, IDS)
    metrics = {
        "format": 1, "recipe": files.sha256_file(folder / "recipe.yaml")[:16], "weights": "f" * 64,
        "metric": "map", "value": 0.5, "ids_hash": ids_hash(IDS),
        "readouts": {"last": {"weights": "f" * 64}, "averaged": {"weights": "e" * 64}},
    }  # fmt: skip
    files.write_json(folder / "metrics.json", metrics)
    return folder


def listed(tmp_path: Path, *ids: str) -> Path:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids) + "\n")
    return path


def test_numbers_are_scikit_learns_on_the_chosen_clips(run: Path, tmp_path: Path, capsys) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    chosen = IDS[:25][::-1]
    (path,) = intersection.evaluate_on([run], listed(tmp_path, *chosen, "", "gone1", "gone2"))
    assert path.name == f"metrics-{ids_hash(chosen)[:12]}.json"
    result = files.read_json(path)
    for name, suffix in READOUTS.items():
        with np.load(run / f"scores{suffix}.npz") as arrays:
            logits, targets = arrays["logits"][:25, :2], arrays["targets"][:25, :2]
        values = result["readouts"][name]["metrics"]
        assert values["map"] == pytest.approx(average_precision_score(targets, logits))
        assert values["auc"] == pytest.approx(roc_auc_score(targets, logits))
    assert result["value"] == result["readouts"]["last"]["metrics"]["map"]
    assert result["readouts"]["averaged"]["weights"] == "e" * 64
    assert (result["n"], result["classes_scored"]) == (25, 2)
    assert result["ids_hash"] == ids_hash(chosen)
    assert result["asked"]["clips"] == 27 and result["asked"]["not_scored"] == ["gone1", "gone2"]
    assert {p.name: p.read_bytes() for p in run.iterdir() if p != path} == before
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"evaluate {run}: last: map {result['value']:.4f}, auc ")
    assert f"on 25 clips, 2 classes scored, ids_hash {ids_hash(chosen)[:12]}" in said[1]
    assert said[2] == "  2 of 27 ids were not scored: gone1, gone2"


def test_all_clips_give_the_numbers_of_the_whole_split(run: Path, tmp_path: Path) -> None:
    result = intersection.score(run, IDS.tolist(), tmp_path)
    assert result["ids_hash"] == ids_hash(IDS) and result["n"] == 40
    assert result["classes_scored"] == 3 and result["asked"]["not_scored"] == []


def test_several_runs_on_other_copies_are_said_to_differ(run: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    with np.load(run / "scores.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    for suffix in READOUTS.values():
        write_scores(other / f"scores{suffix}.npz", IDS[3:], kept["classes"], kept["logits"][3:],
                     kept["targets"][3:], IDS[3:])  # fmt: skip
    metrics = files.read_json(other / "metrics.json") | {"ids_hash": ids_hash(IDS[3:])}
    files.write_json(other / "metrics.json", metrics)
    both = listed(tmp_path, *IDS)
    intersection.evaluate_on([run, other], both)
    said = capsys.readouterr().out
    assert "3 of 40 ids were not scored: -clip00, -clip01, -clip02\n" in said
    assert "note: these runs were scored on 2 different sets of the clips" in said
    intersection.evaluate_on([run, other], listed(tmp_path, *IDS[5:]))
    assert "note:" not in capsys.readouterr().out
    assert len(list(other.glob("metrics-*.json"))) == len(list(run.glob("metrics-*.json"))) == 2


def test_what_cannot_be_scored_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 1 ids in .*'x.wav'.*such as '-clip00'"):
        intersection.evaluate_on([run], listed(tmp_path, "x.wav"))
    with pytest.raises(DataError, match="holds no clip id: write one a line"):
        intersection.evaluate_on([run], listed(tmp_path, ""))
    with pytest.raises(DataError, match="nowhere.txt cannot be read"):
        intersection.evaluate_on([run], tmp_path / "nowhere.txt")
    with np.load(run / "scores.npz") as arrays:
        unlabelled = IDS[~arrays["targets"].any(axis=1)][:1]
    with pytest.raises(DataError, match="has a label, so that map is undefined"):
        intersection.evaluate_on([run], listed(tmp_path, *unlabelled))


def test_a_run_that_is_none_is_refused(run: Path, tmp_path: Path) -> None:
    ids = listed(tmp_path, IDS[0])
    with pytest.raises(RunError, match="holds no finished run"):
        intersection.evaluate_on([tmp_path], ids)
    (run / "scores-averaged.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"scores-averaged\.npz is absent or damaged"):
        intersection.evaluate_on([run], ids)
    shutil.copy(run / "scores.npz", run / "scores-averaged.npz")
    known = files.read_json(run / "metrics.json")
    files.write_json(run / "metrics.json", known | {"ids_hash": "0" * 64})
    with pytest.raises(RunError, match=r"scores\.npz is of other clips than metrics\.json"):
        intersection.evaluate_on([run], ids)
    files.write_json(run / "metrics.json", known | {"recipe": "0" * 16})
    with pytest.raises(RunError, match=r"metrics\.json is of another recipe"):
        intersection.evaluate_on([run], ids)


def test_the_verb_needs_neither_torch_nor_the_prepared_folder(run: Path, tmp_path: Path) -> None:
    ids = listed(tmp_path, *IDS[:9])
    code = (
        "import sys; from cmkd import cli; "
        f"code = cli.main(['evaluate', '--ids', {str(ids)!r}, '--run', {str(run)!r}]); "
        "print(code, sorted({'torch', 'soundfile', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_verb_says_what_it_lacks(run: Path, capsys) -> None:
    assert cli.main(["evaluate", "--run", str(run)]) == 2
    assert "needs --prepared" in capsys.readouterr().err
    assert cli.main(["evaluate", "--run", str(run), "--run", str(run), "--prepared", "x"]) == 2
    assert "one --run at a time" in capsys.readouterr().err
