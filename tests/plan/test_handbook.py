"""docs/recipes.md is what `cmkd explain --all` prints; comments are read as they are written."""

import re
from pathlib import Path
from typing import Any

import pytest

from cmkd import cli
from cmkd.plan import catalog, handbook
from cmkd.plan.comments import Comment, comments

ROOT = Path(__file__).parents[2]
CATALOG = catalog.Catalog(ROOT / "config")
PUBLISHED = ("fsd50k", "audioset_balanced", "audioset", "esc50", "esc10")
TEXT = """\
defaults:
  # Two lines
  # about it. [R1]
  input: {rate: 1}   # beside  [C:ast, own]
  model:
    plain: 2
    # above [P]
    tagged: 3
datasets:
  one: &one
    input: {rate: 5}  # shared [R1]
  two: *one
  three:
    <<: {kind: merged}  # from elsewhere [own]
    input: {rate: 6}  # own [C:psla]
"""


def test_comments_are_found_by_the_place_of_their_value(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(TEXT)
    found = comments(file)
    beside = Comment("C:ast, own", "beside", "Two lines about it. [R1]")
    assert found["defaults", "input"] == found["defaults", "input", "rate"] == beside
    assert found["defaults", "model", "plain"] == Comment("", "")
    assert found["defaults", "model", "tagged"] == Comment("P", "", "above")
    assert found["datasets", "two", "input"] == Comment("R1", "shared")
    assert found["datasets", "three", "kind"] == Comment("own", "from elsewhere")
    assert found["datasets", "three", "input", "rate"].grade == "C:psla"


def test_the_committed_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--all"]) == 0
    committed = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == committed, "call: make docs"


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_every_value_has_a_grade(dataset: str) -> None:
    text = handbook.handbook(CATALOG)
    sections = {title: body for title, _, body in (s.partition("\n") for s in text.split("### "))}
    body = next(body for title, body in sections.items() if dataset in title.split(", "))
    keys = re.compile(r"\| (input|model|objective|training)\.")
    rows = [line.split(" | ") for line in body.splitlines() if keys.match(line)]
    assert len(rows) > 25
    assert [row[0] for row in rows if not row[-2].strip()] == []


def test_the_values_shown_are_those_of_the_recipes() -> None:
    """A model that sets only its architecture has its family's values."""
    from cmkd.plan import suites

    suite = suites.load(CATALOG.folder / "config.yaml")
    for model in ("effnet_b0", "effnet_b0_att", "ast_tiny"):
        shown = handbook.family_values(CATALOG, "esc50", suite.family(model))
        for part in ("input", "training"):
            whole = suite.recipe("esc50", model).values[part]
            assert {key: whole[key] for key in shown[part]} == shown[part]


def test_families_with_equal_values_share_a_column(bench: Any) -> None:
    bench.write()
    bench.recipes["families"]["cnn_att"] = {}
    bench.write()
    text = handbook.handbook(catalog.Catalog(bench.folder))
    assert "| key | cnn, cnn_att | ast | grade, source | note |" in text
    assert "| training.lr | 0.01 | 0.02 |" in text
    assert "| `tau2` | objective.tau: 2.0 |" in text


def test_explain_needs_a_run_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain"]) == 2
    assert "needs the name of a run" in capsys.readouterr().err
