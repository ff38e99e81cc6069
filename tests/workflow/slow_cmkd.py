"""The real verbs, with steps that take SLOW_STEP seconds; tables and track are stand-ins."""

import os
import sys
import time
from pathlib import Path

from cmkd import cli

FAKE = Path(__file__).with_name("fake_cmkd.py")


def main():
    if sys.argv[1] in ("tables", "track"):
        exec(compile(FAKE.read_text(), FAKE, "exec"), {"__name__": "__main__"})
    if sys.argv[1] == "train":
        from cmkd.learning import fit

        step, pause = fit._step, float(os.environ.get("SLOW_STEP", "0"))

        def later(*given):
            time.sleep(pause)
            step(*given)

        fit._step = later
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
