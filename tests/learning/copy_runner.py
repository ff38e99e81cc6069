"""Train or evaluate in a process of its own, slowly where asked, and end as the verb would.

Called with one JSON argument: {"stage", "pause": seconds before each step or each split's scores,
"train": arguments of train}.
"""

import json
import sys
import time
from pathlib import Path

from cmkd.errors import CmkdError
from cmkd.learning import fit
from cmkd.learning.train import train
from cmkd.scoring.evaluate import evaluate
from cmkd.scoring.splits import Split


def slowed(function, pause):
    """Return a function that waits before it does its work."""

    def later(*given):
        time.sleep(pause)
        return function(*given)

    return later


def main() -> int:
    """Do the job and return the verb's exit code."""
    order = json.loads(sys.argv[1])
    fit._step = slowed(fit._step, order["pause"])
    Split.logits = slowed(Split.logits, order["pause"])
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
