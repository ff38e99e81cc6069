"""The stand-in for `cmkd` whose failing trainings leave the real record of FAKE_CAUSE.

`prepare` and `stats` are the real verbs where FAKE_REAL names them. Every call is noted with its
invocation in FAKE_INVOCATIONS.
"""

import os
import signal
import sys
from pathlib import Path

from cmkd import cli
from cmkd.errors import CmkdError, DataError, Stopped, TrainingError
from cmkd.scoring import failures

FAKE = Path(__file__).with_name("fake_cmkd.py")
CAUSES = {
    "data": DataError("clip 7.wav has no sound"),
    "non-finite": TrainingError("the loss is nan"),
    "time": Stopped("stopped after step 3"),
    "memory": MemoryError("no room"),
    "machine": OSError("input/output error"),
    "bug": ValueError("not foreseen"),
}


def main():
    with open(os.environ["FAKE_INVOCATIONS"], "a") as log:
        log.write(f"{sys.argv[1]} {os.environ.get(failures.INVOCATION)}\n")
    if sys.argv[1] in os.environ.get("FAKE_REAL", ""):
        sys.exit(cli.main(sys.argv[1:]))
    run = Path(sys.argv[sys.argv.index("--run") + 1]) if "--run" in sys.argv else Path()
    if sys.argv[1] == os.environ.get("FAKE_VERB", "train") and os.environ["FAKE_RUN"] in str(run):
        fail(run)
    exec(compile(FAKE.read_text(), FAKE, "exec"), {"__name__": "__main__"})


def fail(run):
    with open(os.environ["FAKE_LOG"], "a") as log:
        log.write('["failing"]\n')
    if os.environ["FAKE_CAUSE"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        with failures.recorded(run, sys.argv[1], "d"):
            raise CAUSES[os.environ["FAKE_CAUSE"]]
    except CmkdError as error:
        print(f"cmkd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
