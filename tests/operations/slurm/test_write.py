"""The form filled in: the right lines, all else untouched, and nothing chosen in doubt."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.errors import ConfigError
from cmkd.operations.slurm import form, reader, site, write
from cmkd.operations.slurm.form import Form
from cmkd.operations.slurm.reader import Site
from cmkd.operations.slurm.write import Change

At = Callable[[str], Site]
Edit = Callable[..., Form]


def changed(old: Form, new: Form) -> list[str]:
    """Return the new lines, without their comments."""
    pairs = zip(old.text.splitlines(), new.text.splitlines(), strict=True)
    return [after.split("#")[0].strip() for before, after in pairs if before != after]


def test_a_small_cluster_lowers_numbers_and_gets_its_names(at: At, published: Form) -> None:
    new, notes = write.choose(published, at("main"))
    # Three nodes of 8 processors and 8000 MB, two of them with 2 GPUs; an hour.
    assert changed(published, new) == [
        *("slurm_account: USER", "slurm_partition: main"),
        *("mem_mb: min(8000 * attempt, 8000)", "runtime: 60"),
        "mem_mb: min(8000 * attempt, 8000)",
        *("slurm_partition: main", "cpus_per_task: 4", "mem_mb: min(4000 * attempt, 8000)"),
        *("mem_mb: min(4000 * attempt, 8000)", "runtime: 60"),
    ]
    assert [note.text for note in notes] == ["'main' has most GPUs: 4"]
    assert not [one for one in site.check(new, at("main")) if one.level != "ok"]


def test_comments_and_columns_stay(at: At, published: Form) -> None:
    new, _ = write.choose(published, at("main"))
    for before, after in zip(published.text.splitlines(), new.text.splitlines(), strict=True):
        assert before.partition("# <-")[2] == after.partition("# <-")[2]
        assert before.find("# <-") == after.find("# <-")


def test_writing_again_changes_nothing(at: At, published: Form) -> None:
    once, _ = write.choose(published, at("rights"))
    assert write.choose(once, at("rights"))[0].text == once.text


def test_what_a_user_wrote_stays(at: At, edited: Edit) -> None:
    own = edited(
        ("# slurm_partition: NAME   # <- partition", "slurm_partition: grace # <- partition"),
        ("runtime: 720 ", "runtime: 45 "),
        ("    cpus_per_task: 8          # <- processors", "    cpus_per_task: 2 # <- processors"),
    )
    new, _ = write.choose(own, at("main"))
    lines = changed(own, new)
    assert "slurm_partition: grace" not in lines and "runtime: 45" not in lines
    assert new.values["set-resources"]["train"]["cpus_per_task"] == 2
    # Unless it is asked for.
    again, _ = write.choose(own, at("main"), ["slurm_partition", "runtime", "cpus_per_task"])
    train = again.values["set-resources"]["train"]
    assert (train["slurm_partition"], train["runtime"], train["cpus_per_task"]) == ("main", 60, 4)


def test_a_line_without_its_arrow_is_left_alone(at: At, edited: Edit) -> None:
    own = edited(("    runtime: 240              # <-", "    runtime: 240"))
    new, _ = write.choose(own, at("main"))
    assert new.values["set-resources"]["prepare"]["runtime"] == 240


def test_rights_and_limits_are_kept(at: At, published: Form) -> None:
    new, notes = write.choose(published, at("rights"))
    assert new.values["jobs"] == 10
    assert new.values["default-resources"]["slurm_account"] == "plants"
    assert new.values["set-resources"]["distill"]["slurm_partition"] == "cpu"
    # Partition `gpu` has six, for another account of the user's.
    assert [n.text for n in notes if n.level == "warning"] == [
        "with account 'birds', 'gpu' has more GPUs: 6"
    ]
    own = form.parse(published.path, published.text.replace("# slurm_acc", "slurm_acc"))
    own = form.parse(own.path, own.text.replace("slurm_account: NAME", "slurm_account: birds"))
    new, notes = write.choose(own, at("rights"))
    train = new.values["set-resources"]["train"]
    assert (train["slurm_partition"], new.values["jobs"]) == ("gpu", 15)
    assert train["runtime"] == 720  # 24 h of the partition, 12 h of its quality of service
    assert "'gpu' has a100, v100, a job gets any" in notes[-1].text


def test_in_doubt_nothing_is_chosen(at: At, published: Form) -> None:
    there = at("main")
    twins = tuple(replace(p, default=False) for p in there.partitions)
    new, notes = write.choose(published, replace(there, partitions=twins, default_account=""))
    assert "slurm_partition" not in str(new.values)
    said = [note.text for note in notes]
    assert "slurm_partition (default-resources) is left open" in said[0]
    # Equal in GPUs; the two that are never preempted stay as candidates.
    assert said[1] == "slurm_partition (GPU) is left open: it could be main, urgent"


def test_two_accounts_and_no_default_are_left_open(at: At, published: Form) -> None:
    new, notes = write.choose(published, replace(at("rights"), default_account=""))
    assert "slurm_account" not in new.values["default-resources"]
    assert notes[0].text == "slurm_account is left open: it could be plants, birds, USER"


def test_a_cluster_without_gpus_is_said(at: At, published: Form) -> None:
    there = at("main")
    bare = tuple(replace(node, gpus={}) for node in there.nodes)
    _, notes = write.choose(published, replace(there, nodes=bare))
    assert notes[0].text == "no partition that you may use has a GPU"


def test_without_accounts_no_account_is_written(at: At, published: Form) -> None:
    new, _ = write.choose(published, at("plain"))
    assert "slurm_account" not in new.values["default-resources"]
    assert new.values["default-resources"]["slurm_partition"] == "main"


def test_gpus_by_gres_where_the_other_way_is_refused(
    at: At, published: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = at("main")

    def ask(*command: str, **_: Any) -> reader.Answer:
        return reader.Answer(int(any(word.startswith("--gpus") for word in command)), "", "no")

    monkeypatch.setattr(reader, "ask", ask)
    new, _ = write.choose(published, there)
    train = new.requests()[-1]
    assert (train.gpus, train.gres, train.wanted_gpus) == (0, "gpu:1", 1)
    assert "--gres=gpu:1" in train.options()


def test_sums_keep_their_shape(at: At, edited: Edit) -> None:
    own = edited(("min(32000 * attempt, 64000)", "32000 * attempt"))
    new, _ = write.choose(own, at("main"))
    assert "mem_mb: 4000 * attempt " in new.text
    assert new.requests()[-1].memory == (4000, 8000, 12000, 16000)


def test_asked_for_by_name_numbers_are_raised_too(at: At, edited: Edit) -> None:
    own = edited(("min(32000 * attempt, 64000)", "min(1000 * attempt, 2000)"))
    assert write.choose(own, at("main"))[0].requests()[-1].memory[0] == 1000
    new, _ = write.choose(own, at("main"), ["mem_mb"])
    assert new.requests()[-1].memory == (4000, 8000, 8000, 8000)


def test_several_gpus_take_their_parts_of_a_node(at: At, published: Form) -> None:
    new, _ = write.choose(published, at("main"), gpus=2)
    train = new.values["set-resources"]["train"]
    assert (train["mem_mb"], train["cpus_per_task"]) == ("min(8000 * attempt, 8000)", 4)


@pytest.mark.parametrize("name", ["night", "gpu-long", "a100.big", "8gpus", "x y", "while"])
def test_names_reach_snakemake_as_they_are(published: Form, name: str) -> None:
    keys = ("default-resources", "slurm_partition")
    new = write.apply(published, [Change(keys, name)])
    value = new.values["default-resources"]["slurm_partition"]
    # Snakemake evaluates it as Python, and takes it as a text where that fails.
    try:
        found = eval(value, {})  # noqa: S307
    except (NameError, SyntaxError):
        found = value
    assert found == name
    assert new.requests()[0].partition == name


def test_a_line_that_is_not_there_cannot_be_written(published: Form) -> None:
    with pytest.raises(ConfigError, match="no line `set-resources: stats: runtime`"):
        write.apply(published, [Change(("set-resources", "stats", "runtime"), 5)])


def test_a_line_that_means_something_else_is_not_written(edited: Edit) -> None:
    # The second `jobs` wins in YAML, so filling the first would do nothing.
    own = edited(("retries: 3 ", "jobs: 7\nretries: 3 "))
    with pytest.raises(ConfigError, match="`jobs` cannot be written"):
        write.apply(own, [Change(("jobs",), 5)])
    # What another line repeats would change too.
    own = edited(("jobs: 20 ", "jobs: &many 20 "), ("retries: 3 ", "retries: *many "))
    with pytest.raises(ConfigError, match="is no YAML"):
        write.apply(own, [Change(("jobs",), 5)])


def test_a_change_elsewhere_is_refused(published: Form) -> None:
    other = form.parse(published.path, published.text.replace("retries: 3 ", "retries: 4 "))
    with pytest.raises(ConfigError, match="`retries` would change"):
        write._compare(published, other, [])


def test_an_unknown_key_is_said(at: At, published: Form) -> None:
    with pytest.raises(ConfigError, match="did you mean 'mem_mb'"):
        write.choose(published, at("main"), ["memmb"])


def test_the_file_is_written_and_read_again(at: At, published: Form, tmp_path: Path) -> None:
    shutil.copy(published.path, tmp_path / "config.yaml")
    old = form.read(tmp_path)
    new, _ = write.choose(old, at("main"))
    write.write(new)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == new.values
    assert write.difference(old, new).count("\n+") == len(changed(old, new)) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
