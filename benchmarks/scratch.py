"""A checkout of its own for what a benchmark runs, gone when it is over."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("Snakefile", "workflow", "profiles", "config")


@contextlib.contextmanager
def checkout() -> Iterator[Path]:
    """Copy what Snakemake reads into a temporary folder, work there, and give its path."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, root / name)
        os.chdir(root)
        try:
            yield root
        finally:
            os.chdir(before)
