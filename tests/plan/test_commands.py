import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

from cmkd.plan import recipes

FAKE = """#!/bin/sh
printf '%s\\n' "$*" >> calls
for file in "$@"; do case "$file" in .cmkd/*) test -f "$file" || exit 9;; esac; done
"""


def run_script(suite: Any, folder: Path) -> list[str]:
    """Run the script with a `cmkd` that writes down its arguments and looks for its files."""
    fake = folder / "bin" / "cmkd"
    fake.parent.mkdir()
    fake.write_text(FAKE)
    fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    subprocess.run(
        ["sh"], input=suite.commands(), text=True, check=True, cwd=folder, env=environment
    )
    return (folder / "calls").read_text().splitlines()


def test_the_script_calls_the_verbs_in_order(bench: Any) -> None:
    suite = bench.load(pairs=["b+warm@a"], folds=[2], results="my results")
    calls = run_script(suite, bench.folder)
    verbs = [call.split()[0] for call in calls]
    train = ["train", "evaluate"]
    assert verbs == ["prepare", "stats", "prepare", "stats", *train * 3, "tables", "track"]
    assert [call for call in calls if "--fold 0" in call][0].startswith("stats")
    last = calls[-4]
    run = "my results/runs/birds"
    assert f"--run {run}/b+warm@a/fold-2/seed-0 --fold 2 --seed 0" in last
    assert f"--teacher {run}/a/fold-2/seed-0" in last
    assert "--initial my results/runs/cars/a/fold-0/seed-0/weights.safetensors" in last
    assert "--statistics results/prepared/birds/stats/mel64-shift10-frames100/fold-2.json" in last


def test_the_script_writes_what_is_wanted(bench: Any) -> None:
    suite = bench.load(pairs=["b@a"], folds=[1], data_root="/da ta/it's")
    calls = run_script(suite, bench.folder)
    recipe = suite.recipe("birds", "b@a")
    wanted = bench.folder / f".cmkd/wanted/birds/b@a/{recipe.digest}.yaml"
    assert wanted.read_text() == recipe.text
    assert recipes.read_recipe(wanted) == recipe.values
    assert calls[0].startswith("prepare .cmkd/wanted/birds/prepared/")
    assert "--data-root /da ta/it's --workers 2" in calls[0]
    execution = next((bench.folder / ".cmkd/execution").iterdir())
    assert yaml.safe_load(execution.read_text()) == suite.execution


def test_weights_from_a_file_are_handed_on(bench: Any) -> None:
    bench.models["a"]["recipe"]["model"]["weights"] = "my weights.safetensors"
    script = bench.load(pairs=["a"], folds=[1]).commands()
    train = next(line for line in script.splitlines() if line.startswith("cmkd train"))
    words = shlex.split(train)
    assert words[words.index("--initial") + 1] == "my weights.safetensors"
