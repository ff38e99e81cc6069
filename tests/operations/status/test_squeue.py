"""Slurm's queue: what squeue says, and what is said when it says nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from cmkd.operations.status import squeue
from cmkd.operations.status.look import look
from cmkd.operations.status.runs import Seen
from cmkd.plan.suites import Job

FIRST = Job("toy", "small_cnn", 1, 0)
OTHER = Job("toy", "small_ast", 2, 1)
STUDENT = Job("toy", "small_cnn@small_ast", 1, 0)
Program = Callable[[str, str], None]


def line(comment: str, folder: Any, state: str = "PENDING", **changes: str) -> str:
    """Return a line of squeue."""
    values = {"number": "12", "reason": "Priority", "node": ""} | changes
    return "|".join(
        (values["number"], state, values["reason"], values["node"], comment, str(folder))
    )


def say(program: Program, *lines: str) -> None:
    """Let squeue say lines."""
    text = "\n".join(lines)
    program("squeue", f"cat <<'END'\n{text}\nEND")


def of(tree: Any, job: Job) -> Seen:
    """Return what is seen of one run."""
    return {seen.job: seen for seen in look(tree.suite).runs}[job]


def test_pending_jobs_are_queued_with_their_reason(tree: Any, program: Program) -> None:
    say(
        program,
        line("rule_train_wildcards_toy_small_ast_2_1", tree.root, reason="Resources"),
        line("rule_distill_wildcards_toy_small_cnn_small_ast_1_0", tree.root, number="13"),
    )
    seen = of(tree, OTHER)
    assert (seen.state, seen.reason, seen.slurm) == ("queued", "Resources", "12")
    assert (of(tree, STUDENT).state, of(tree, STUDENT).slurm) == ("queued", "13")
    snapshot = look(tree.suite)
    assert snapshot.counts()["queued"] == 2 and "2 job(s)" in snapshot.queue.note


def test_jobs_of_another_folder_or_another_rule_are_not_ours(tree: Any, program: Program) -> None:
    say(
        program,
        line("rule_train_wildcards_toy_small_ast_2_1", "/another/folder"),
        line("rule_sort_wildcards_toy_small_cnn_2_1", tree.root),
        line("(null)", tree.root),
        "half a line|PENDING",
        "",
    )
    assert look(tree.suite).counts()["queued"] == 0


def test_a_retry_in_the_queue_keeps_the_cause_before(tree: Any, program: Program) -> None:
    tree.fail(OTHER)
    say(program, line("rule_train_wildcards_toy_small_ast_2_1", tree.root))
    seen = of(tree, OTHER)
    assert seen.state == "queued" and "the loss is nan" in seen.cause


def test_a_job_that_has_begun_is_running_before_its_first_sign(tree: Any, program: Program) -> None:
    comment = "rule_train_wildcards_toy_small_ast_2_1"
    say(program, line(comment, tree.root, "RUNNING", node="node3"))
    seen = of(tree, OTHER)
    assert (seen.state, seen.cause, seen.host) == ("running", "starting", "node3")


@pytest.mark.parametrize(
    ("state", "said"), [("RUNNING", "though Slurm says RUNNING"), ("SUSPENDED", "SUSPENDED")]
)
def test_a_silent_run_in_the_queue_is_not_lost(
    tree: Any, program: Program, state: str, said: str
) -> None:
    tree.lease(OTHER, age=500, job="12")
    say(program, line("rule_train_wildcards_toy_small_ast_2_1", tree.root, state))
    seen = of(tree, OTHER)
    assert seen.state == "running" and said in seen.cause


def test_a_silent_run_whose_job_is_gone_has_slurms_word(tree: Any, program: Program) -> None:
    tree.lease(OTHER, age=500, job="12")
    say(program)
    program("sacct", "echo '12|OUT_OF_MEMORY'; echo '13|COMPLETED'")
    seen = of(tree, OTHER)
    assert seen.state == "lost"
    assert "12 has left the queue" in seen.cause and "OUT_OF_MEMORY" in seen.cause
    assert "memory" in str(seen.advice)


def test_a_finished_run_stays_done_whatever_the_queue_says(tree: Any, program: Program) -> None:
    say(program, line("rule_evaluate_wildcards_toy_small_cnn_1_0", tree.root, "COMPLETING"))
    assert of(tree, FIRST).state == "done"


def test_a_job_at_work_outweighs_one_that_waits(tree: Any, program: Program) -> None:
    comment = "rule_train_wildcards_toy_small_ast_2_1"
    both = [line(comment, tree.root, "RUNNING", number="5"), line(comment, tree.root, number="6")]
    say(program, *both)
    assert of(tree, OTHER).slurm == "5"
    say(program, *reversed(both))
    assert of(tree, OTHER).slurm == "5"


def test_preparing_is_queued_too(tree: Any, program: Program) -> None:
    (tree.suite.prepared_folder("toy") / "clips.bin").unlink()
    say(program, line("rule_prepare_wildcards_toy", tree.root))
    states = {item.kind: item.state for item in look(tree.suite).data}
    assert states["prepare"] == "queued"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "Unable"),
        ("exit 3", "ended with 3"),
        ("exec sleep 60", "did not answer within"),
        ("printf '\\377\\376|PENDING\\n'", "0 job(s)"),
    ],
)
def test_a_queue_in_trouble_is_one_line(
    tree: Any, program: Program, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squeue, "SECONDS", 0.5)
    program("squeue", text)
    snapshot = look(tree.suite)
    assert said in snapshot.queue.note and "\n" not in snapshot.queue.note
    assert snapshot.counts()["done"] == 1


def test_without_slurm_it_is_said(tree: Any) -> None:
    assert "no Slurm" in look(tree.suite).queue.note


def test_silence_is_not_explained_where_slurm_was_not_asked(tree: Any, program: Program) -> None:
    tree.lease(OTHER, age=500, job="12")
    program("squeue", "exit 1")
    program("sacct", "echo '12|OUT_OF_MEMORY'")
    assert "queue" not in of(tree, OTHER).cause and "MEMORY" not in of(tree, OTHER).cause
