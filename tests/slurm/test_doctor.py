"""The doctor on real clusters: it finds what is wrong, fills the form, and the form then works."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CMKD = (sys.executable, "-m", "cmkd.cli")
Make = Callable[..., Any]


@pytest.fixture
def doctor(clone: Make) -> Make:
    """Return a function that runs the doctor in a clone with the published form."""
    places: dict[str, Any] = {}

    def run(on: Any, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        name = str(on.folder)
        if name not in places:
            places[name] = clone(on, name=on.folder.name, fake=True)
            shutil.copy(ROOT / "profiles/slurm/config.yaml", form_of(places[name]))
        own = places[name].environment(**environment)
        own["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            [*CMKD, "doctor", "--slurm", *options],
            cwd=places[name].root,
            env=own,
            capture_output=True,
            text=True,
            timeout=120,
        )
        done.clone = places[name]  # type: ignore[attr-defined]
        return done

    return run


def form_of(work: Any) -> Path:
    """Return the path of a clone's form."""
    path: Path = work.root / "profiles" / "slurm" / "config.yaml"
    return path


def replaced(work: Any, *pairs: tuple[str, str]) -> None:
    """Replace pieces of a clone's form."""
    text = form_of(work).read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    form_of(work).write_text(text)


def words(text: str) -> str:
    """Return a text with its lines joined."""
    return " ".join(text.split())


def test_the_form_is_filled_and_all_is_well_on_nodes_too(cluster: Any, doctor: Make) -> None:
    filled = doctor(cluster, "--write")
    assert filled.returncode == 0, filled.stderr
    assert "+    slurm_partition: main" in filled.stdout
    values = yaml.safe_load(form_of(filled.clone).read_text())
    # Nodes of 8 processors, 64000 MB and 2 GPUs, a day at most: half a node a GPU.
    train = values["set-resources"]["train"]
    assert (train["cpus_per_task"], train["runtime"]) == (4, 720)
    assert train["mem_mb"] == "min(32000 * attempt, 64000)"
    checked = doctor(cluster)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    said = words(checked.stdout)
    assert "CUDA_VISIBLE_DEVICES=" in said
    assert "srun: works inside a job, as Snakemake calls it" in said
    assert "sacct answers" in said
    # Accounts lag a little.
    cluster.wait(
        lambda: [job["state"] for job in cluster.jobs()][-2:] == ["COMPLETED"] * 2, 60, "two probes"
    )
    assert "nothing to fill in" in doctor(cluster, "--write").stdout


def test_what_is_wrong_is_said_with_what_to_change(cluster: Any, doctor: Make) -> None:
    first = doctor(cluster, "--no-job")
    assert first.returncode == 0, first.stdout
    replaced(
        first.clone,
        ("# slurm_partition: NAME   # <- partition", "slurm_partition: mian # <- partition"),
        ("runtime: 240 ", "runtime: 9999 "),
        ("min(8000 * attempt, 16000)", "65000"),
    )
    found = doctor(cluster, "--no-job")
    assert found.returncode == 2
    said = words(found.stdout)
    assert "no partition 'mian', did you mean 'main'?" in said
    assert "9999 minutes, 'main' allows 1440" in said
    assert "runtime: 1440" in said
    assert "stats: no node of 'main' has 1 processors, 65000 MB" in said
    # Slurm itself agrees.
    with pytest.raises(Exception, match="not available"):
        cluster.run("sbatch", "--test-only", "--mem", "65000", "--wrap", "true")


@pytest.mark.slurm_all
def test_preempted_partitions_are_told_apart(cluster: Any, doctor: Make) -> None:
    name = doctor(cluster, "--no-job").clone
    for partition, words_ in {"cancel": "(CANCEL)", "grace": "(REQUEUE, 10 s to end)"}.items():
        shutil.copy(ROOT / "profiles/slurm/config.yaml", form_of(name))
        line = ("# slurm_partition: NAME   # <- partition", f"slurm_partition: {partition} # <-")
        replaced(name, line)
        assert f"'{partition}' can be preempted {words_}" in words(
            doctor(cluster, "--no-job").stdout
        )


def test_a_cluster_without_accounts_is_well_too(plain_cluster: Any, doctor: Make) -> None:
    filled = doctor(plain_cluster, "--write")
    assert filled.returncode == 0, filled.stderr
    assert "slurm_account" not in yaml.safe_load(form_of(filled.clone).read_text())
    checked = doctor(plain_cluster)
    assert checked.returncode == 0, checked.stdout
    assert "squeue remembers finished jobs for 300 s" in words(checked.stdout)


def test_a_srun_that_relies_on_a_variable_is_found(
    cluster: Any, doctor: Make, tmp_path: Path
) -> None:
    """Without the kit's srun, as on a site that has no /etc/slurm/slurm.conf."""
    doctor(cluster, "--write")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    found = doctor(cluster, PATH=path)
    assert found.returncode == 2
    assert "srun fails inside a job, as Snakemake calls it" in words(found.stdout)
    bare = doctor(cluster, "--no-job", PATH=path)
    assert "Slurm is found by SLURM_CONF alone" in words(bare.stdout)


@pytest.mark.slurm_all
def test_results_that_nodes_do_not_see_are_found(cluster: Any, doctor: Make) -> None:
    """A folder that is gone on the node stands for a file system that is not shared."""
    filled = doctor(cluster, "--write")
    hidden = 'echo "$*" > /dev/null; for o in "$@"; do :; done; '
    fake = filled.clone.root / "bin"
    fake.mkdir()
    # sbatch that gives jobs another root: the results folder's path leads nowhere there.
    sbatch = fake / "sbatch"
    sbatch.write_text(
        f'#!/bin/sh\n{hidden}case "$*" in *--parsable*)'
        " sed 's#/results/small/#/not/here/#g' | exec /usr/bin/sbatch --output=/dev/null"
        ' "$@" --output=/dev/null ;; *) exec /usr/bin/sbatch "$@" ;; esac\n'
    )
    sbatch.chmod(0o755)
    found = doctor(cluster, PATH=f"{fake}:{cluster.environment['PATH']}")
    assert found.returncode == 2, found.stdout
    assert "wrote nothing to" in words(found.stdout)
    assert "`results:` must be on a file system that compute nodes share" in words(found.stdout)


@pytest.mark.slurm_all
def test_a_controller_that_is_away_is_said(plain_cluster: Any, doctor: Make) -> None:
    doctor(plain_cluster, "--write")
    plain_cluster.kill("slurmctld")
    found = doctor(plain_cluster, "--no-job")
    assert found.returncode == 2
    assert "the controller does not answer" in words(found.stdout)


@pytest.mark.slurm_all
def test_a_database_that_is_away_is_said(cluster: Any, doctor: Make) -> None:
    doctor(cluster, "--write")
    cluster.kill("slurmdbd")
    found = doctor(cluster, "--no-job")
    assert "sacct does not answer now" in words(found.stdout)
    assert found.returncode == 0, found.stdout


@pytest.mark.slurm_all
def test_full_nodes_are_waited_for_and_the_probe_is_taken_back(cluster: Any, doctor: Make) -> None:
    doctor(cluster, "--write")
    fill = ("sbatch", "--parsable", "-N3", "--exclusive", "-t", "5", "--wrap", "sleep 300")
    cluster.run(*fill)
    found = doctor(cluster, "--wait", "3")
    cluster.cancel()
    assert found.returncode == 0, found.stdout
    assert "waits in the queue" in words(found.stdout)
    assert not cluster.queue()


def test_the_doctors_lines_are_those_that_arrive_at_sbatch(cluster: Any, doctor: Make) -> None:
    """The filled form, read by Snakemake and the plugin, asks for what the doctor asked."""
    filled = doctor(cluster, "--write")
    done = filled.clone.snakemake(
        *("--cores", "all", "--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2"),
        *("--max-status-checks-per-second", "1", "--until", "prepare"),
    )
    assert done.returncode == 0, done.stdout
    (job,) = [job for job in cluster.jobs() if "rule_prepare" in job["comment"]][-1:]
    assert (job["cpus"], job["memory"], job["limit"]) == ("8", "16000M", "240")
