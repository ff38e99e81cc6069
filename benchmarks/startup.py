"""CPU seconds that our Snakefiles add to Snakemake's own start: python benchmarks/startup.py"""

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
TIMES = 5


def cpu_seconds(snakefile: Path) -> float:
    """Return the CPU time of reading a Snakefile (and everything before it)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [SNAKEMAKE, "--list", "--snakefile", snakefile]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the median of a few starts with an empty Snakefile and with ours, taken in turn."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "Snakefile"
        empty.write_text("rule all:\n    shell: 'true'\n")
        pairs = [(cpu_seconds(empty), cpu_seconds(ROOT / "Snakefile")) for _ in range(TIMES)]
    alone, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"Snakemake alone    {alone:.2f} s CPU")
    print(f"with our Snakefile {ours:.2f} s CPU")
    print(f"difference         {ours - alone:.2f} s CPU (wanted: below 0.5)")


if __name__ == "__main__":
    main()
