"""What is read of a cluster, against what its administrator wrote into slurm.conf and sacctmgr."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes

from cmkd.operations.slurm import reader
from cmkd.operations.slurm.reader import Limits, Site


def test_partitions_are_read_as_slurm_conf_has_them(at: Callable[[str], Site]) -> None:
    site = at("rights")
    assert [partition.name for partition in site.partitions] == ["cpu", "gpu", "urgent", "old"]
    cpu, gpu, urgent, old = site.partitions
    assert (cpu.default, cpu.minutes, cpu.cpus, cpu.memory) == (True, 120, 12, 16000)
    assert (gpu.default, gpu.minutes, gpu.accounts) == (False, 1440, ("birds", "whales"))
    assert (gpu.quality, gpu.preempt, gpu.cpus) == ("few", "REQUEUE", None)
    assert (urgent.groups, urgent.tier, urgent.minutes) == (("nobody-else",), 5, 30)
    assert (old.up, old.preempt, old.minutes) == (False, "CANCEL", None)
    assert site.partition("").name == "cpu"  # type: ignore[union-attr]
    assert site.partition("none") is None


def test_nodes_are_read_with_their_gpus_and_whether_they_work(at: Callable[[str], Site]) -> None:
    nodes = {node.name: node for node in at("rights").nodes}
    assert nodes["node1"].gpus == {"a100": 2}
    assert (nodes["node2"].cpus, nodes["node2"].memory) == (16, 32000)
    assert nodes["node2"].count() == nodes["node2"].count("v100") == 4
    assert nodes["node2"].count("a100") == 0
    assert nodes["node2"].partitions == ("cpu", "gpu", "urgent")
    # Its slurmd was never started: sinfo says unknown*.
    assert [node.working for node in nodes.values()] == [True, True, False]


def test_rights_and_limits_are_those_given_by_sacctmgr(at: Callable[[str], Site]) -> None:
    site = at("rights")
    assert (site.accounting, site.default_account) == ("answers", "plants")
    plants = site.associations[0]
    assert (plants.account, plants.limits) == ("plants", Limits(submitted=10, gpus=2))
    assert site.qualities["few"] == Limits(jobs=4, submitted=15, minutes=720, gpus=3)


def test_a_cluster_without_accounts_is_not_asked_for_them(at: Callable[[str], Site]) -> None:
    site = at("plain")
    assert (site.accounting, site.associations) == ("none", ())
    assert site.seconds("MinJobAge") == 300
    assert site.seconds("SlurmdTimeout") == 10
    assert site.seconds("NoSuchKey") is None


def test_a_database_that_is_away_is_no_answer(
    at: Callable[[str], Site], said: dict[str, Any]
) -> None:
    at("main")
    said["sacct -nPX -o JobIDRaw,State"] = reader.Answer(1, "", "Connection refused")
    assert reader.read_site().accounting == "silent"


@pytest.mark.parametrize("text", ["1-00:00:00", "02:00:00", "2-12:30:00", "45", "3-05", "12:30:00"])
def test_times_are_read_as_the_plugin_reads_them(text: str) -> None:
    assert reader.parse_minutes(text) == parse_time_to_minutes(text)


@pytest.mark.parametrize("text", ["UNLIMITED", "NONE", "", "INFINITE"])
def test_no_limit_is_none(text: str) -> None:
    assert reader.parse_minutes(text) is None


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:2", {"": 2}),
        ("gpu", {"": 1}),
        ("lustre:1,gpu:a100:2(S:0),gpu:h100:8", {"a100": 2, "h100": 8}),
        ("(null)", {}),
        ("gpu:a100:2,gpu:a100:2", {"a100": 4}),
    ],
)
def test_gpus_of_a_gres(gres: str, gpus: dict[str, int]) -> None:
    assert reader.parse_gpus(gres) == gpus


@pytest.mark.parametrize(
    ("state", "working"),
    [("idle", 1), ("mixed-", 1), ("idle~", 1), ("down*", 0), ("drained", 0), ("idle*", 0)],
)
def test_states_in_which_a_node_takes_jobs(state: str, working: int) -> None:
    (node,) = reader.parse_nodes(f"n1|main|8|8000|(null)|{state}\n")
    assert node.working == bool(working)


def test_values_with_spaces_stay_whole() -> None:
    line = "NodeName=n1 OS=Linux 6.1 #1 SMP Reason=not responding [root@a] State=DOWN+DRAIN"
    (record,) = reader.parse_records(line)
    assert record["OS"] == "Linux 6.1 #1 SMP"
    assert record["State"] == "DOWN+DRAIN"


def test_a_missing_or_silent_program_is_an_answer_too() -> None:
    assert reader.ask("no-such-program-of-slurm").code == 127
    slow = reader.ask(sys.executable, "-c", "import time; time.sleep(30)", seconds=0.2)
    assert slow.code == 124
    assert "did not answer" in slow.error
