"""Snakefile, profiles and the catalogue entry: what a user meets first."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd import reports
from cmkd.plan import suites

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", re.MULTILINE)
MODULES = """
import sys
from snakemake.cli import main
try:
    main(["--list", "--snakefile", sys.argv[1], "--workflow-profile", "none"])
except SystemExit as end:
    assert not end.code, end.code
print("MODULES", *sys.modules)
"""


def test_wrong_configuration_is_said_in_sentences_before_the_first_job(clean: Any) -> None:
    clean.edit("suite", "models", to=["small_cnm", "small_ast"])
    clean.edit("suite", "folds", to=[9])
    failed = clean.snakemake("-n", "--cores", "1")
    assert failed.returncode == 1
    assert "did you mean 'small_cnn'?" in failed.stdout
    assert "2 problems" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert not (clean.root / ".cmkd").exists()


def test_the_default_suite_is_read_only_when_no_other_is_given(clean: Any, count: Any) -> None:
    everything = count(clean.plan(suite=None))
    assert everything["train"] + everything["distill"] == 12 * 5 * 3
    named = {job[1] for job in clean.plan() if job[0] in ("train", "distill")}
    assert not any(run.startswith("effnet") for run in named)


def test_paths_with_spaces_reach_the_verbs_whole(clean: Any) -> None:
    clean.edit("suite", "results", to="my results")
    clean.edit("suite", "prepared", to="my clips/prepared")
    clean.edit("suite", "folds", to=[1])
    clean.edit("suite", "pairs", to=["alone"])
    clean.run("--config", "data_root=/my recordings/ESC-50")
    (prepare,) = clean.calls("prepare")
    assert prepare[prepare.index("--data-root") + 1] == "/my recordings/ESC-50"
    assert prepare[prepare.index("--workers") + 1] == "2"
    (stats,) = clean.calls("stats")
    assert stats[1:-1] == [
        *("--prepared", "my clips/prepared/toy", "--fold", "1"),
        *("--mel-bins", "64", "--shift-ms", "20.0", "--frames", "100", "--out"),
    ]
    evaluate = clean.calls("evaluate")[0]
    assert evaluate[2].startswith("my results/runs/toy/")
    assert (clean.root / "my results" / "tables" / "suite" / "leaderboard.csv").is_file()


def test_a_training_is_called_with_what_it_needs(finished: Any) -> None:
    call = next(c for c in finished.calls("train") if "toy/small_cnn@small_ast/fold-1" in c[3])
    given = dict(zip(call[2::2], call[3::2], strict=True))
    assert call[1].startswith(".cmkd/wanted/toy/small_cnn@small_ast/")
    execution = yaml.safe_load((finished.root / given.pop("--execution")).read_text())
    assert execution["threads"] == 1
    assert given == {
        "--run": "results/runs/toy/small_cnn@small_ast/fold-1/seed-0",
        "--fold": "1",
        "--seed": "0",
        "--prepared": "results/prepared/toy",
        "--statistics": "results/prepared/toy/stats/mel64-shift20-frames100/fold-1.json",
        "--teacher": "results/runs/toy/small_ast/fold-1/seed-0",
    }


def test_the_tables_rule_declares_what_its_verb_writes(
    clean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = dict(JOB.findall(clean.run("-n")))
    declared = set(re.findall(r"^    output: (.*)$", bodies["tables"], re.MULTILINE)[0].split(", "))
    monkeypatch.chdir(clean.root)
    written = {str(path) for path in reports.tables(suites.load(Path("config/suite.yaml")))}
    assert len(written) == 11
    assert declared - written == {"results/tables/suite/rows.csv"}
    assert written <= declared


@pytest.mark.slow
def test_as_many_trainings_run_at_once_as_there_are_gpus(clean: Any) -> None:
    clean.run("--cores", "4", CUDA_VISIBLE_DEVICES="0", FAKE_PAUSE="0.5")
    assert most_at_once(clean, "train", "evaluate") == 1


def most_at_once(clone: Any, *verbs: str) -> int:
    """Return how many calls of the verbs ran at one time."""
    now = most = 0
    for line in clone.log.read_text().splitlines():
        call = json.loads(line)
        now += (call[0] in verbs) - (call[0] == "end" and call[1] in verbs)
        most = max(most, now)
    return most


def test_profiles_and_config_share_no_key() -> None:
    default = set(yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text()))
    slurm = set(yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text()))
    config = {
        key
        for path in (ROOT / "config").rglob("*.yaml")
        for key in yaml.safe_load(path.read_text()) or ()
    }
    assert default and slurm and config
    assert not default & slurm
    assert not (default | slurm) & config


def test_the_link_leads_to_the_profile() -> None:
    link = ROOT / "slurm"
    assert link.is_symlink()
    assert link.readlink() == Path("profiles/slurm")


def test_the_workflow_catalogue_finds_what_it_asks_for() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()


def test_our_snakefiles_import_nothing_heavy(clean: Any, tmp_path: Path) -> None:
    empty = tmp_path / "Snakefile"
    empty.write_text("rule all:\n    shell: 'true'\n")
    added = modules(clean, clean.root / "Snakefile") - modules(clean, empty)
    assert "cmkd.plan.suites" in added
    assert not added & {"torch", "mlflow", "pandas", "numpy", "matplotlib", "scipy"}


def modules(clone: Any, snakefile: Path) -> set[str]:
    """Return what Python has imported after Snakemake has read a Snakefile."""
    done = subprocess.run(
        [sys.executable, "-c", MODULES, snakefile],
        cwd=clone.root,
        env=clone.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split("MODULES", 1)[1].split())


def test_lint_has_only_the_complaint_that_cannot_be_avoided(clean: Any) -> None:
    assert lint(clean) == (0, "")


def test_lint_says_every_other_complaint(clean: Any) -> None:
    rules = clean.root / "workflow" / "rules" / "track.smk"
    rules.write_text(rules.read_text().replace("    log:\n", "    benchmark:\n"))
    code, said = lint(clean)
    assert code == 1
    assert "No log directive defined" in said


def lint(clone: Any) -> tuple[int, str]:
    """Return exit status and complaints of the clone's own lint script."""
    command = [sys.executable, clone.root / "workflow" / "lint.py"]
    done = subprocess.run(
        command, cwd=clone.root, env=clone.environment(), capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_the_snakefiles_are_formatted() -> None:
    command = [BINARIES / "snakefmt", "--check", ROOT / "Snakefile", ROOT / "workflow"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
