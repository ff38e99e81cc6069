"""Runs scored again on a list of test clips, from their stored logits: `cmkd evaluate --ids FILE`.

Two copies of AudioSet have other holes: only numbers on the clips that both hold can be compared.
No model, no recordings and no torch are needed. metrics.json is not touched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cmkd import files
from cmkd.errors import DataError, RunError
from cmkd.plan.recipes import digest, read_recipe
from cmkd.scoring import metrics
from cmkd.scoring.scores import ids_hash, read_npz

NAMED = 3
HASH_LENGTH = 12
PEEK = "its epoch was chosen on the test clips"
Arrays = Mapping[str, npt.NDArray[Any]]


def evaluate_on(runs: Sequence[Path], ids: Path) -> list[Path]:
    """Score every readout of runs on the clips of a file, one id a line; return what is written.

    Prints a line for each readout and writes metrics-HASH.json (the first 12 digits of the ids'
    hash) into each run's folder.

    Raises:
        DataError: the file names no clip that was scored, or clips whose metric is undefined.
        RunError: a folder holds no scored run, or its files do not fit together.
    """
    asked = read_ids(ids)
    written, hashes = [], {}
    scored = {run: score(run, asked, ids) for run in map(Path, runs)}  # all before one is written
    for run, result in scored.items():
        path = run / f"metrics-{result['ids_hash'][:HASH_LENGTH]}.json"
        files.write_json(path, result)
        print("\n".join(lines(run, result)), flush=True)
        hashes[run] = result["ids_hash"]
        written.append(path)
    if len(set(hashes.values())) > 1:
        print(
            f"note: these runs were scored on {len(set(hashes.values()))} different sets of the "
            f"clips in {ids}; compare only those with one ids_hash"
        )
    return written


def read_ids(path: Path) -> list[str]:
    """Return the clip ids of a file, each once, in its order; DataError if there are none."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; give a file of clip ids") from None
    found = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise DataError(f"{path} holds no clip id: write one a line, as in manifest.csv")
    return list(found)


def score(run: Path, asked: Sequence[str], source: Path) -> dict[str, Any]:
    """Return the content of metrics-HASH.json: that of metrics.json, and what was asked for."""
    recipe, known = _finished(run)
    headline = str(recipe["training"]["readout"])
    readouts: dict[str, Any] = {}
    for name in dict.fromkeys([headline, *recipe["training"].get("readouts", ())]):
        arrays = _scores(run, "" if name == headline else f"-{name}", known)
        chosen = _chosen(arrays["ids"], asked, source, run)
        weights = (known.get("readouts") or {}).get(name, {}).get("weights")
        readouts[name] = _numbers(arrays, chosen, recipe, source) | {"weights": weights}
    head = {key: value for key, value in readouts[headline].items() if key != "weights"}
    scored = set(arrays["ids"].tolist())
    return {
        **{key: known[key] for key in ("format", "recipe", "weights", "metric")},
        "readout": headline,
        "split": "test",
        **head,
        "readouts": {
            name: {key: of[key] for key in ("value", "metrics", "weights")}
            for name, of in readouts.items()
        },
        "asked": {
            "clips": len(asked),
            "ids_hash": ids_hash(asked),
            "not_scored": [name for name in asked if name not in scored],
        },
    }


def _scores(run: Path, suffix: str, known: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return a readout's scores; RunError unless they are of the clips of metrics.json."""
    path = run / f"scores{suffix}.npz"
    arrays = _read(path)
    if ids_hash(arrays["ids"]) != known["ids_hash"]:
        raise RunError(f"{path} is of other clips than metrics.json: evaluate this run again")
    return arrays


def lines(run: Path, result: Mapping[str, Any]) -> list[str]:
    """Return what is printed of one run: a line a readout, and the clips that were not scored."""
    about = (
        f"{result['n']} clips, {result['classes_scored']} classes scored, "
        f"ids_hash {result['ids_hash'][:HASH_LENGTH]}"
    )
    said = []
    for name, of in result["readouts"].items():
        values = ", ".join(
            f"{key} {value:.4f}" for key, value in of["metrics"].items() if value is not None
        )
        mark = f" ({PEEK})" if name == "peek" else ""
        said.append(f"evaluate {run}: {name}{mark}: {values} on {about}")
    lost = result["asked"]["not_scored"]
    if lost:
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        few = ", ".join(lost[:NAMED]) + more
        said.append(f"  {len(lost)} of {result['asked']['clips']} ids were not scored: {few}")
    return said


def _finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recipe and metrics of a finished run; RunError if it is none."""
    try:
        known = files.read_json(run / "metrics.json")
        text = (run / "recipe.yaml").read_text(encoding="utf-8")
        fits = known["recipe"] == digest(text) and known["ids_hash"] and known["weights"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run} holds no finished run ({error}): train and evaluate it first"
        ) from None
    if not fits:
        raise RunError(f"{run}: metrics.json is of another recipe; evaluate this run again")
    return read_recipe(run / "recipe.yaml"), known


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a scores file; RunError if it is absent or damaged."""
    arrays = read_npz(path)
    if arrays is None or not {"ids", "logits", "targets"} <= set(arrays):
        raise RunError(f"{path} is absent or damaged: evaluate this run again (cmkd evaluate)")
    return arrays


def _chosen(
    ids: npt.NDArray[np.str_], asked: Sequence[str], source: Path, run: Path
) -> npt.NDArray[np.bool_]:
    """Return which of the scored clips are asked for; DataError if none is."""
    chosen = np.isin(ids, np.array(asked, dtype=np.str_))
    if not chosen.any():
        raise DataError(
            f"none of the {len(asked)} ids in {source} (such as '{asked[0]}') is among the "
            f"{len(ids)} clips that {run} was scored on (such as '{ids[0]}'); ids are those of "
            "manifest.csv, without endings"
        )
    return chosen


def _numbers(
    arrays: Arrays, chosen: npt.NDArray[np.bool_], recipe: Mapping[str, Any], source: Path
) -> dict[str, Any]:
    """Return value, metrics, number of clips and classes, and the hash of the ids."""
    targets, kind = arrays["targets"][chosen], recipe["dataset"]
    values = metrics.all_metrics(arrays["logits"][chosen], targets, kind["labels"])
    value = values[kind["metric"]]
    if value is None:
        raise DataError(
            f"none of the clips in {source} has a label, so that {kind['metric']} is undefined"
        )
    return {
        "value": value,
        "metrics": values,
        "n": int(chosen.sum()),
        "classes_scored": metrics.classes_scored(targets),
        "ids_hash": ids_hash(arrays["ids"][chosen]),
    }
