"""Studies share trainings by name: what one of them has made, another does not plan again."""

from typing import Any

import pytest

FIRST, SECOND = "studies/attention_distillation", "studies/iterative"


@pytest.mark.slow
def test_a_second_study_plans_only_what_the_first_has_not_made(clean: Any) -> None:
    clean.run(suite=FIRST)
    made = {(call[3], call[1].split("/")[3]) for call in clean.calls("train")}
    assert len(made) == 15
    assert clean.plan(suite=FIRST) == []
    planned = [job for job in clean.plan(suite=SECOND) if job[0] in ("train", "distill")]
    shared = {"effnet_b0", "ast_tiny", "ast_tiny@effnet_b0"}
    assert {run for _, run in made} >= shared
    rounds = {
        *("effnet_b0@ast_tiny", "ast_tiny@effnet_b0@ast_tiny", "effnet_b0@ast_tiny@effnet_b0"),
        *("ast_tiny@effnet_b0@ast_tiny@effnet_b0", "effnet_b0@ast_tiny@effnet_b0@ast_tiny"),
    }
    assert {job[1] for job in planned} == rounds
    assert len(planned) == 3 * len(rounds)
    assert "prepare" not in {job[0] for job in clean.plan(suite=SECOND)}
