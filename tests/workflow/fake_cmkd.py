"""A stand-in for `cmkd`: its verbs write tiny files of the right names, hashes and records.

Environment: FAKE_LOG collects one JSON line a call; FAKE_DATA changes what `prepare` writes;
FAKE_FAIL fails the trainings whose folder holds that text; FAKE_PAUSE is seconds a training takes.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path


def main():
    verb, *rest = sys.argv[1:]
    note(sys.argv[1:])
    failure = VERBS[verb](options(rest))
    note(["end", verb])
    sys.exit(failure)


def note(line):
    with open(os.environ.get("FAKE_LOG", os.devnull), "a") as log:
        log.write(json.dumps(line) + "\n")


def options(rest):
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    for name in ("run", "prepared", "statistics", "teacher", "initial", "execution", "out"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("fold", "seed", "workers", "mel-bins", "frames"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--shift-ms", type=float)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--download-only", action="store_true")
    return parser.parse_args(rest)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_hash(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    Path(f"{path}.sha256").write_text(sha256(path) + "\n")


def prepare(given):
    if given.download_only:
        given.data_root.mkdir(parents=True, exist_ok=True)
        (given.data_root / "download.json").write_text("{}\n")
        return
    data = os.environ.get("FAKE_DATA", "as published")
    for name in ("manifest.csv", "clips.bin", "clips.csv"):
        with_hash(given.prepared / name, f"{name} {data}\n")
    (given.prepared / "audit.json").write_text("{}\n")
    (given.prepared / "recipe.yaml").write_bytes(given.file.read_bytes())


def stats(given):
    made = {"manifest": sha256(given.prepared / "manifest.csv"), "fold": given.fold}
    with_hash(given.out, json.dumps(made))


def train(given):
    if os.environ.get("FAKE_FAIL", "\0") in str(given.run):
        return "this training was told to fail"
    time.sleep(float(os.environ.get("FAKE_PAUSE", "0")))
    inputs = {
        "format": 1,
        "fold": given.fold,
        "seed": given.seed,
        "manifest": sha256(given.prepared / "manifest.csv"),
        "statistics": sha256(given.statistics),
        "teacher": sha256(given.teacher / "weights.safetensors") if given.teacher else None,
        "initial": sha256(given.initial) if given.initial else None,
    }
    given.run.mkdir(parents=True, exist_ok=True)
    (given.run / "weights.safetensors").write_bytes(os.urandom(16))
    (given.run / "history.csv").write_text("epoch\n")
    (given.run / "cost.json").write_text("{}\n")
    (given.run / "inputs.json").write_text(json.dumps(inputs))
    (given.run / "recipe.yaml").write_bytes(given.file.read_bytes())


def evaluate(given):
    (given.run / "scores.npz").write_text("scores\n")
    (given.run / "cost-evaluate.json").write_text("{}\n")
    metrics = {
        "recipe": sha256(given.run / "recipe.yaml")[:16],
        "weights": sha256(given.run / "weights.safetensors"),
    }
    (given.run / "metrics.json").write_text(json.dumps(metrics))


def tables(given):
    suite = dict(re.findall(r"^(name|results): (.*)$", given.file.read_text(), re.MULTILINE))
    results = Path(suite.get("results", "results"))
    folder, figures = results / "tables" / suite["name"], results / "figures" / suite["name"]
    found = sorted(results.glob("runs/**/metrics.json"))
    datasets = {path.parts[len(results.parts) + 1] for path in found}
    for made in (folder, figures):
        made.mkdir(parents=True, exist_ok=True)
    for name in (f"{kind}-{dataset}" for dataset in datasets for kind in ("gains", "cost")):
        for ending in ("png", "svg"):
            (figures / f"{name}.{ending}").write_text(name)
    for made in (*(folder / f"claims.{kind}" for kind in ("csv", "md")),
                 *(figures / f"claims.{kind}" for kind in ("png", "svg"))):  # fmt: skip
        made.write_text("claims")
    for kind in ("csv", "md", "html"):
        (folder / f"leaderboard.{kind}").write_text("".join(f"{path}\n" for path in found))


def track(given):
    print(f"replayed {given.file}")


VERBS = {
    "prepare": prepare,
    "stats": stats,
    "train": train,
    "evaluate": evaluate,
    "tables": tables,
    "track": track,
}

if __name__ == "__main__":
    main()
