"""Train or evaluate in a process of its own, held where asked, and end as the verb would.

Called with one JSON argument: {"stage", "train": arguments of train, "gates": {place: file}}. At a
place (`step`, but for the first two, `history` or `scores`) it waits until the file is there.
"""

import itertools
import json
import sys
import time
from pathlib import Path

from cmkd.errors import CmkdError
from cmkd.learning import fit, outputs
from cmkd.learning.train import train
from cmkd.scoring.evaluate import evaluate
from cmkd.scoring.splits import Split


def held(function, gate, free=0):
    """Return a function that waits for a gate before it does its work, but for the first calls."""
    calls = itertools.count()

    def later(*given):
        while next(calls) >= free and not Path(gate).exists():
            time.sleep(0.02)
        return function(*given)

    return later if gate else function


def main() -> int:
    """Do the job and return the verb's exit code."""
    order = json.loads(sys.argv[1])
    gates = order["gates"]
    fit._step = held(fit._step, gates.get("step"), 2)
    outputs.history_text = held(outputs.history_text, gates.get("history"))
    Split.logits = held(Split.logits, gates.get("scores"))
    paths = ("wanted", "run", "prepared", "statistics", "teacher", "initial")
    given = {key: Path(value) if value and key in paths else value
             for key, value in order["train"].items()}  # fmt: skip
    try:
        if order["stage"] == "train":
            train(**given)
        else:
            evaluate(given["run"], given["prepared"], given["execution"])
    except CmkdError as error:
        print(f"cmkd: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
