"""What the form asks for, against the plugin that will read it, and Snakemake's own numbers."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snakemake.resources import Resource
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from cmkd.errors import ConfigError
from cmkd.operations.slurm import form
from cmkd.operations.slurm.form import Form, Request

ROOT = Path(__file__).parents[3]
Edit = Callable[..., Form]
OWN = ("--job-name", "--output", "--comment")


class Resources(dict[str, Any]):
    """Resources as the plugin finds them in a job."""

    __getattr__ = dict.__getitem__


class AJob:
    """A job as the plugin's functions need it."""

    threads = 1

    def __init__(self, resources: dict[str, Any]) -> None:
        self.resources = Resources(resources)


def by_plugin(request: Request, **resources: Any) -> list[str]:
    """Return the options that the plugin makes of the resources."""
    words = dict.fromkeys(("run_uuid", "slurm_logfile", "comment_str"), "own")
    account = f"-A {request.account}" if request.account else ""
    partition = f"-p {request.partition}" if request.partition else ""
    words |= {"account": account, "partition": partition, "workdir": ""}
    job = AJob(resources)
    line = shlex.split(get_submit_command(job, words) + set_gres_string(job))
    kept, skip = [], False
    for word in line[1:]:
        if not skip and word not in OWN and word not in ("--parsable", "--export=ALL"):
            kept.append(word)
        skip = word in OWN
    return kept


@pytest.mark.parametrize(
    "resources",
    [
        {"mem_mb": 8000, "runtime": 60, "cpus_per_task": 8},
        {"mem_mb": 8000, "runtime": 60, "cpus_per_task": 4, "gpu": 1},
        {"mem_mb": 9000, "runtime": 5, "gpu": 2, "gpu_model": "a100", "qos": "few"},
        {"mem_mb": 9000, "runtime": 5, "gpu": 0, "gres": "gpu:a100:1", "constraint": "big"},
        {"mem_mb": 9000, "runtime": 5, "gpu": 1, "slurm_extra": "--signal=TERM@120"},
        {"mem_mb": 9000, "runtime": 5, "gpu": 1, "cpus_per_task": -1},
        {"mem_mb": 9000, "runtime": 5, "gpu": 0, "gres": "gpu:4", "nodes": 2},
        {"mem_mb": 100, "runtime": 1, "slurm_account": "birds", "slurm_partition": "night"},
    ],
)
def test_the_options_are_those_of_the_plugin(edited: Edit, resources: dict[str, Any]) -> None:
    lines = "".join(f"    {key}: {value!r}\n" for key, value in resources.items())
    rule = "evaluate" if "gpu" in resources else "stats"
    text = f"executor: slurm\njobs: 1\nset-resources:\n  {rule}:\n{lines}"
    request = next(one for one in form.parse(Path("p"), text).requests() if one.rule == rule)
    assert sorted(request.options()) == sorted(by_plugin(request, **resources))


def test_the_published_form_asks_for_what_stands_in_it(published: Form) -> None:
    asked = {request.rule: request for request in published.requests()}
    assert set(asked) == {"prepare", "stats", "evaluate", "train", "distill"}
    assert (asked["train"].minutes[0], asked["train"].memory[0]) == (720, 32000)
    assert asked["train"].options() == asked["distill"].options()
    assert asked["evaluate"].extra == ""
    assert [asked[rule].wanted_gpus for rule in ("stats", "evaluate", "train")] == [0, 1, 1]


def test_the_rules_are_those_of_the_workflow() -> None:
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):|^use rule \w+ as (\w+)", text, re.M))
    here = set(re.findall(r"^localrules:\n    (\w+),", text, re.M))
    assert {one or other for one, other in rules} - here == set(form.RULES)
    asking = re.findall(r"^rule (\w+):(?:\n(?!rule ).*)*?\n\s+gpu=", text, re.M)
    assert {*asking, "distill"} == {rule for rule, gpu in form.RULES.items() if gpu}


def test_several_gpus_are_those_of_a_training(published: Form) -> None:
    asked = {request.rule: request.wanted_gpus for request in published.requests(gpus=4)}
    assert asked["train"] == asked["distill"] == 4
    assert asked["evaluate"] == 1


def test_numbers_may_grow_with_the_attempt(edited: Edit) -> None:
    grown = edited(("runtime: 720 ", "runtime: 10 + 2 ** attempt "))
    train = grown.requests()[-1]
    assert train.memory == (32000, 64000, 64000, 64000)
    assert train.minutes == (12, 14, 18, 26)


@pytest.mark.parametrize("text", ["1 + 2 * 3", "7 // 2", "max(1, 2 ** 5) - 1", "round(9 / 2)"])
def test_sums_are_pythons(text: str) -> None:
    assert form.evaluate(text, 1) == eval(text)  # noqa: S307


@pytest.mark.parametrize(
    "text", ["input.size_mb", "__import__('os')", "a b", "'x' * 3", "1 / 0", "max()", "exit(3)"]
)
def test_what_is_no_sum_is_not_known(text: str) -> None:
    assert form.evaluate(text, 1) is None


@pytest.mark.parametrize("text", ["16GB", "4 GiB", "512MB", "1.5TB", "300 MiB"])
def test_memory_is_read_as_snakemake_reads_it(edited: Edit, text: str) -> None:
    found = edited(
        ("mem_mb: min(8000 * attempt, 16000)", f"mem: {text!r}"),
        ("  mem_mb: min(4000 * attempt, 16000)", "  disk_mb: 1"),
    )
    assert found.requests()[1].memory[0] == Resource.parse_human_friendly("mem", text)


@pytest.mark.parametrize("text", ["2h", "1d", "90m", "1.5 h", "2w"])
def test_walltimes_are_read_as_snakemake_reads_them(edited: Edit, text: str) -> None:
    found = edited(("runtime: 240 ", f"runtime: {text} "))
    assert found.requests()[0].minutes[0] == Resource.parse_human_friendly("runtime", text)


def test_wrong_names_are_said_with_the_right_ones(edited: Edit) -> None:
    found = form.unknown_names(
        edited(("  stats: ", "  stat: "), ("cpus_per_task: 1 ", "cpus_per_tasks: 1 "))
    )
    assert len(found) == 2
    assert "'stats'" in found[0] and "'cpus_per_task'" in found[1]
    assert form.unknown_names(edited()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs: [1", "is no YAML"),
        ("- 1\n", "no `key: value` lines"),
        ("set-resources:\n  train: 7\n", "set-resources: train"),
        ("default-resources: [mem_mb=1]\n", "default-resources"),
    ],
)
def test_what_is_no_form_is_said_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        form.read(tmp_path)


def test_a_missing_profile_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--profile FOLDER"):
        form.read(tmp_path)
