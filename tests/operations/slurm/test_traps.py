"""Each trap is met by the form and the cluster that have it, and by no others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cmkd.operations.findings import Finding
from cmkd.operations.slurm import reader, traps
from cmkd.operations.slurm.form import Form
from cmkd.operations.slurm.reader import Site

At = Callable[[str], Site]
Edit = Callable[..., Form]
SQUEUE = ("# slurm-status-command", "slurm-status-command")
GPU = ("# slurm_partition: NAME   # <- partition", "slurm_partition: {} # <- partition")


def bad(found: Any) -> list[str]:
    """Return what is not ok."""
    listed: list[Finding] = list(found)
    return [f"{one.level}: {one.text} -> {one.cure}" for one in listed if one.level != "ok"]


@pytest.fixture
def unmended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of the plugin that the workflow does not mend."""
    monkeypatch.setattr(traps, "_installed", lambda: "2.7.0")


def aged(site: Site, seconds: int) -> Site:
    """Return a site on which squeue forgets finished jobs after some seconds."""
    return replace(site, config=site.config | {"MinJobAge": f"{seconds} sec"})


def test_the_published_form_meets_no_trap(at: At, published: Form) -> None:
    assert bad(traps.check_form(published)) == []
    assert bad(traps.check(published, at("main"))) == []
    assert bad(traps.check(published, at("plain"))) == []


def test_another_plugin_is_warned_of(published: Form, unmended: None) -> None:
    (found,) = bad(traps.check_form(published))
    assert "2.7.0" in found and "pip install snakemake-executor-plugin-slurm==2.8.0" in found


def test_without_accounts_the_plugin_alone_would_hang(
    at: At, published: Form, edited: Edit, unmended: None
) -> None:
    (found,) = bad(traps.accounting(published, at("plain")))
    assert found.startswith("wrong: ") and found.endswith("slurm-status-command: squeue")
    assert bad(traps.accounting(edited(SQUEUE), at("plain"))) == []
    assert bad(traps.accounting(published, at("main"))) == []


@pytest.mark.parametrize(("seconds", "wrong"), [(300, 0), (195, 0), (194, 1), (2, 1)])
def test_squeue_must_remember_jobs_for_longer_than_a_pause(
    at: At, edited: Edit, unmended: None, seconds: int, wrong: int
) -> None:
    assert len(bad(traps.accounting(edited(SQUEUE), aged(at("plain"), seconds)))) == wrong
    # Accounts are there: sacct is the cure.
    found = bad(traps.accounting(edited(SQUEUE), aged(at("main"), seconds)))
    assert [one.endswith("slurm-status-command: sacct") for one in found] == [True] * wrong


def test_a_first_look_too_late_turns_the_plugin_to_sacct(
    at: At, edited: Edit, unmended: None
) -> None:
    late = ("jobs: 20", "slurm-init-seconds-before-status-checks: 101\njobs: 20")
    (found,) = bad(traps.accounting(edited(SQUEUE, late), at("plain")))
    assert found.endswith("slurm-init-seconds-before-status-checks: 100")


def test_a_silent_database_is_a_warning(at: At, published: Form) -> None:
    (found,) = bad(traps.accounting(published, replace(at("main"), accounting="silent")))
    assert found.startswith("warning: ")


@pytest.mark.parametrize(
    ("partition", "preempted"),
    [("main", 0), ("urgent", 0), ("requeue", 1), ("cancel", 1), ("grace", 1)],
)
def test_who_can_be_preempted(at: At, partition: str, preempted: int) -> None:
    # `urgent` stands above the others, and `main` is left alone: slurm.conf of the tests.
    site = at("main")
    found = site.partition(partition)
    assert found is not None
    assert traps.can_be_preempted(site, found) == bool(preempted)
    nothing = replace(site, config=site.config | {"PreemptType": "preempt/none"})
    assert not traps.can_be_preempted(nothing, found)


def test_what_is_above_on_other_nodes_preempts_nothing(at: At) -> None:
    site = at("rights")  # urgent has node2 alone, old node1; gpu both
    assert [traps.can_be_preempted(site, p) for p in site.partitions] == [False, True, False, False]


@pytest.mark.parametrize(("partition", "hangs"), [("requeue", 1), ("cancel", 1), ("grace", 0)])
def test_jobs_preempted_for_good_hang_the_plugin_alone(
    at: At, edited: Edit, unmended: None, partition: str, hangs: int
) -> None:
    form = edited((GPU[0], GPU[1].format(partition)))
    assert len(bad(traps.preemption(form, at("main")))) == hangs
    # Those that Slurm puts back into the queue go on; those that it cancels do not.
    again = edited((GPU[0], GPU[1].format(partition)), ("slurm-no-requeue", "# no-requeue"))
    assert len(bad(traps.preemption(again, at("main")))) == (partition == "cancel")


def test_a_lost_node_must_not_bring_a_second_copy(at: At, edited: Edit) -> None:
    (found,) = bad(traps.nodes_lost(edited(("slurm-no-requeue", "# no-requeue")), at("main")))
    assert found.endswith("slurm-no-requeue: true")
    (found,) = bad(traps.nodes_lost(edited(("slurm-no-requeue", "slurm-requeue")), at("main")))
    assert "#485" in found
    never = replace(at("main"), config=at("main").config | {"JobRequeue": "0"})
    assert bad(traps.nodes_lost(edited(("slurm-no-requeue", "# no-requeue")), never)) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("executor: slurm\n", "executor: local\n", "executor is 'local'"),
        ("jobs: 20", "slurm-array-jobs: all\njobs: 20", "arrays"),
        ("jobs: 20", "cores: 4\njobs: 20", "cores: 4 caps"),
        ("jobs: 20", "keep-going: true\njobs: 20", "profiles/default too"),
        ("retries: 3", "# none", "retries is missing"),
        ("latency-wait: 60", "latency-wait: 5", "latency-wait is 5"),
        ("slurm-status-attempts: 5000", "# none", "forgets its jobs"),
        ("min(8000 * attempt, 16000)", "111", "111 MB"),
        ("cpus_per_task: 1 ", "mem_mb_per_cpu: 900 ", "wins over every mem_mb"),
        ("slurm_extra: \"'--signal=TERM@120'\"", "disk_mb: 1", "no --signal=TERM@SECONDS"),
        ("--signal=TERM@120", "--signal=B:TERM@120", "no --signal=TERM@SECONDS"),
        ("runtime: 720 ", "runtime: 4 ", "4 minutes, of which the last 120 s"),
        ("# gres", "gres", "asked for twice"),
        ("  stats:", "  statistics:", "no rule of that name"),
    ],
)
def test_traps_of_the_form(edited: Edit, old: str, new: str, words: str) -> None:
    found = list(traps.check_form(edited((old, new))))
    said = [f"{one.subject}: {one.text}" for one in found if one.level != "ok"]
    assert any(words in one for one in said), said
    if old != "cpus_per_task: 1 ":  # stands for two requests
        assert len(said) <= 2


def test_snakemake_inside_a_job_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert bad(traps.environment()) == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "inside a Slurm job" in bad(traps.environment())[0]


@pytest.mark.parametrize(("conf", "code", "warned"), [("", 1, 0), ("/a", 0, 0), ("/a", 1, 1)])
def test_a_slurm_found_by_a_variable_alone(
    said: dict[str, Any], monkeypatch: pytest.MonkeyPatch, conf: str, code: int, warned: int
) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    if conf:
        monkeypatch.setenv("SLURM_CONF", conf)
    said["env"] = reader.Answer(code, "", "")
    assert len(bad(traps.by_variable())) == warned
