"""Forms that fit and forms that do not, on clusters whose sizes and rights are known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cmkd.operations.findings import Finding
from cmkd.operations.slurm import reader, site
from cmkd.operations.slurm.form import Form
from cmkd.operations.slurm.reader import Site

At = Callable[[str], Site]
Edit = Callable[..., Form]
# What fits three nodes of 8 processors, 8000 MB, two with 2 GPUs, and an hour.
SMALL = (
    ("min(16000 * attempt, 32000)", "4000"),
    ("min(32000 * attempt, 64000)", "4000"),
    ("min(8000 * attempt, 16000)", "8000"),
    ("runtime: 240", "runtime: 60"),
    ("runtime: 720", "runtime: 60"),
    ("    cpus_per_task: 8 ", "    cpus_per_task: 4 "),
)
CPU = ("# slurm_partition: NAME     # <- for", "slurm_partition: {} # <- for")
GPU = ("# slurm_partition: NAME   # <- partition", "slurm_partition: {} # <- partition")


def named(pair: tuple[str, str], name: str) -> tuple[str, str]:
    """Return an edit that fills in a name."""
    return pair[0], pair[1].format(name)


def bad(found: list[Finding]) -> list[str]:
    """Return what is not ok, with what to do."""
    return [f"{one.level}: {one.text} -> {one.cure}" for one in found if one.level != "ok"]


def check(form: Form, there: Site, gpus: int = 1) -> list[str]:
    """Return what is not ok of a form at a site."""
    return bad(list(site.check(form, there, gpus)))


def test_a_form_that_fits_has_nothing_wrong(at: At, edited: Edit) -> None:
    assert check(edited(*SMALL), at("main")) == []


def test_the_published_numbers_do_not_fit_a_small_cluster(at: At, edited: Edit) -> None:
    found = check(edited(), at("main"))
    walltime = "wrong: train, distill: 720 minutes, 'main' allows 60"
    assert any(one.startswith(walltime) and one.endswith("runtime: 60") for one in found)
    assert any(
        "no node of 'main' has 8 processors, 32000 MB, 1 GPU(s) together" in f for f in found
    )


def test_a_partition_that_is_not_there_is_said_with_the_nearest(at: At, edited: Edit) -> None:
    found = check(edited(*SMALL, named(GPU, "requeu")), at("main"))
    assert len(found) == 2  # of evaluate, and of train and distill together
    assert all("no partition 'requeu', did you mean 'requeue'?" in one for one in found)
    assert "set-resources: evaluate: slurm_partition" in found[0]


def test_a_partition_that_is_down_is_wrong(at: At, edited: Edit) -> None:
    found = check(edited(*SMALL, named(GPU, "old")), at("rights"))
    assert any("'old' is not up" in one for one in found)


@pytest.mark.parametrize(
    ("partition", "words"),
    [("gpu", "is for accounts birds, whales, not for 'plants'"), ("urgent", "nobody-else")],
)
def test_partitions_of_others_are_refused(at: At, edited: Edit, partition: str, words: str) -> None:
    found = check(edited(*SMALL, named(GPU, partition)), at("rights"))
    assert any(words in one for one in found)


def test_an_account_that_a_partition_denies_is_refused(at: At) -> None:
    there = at("rights")
    cpu = replace(there.partitions[0], denied=("plants",))
    assert site.refused(there, cpu, "plants", "") == "is closed to account 'plants'"
    assert site.refused(there, cpu, "birds", "") == ""


def test_a_partition_takes_its_qualities_only(at: At) -> None:
    there = at("rights")
    cpu = replace(there.partitions[0], qualities=("few", "long"))
    assert "takes the qualities few, long" in site.refused(there, cpu, "birds", "normal")
    assert site.refused(there, cpu, "birds", "few") == ""


def test_the_right_account_opens_the_partition(at: At, edited: Edit) -> None:
    account = ("# slurm_account: NAME ", "slurm_account: birds ")
    form = edited(*SMALL, account, named(GPU, "gpu"), ("jobs: 20", "jobs: 4"))
    assert check(form, at("rights")) == []


def test_an_account_that_is_not_the_users_is_wrong(at: At, edited: Edit) -> None:
    account = ("# slurm_account: NAME ", "slurm_account: bird ")
    found = check(edited(*SMALL, account), at("rights"))
    assert any("no account 'bird', did you mean 'birds'?" in one for one in found)
    # Without accounts the plugin cannot check one, and refuses to submit.
    found = check(edited(*SMALL, account), at("plain"))
    assert any("every submission would fail" in one for one in found)


def test_jobs_beyond_the_limits_are_wrong(at: At, edited: Edit) -> None:
    found = check(edited(*SMALL), at("rights"))
    assert any("20 in the queue, you may have 10" in f and f.endswith("jobs: 10") for f in found)
    # The quality of service of partition `gpu` allows 15, its account's users no fewer.
    form = edited(*SMALL, ("# slurm_account: NAME ", "slurm_account: birds "), named(GPU, "gpu"))
    assert any("you may have 15" in one for one in check(form, at("rights")))


def test_more_gpus_than_an_account_may_have_are_wrong(at: At, edited: Edit) -> None:
    found = check(edited(*SMALL, ("jobs: 20", "jobs: 4")), at("rights"), gpus=3)
    assert any("3 GPU(s) a job, you may have 2" in one for one in found)


def test_a_kind_of_gpu_that_is_not_there_is_wrong(at: At, edited: Edit) -> None:
    form = edited(*SMALL, ("# gpu_model: NAME ", "gpu_model: a100 "), ("jobs: 20", "jobs: 4"))
    found = check(form, at("rights"))
    assert any("1 GPU(s) a100 together" in one and "kinds: v100" in one for one in found)
    form = edited(*SMALL, ("# gpu_model: NAME ", "gpu_model: v100 "), ("jobs: 20", "jobs: 4"))
    assert check(form, at("rights")) == []


def test_memory_that_grows_beyond_every_node_is_warned_of(at: At, edited: Edit) -> None:
    form = edited(*SMALL, ("mem_mb: 8000 ", "mem_mb: 3000 * attempt "))
    (found,) = check(form, at("main"))
    assert found.startswith("warning: stats: a later attempt asks for 12000 MB")
    assert found.endswith("default-resources: mem_mb: at most 8000") or "stats: mem_mb" in found


def test_a_walltime_that_grows_beyond_the_limit_is_wrong(at: At, edited: Edit) -> None:
    form = edited(*SMALL[:4], SMALL[5], ("runtime: 720", "runtime: 30 * attempt"))
    assert any("a later attempt asks for 120 minutes, 60" in one for one in check(form, at("main")))


def test_more_than_a_gpus_part_of_a_node_is_warned_of(at: At, edited: Edit) -> None:
    form = edited(*SMALL[:5])  # 8 of 8 processors beside 1 of 2 GPUs
    found = check(form, at("main"))
    assert all(one.startswith("warning: ") and one.endswith("cpus_per_task: 4") for one in found)
    assert len(found) == 2


def test_limits_of_a_partitions_nodes_count(at: At, edited: Edit) -> None:
    # node2 has 16 processors and 32000 MB; `cpu` gives 12 and 16000 of them.
    form = edited(*SMALL, ("cpus_per_task: 1 ", "cpus_per_task: 13 "), ("jobs: 20", "jobs: 4"))
    assert any("stats: no node of 'cpu' has 13 proc" in one for one in check(form, at("rights")))
    form = edited(*SMALL, ("mem_mb: 8000 ", "mem_mb: 16001 "), ("jobs: 20", "jobs: 4"))
    assert any("stats: no node of 'cpu' has 1 proc" in one for one in check(form, at("rights")))


def test_what_slurm_itself_refuses_is_wrong(at: At, edited: Edit, said: dict[str, Any]) -> None:
    there = at("main")
    said["sbatch"] = reader.Answer(1, "", "sbatch: error: invalid feature specification")
    found = check(edited(*SMALL), there)
    assert len(found) == 4
    assert all("refused: sbatch: error: invalid feature" in one for one in found)


def test_gpus_by_gres_are_proposed_where_the_other_way_is_refused(
    at: At, edited: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = at("main")

    def ask(*command: str, **_: Any) -> reader.Answer:
        refused = any(word.startswith("--gpus") for word in command)
        return reader.Answer(int(refused), "", "sbatch: error: no --gpus here")

    monkeypatch.setattr(reader, "ask", ask)
    found = check(edited(*SMALL), there)
    assert len(found) == 2
    assert all("gpu: 0 and gres: \"'gpu:1'\"" in one for one in found)


def test_same_requests_are_asked_for_once(published: Form) -> None:
    names = [rules for rules, _ in site.grouped(published.requests())]
    assert names == ["prepare", "stats", "evaluate", "train, distill"]


def test_a_training_over_several_nodes_has_its_part_on_each(at: At, edited: Edit) -> None:
    two = "nodes: 2\n    gpu: 0\n    gres: \"'gpu:2'\"\n    runtime: 60"
    form = edited(*(pair for pair in SMALL if "720" not in pair[0]), ("runtime: 720", two))
    assert [one for one in check(form, at("main"), gpus=4) if one.startswith("wrong")] == []
    form = edited(
        *(pair for pair in SMALL if "720" not in pair[0]),
        ("runtime: 720", two.replace("gpu:2", "gpu:3")),
    )
    assert any("3 GPU(s) together" in one for one in check(form, at("main"), gpus=6))
