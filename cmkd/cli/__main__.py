"""`python -m cmkd.cli VERB`, as `cmkd VERB`."""

import sys

from cmkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
