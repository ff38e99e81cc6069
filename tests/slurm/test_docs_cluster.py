"""docs/cluster.md: its commands, in order, on a real Slurm; its links; what of it cannot be run."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster.md"
# Beginnings of commands that are not run here, and why.
NOT_RUN = {
    "git clone": "the test makes its own clone",
    "module load": "there are no environment modules on this machine",
    "python3 -m venv": "the environment of the tests is used",
    "pip install": "it would fetch 6 GB",
    "pip download": "it would fetch 6 GB",
    "tmux": "it wants a terminal; Snakemake is started without one",
    "cmkd ui": "it serves pages until it is ended; tests/test_tracking.py starts it",
}
# What commands must say besides ending well.
SAYS = {
    "cmkd doctor --slurm --write": "is written",
    "cmkd doctor --slurm": " 0 wrong",
    "cmkd leaderboard config/demo.yaml": "small_cnn",
    "snakemake --cores all --profile slurm --configfile config/demo.yaml": "steps (100%) done",
    "cmkd leaderboard": "small_ast@small_cnn",
    "make tables": "leaderboard.md",
}
SHORT = {
    "models": ["small_cnn"],
    "pairs": ["alone"],
    "folds": [1],
    "set": {"training": {"epochs": 1, "batch": 16}},
}


def commands() -> list[str]:
    """Return the commands of the page, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line]


def run(command: str, work: Any) -> tuple[int, str]:
    """Run a command of the page as in a shell that has the environment activated."""
    process = subprocess.Popen(
        ["bash", "-e", "-c", f". .venv/bin/activate\n{command}"],
        cwd=work.root,
        env=work.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=900)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out


def installed(work: Any) -> None:
    """Make a clone look as after section 1: with an environment, and make content with it."""
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, work.root)
    (work.root / ".venv").mkdir()
    (work.root / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (work.root / ".venv" / ".installed").touch()


def test_every_command_is_run_or_excused() -> None:
    known = [one for one in commands() if not one.startswith(tuple(NOT_RUN))]
    assert len(known) >= 12
    assert all(any(one.startswith(name) for one in commands()) for name in NOT_RUN)
    assert set(SAYS) <= set(known)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)", PAGE.read_text())
    assert len(links) >= 5
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def test_its_table_names_lines_of_the_form() -> None:
    form = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    table = PAGE.read_text().split("| line of the form |")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    names = [name for cell in cells for name in re.findall(r"`([\w-]+)", cell)]
    assert len(names) >= 10
    for name in names:
        assert re.search(rf"^ *(# )?{name}:.*# <-", form, re.M), name


@pytest.mark.slurm_all
@pytest.mark.slurm(limit=2400)
def test_the_page_leads_to_a_leaderboard(cluster: Any, clone: Callable[..., Any]) -> None:
    work = clone(cluster)
    installed(work)
    work.edit("config/demo.yaml", SHORT)
    # The published form, but for waits that suit a test.
    form = (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
    waits = "max-status-checks-per-second: 1\nslurm-init-seconds-before-status-checks: 2\n"
    form = form.replace("max-status-checks-per-second: 0.2\n", waits)
    assert waits in form
    (work.root / "profiles" / "slurm" / "config.yaml").write_text(form)
    recordings = str(work.root / "recordings" / "ESC-50-master")
    for command in commands():
        if not command.startswith(tuple(NOT_RUN)):
            code, out = run(command.replace("/shared/ESC-50-master", f"'{recordings}'"), work)
            assert code == 0, f"{command}\n{out}"
            assert SAYS.get(command, "") in out, f"{command}\n{out}"
