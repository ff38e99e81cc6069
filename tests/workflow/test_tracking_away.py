"""A tracking server that is away costs a suite its MLflow copy and nothing else."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

REAL = "import sys; from cmkd.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def tracking(clean: Any, tmp_path: Path) -> Any:
    """A clone with fake verbs but for `track`."""
    folder = tmp_path / "fakes"
    shutil.copytree(clean.fakes, folder)
    (folder / "cmkd").rename(folder / "fake")
    lines = ["#!/bin/sh", f'test "$1" = track || exec "{folder}/fake" "$@"']
    (folder / "cmkd").write_text("\n".join([*lines, f'exec "{sys.executable}" -c \'{REAL}\' "$@"']))
    (folder / "cmkd").chmod(0o755)
    clean.fakes = folder
    return clean


@pytest.mark.slow
def test_without_the_server_all_runs_and_tables_are_made(tracking: Any) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://me:only-for-this-test@127.0.0.1:1"}
    done = tracking.snakemake("--cores", "2", **away, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 1
    assert "cmkd: the MLflow store http://127.0.0.1:1 does not answer" in done.stdout
    assert len(list(tracking.root.glob("results/runs/**/metrics.json"))) == 12
    assert (tracking.root / "results/tables/suite/leaderboard.csv").is_file()
    marker = tracking.root / "results/logs/track-suite.json"
    assert not marker.exists()
    for path in tracking.root.rglob("*"):
        assert not path.is_file() or b"only-for-this-test" not in path.read_bytes(), path
    tracking.run()  # the same again with a store of its own: only the copy was missing
    assert marker.is_file() and (tracking.root / "results/mlflow.db").is_file()
