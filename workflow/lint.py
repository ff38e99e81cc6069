"""`snakemake --lint` without the complaints that cannot be avoided: python workflow/lint.py"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The package is installed by pip, and what a GPU needs comes with the machine: one environment,
# Snakemake's own, serves all rules.
UNAVOIDABLE = ("Specify a conda environment or container for each rule.",)
HEAD, COMPLAINT = "Lints for ", "    * "


def complaints(text: str) -> list[str]:
    """Return what lint says, a line each, but for what cannot be avoided."""
    found, place = [], ""
    for line in text.splitlines():
        if line.startswith(HEAD):
            place = line.removeprefix(HEAD)
        elif line.startswith(COMPLAINT):
            found.append(f"{place} {line.removeprefix(COMPLAINT).rstrip(':')}")
    return [line for line in found if not line.endswith(UNAVOIDABLE)]


def main() -> int:
    """Print the complaints; return 1 if there are any or lint itself failed."""
    command = [Path(sys.executable).parent / "snakemake", "--lint"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode and HEAD not in said:
        print(said)
        return 1
    left = complaints(said)
    print("\n".join(left), end="\n" if left else "")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
