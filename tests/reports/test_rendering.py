"""Markdown, HTML and terminal text of one table, and the words for its numbers."""

import re

import pandas as pd
import pytest

from cmkd import reports
from cmkd.reports import columns, markdown, page
from cmkd.reports.leaderboard import leaderboard, render_terminal, to_csv


@pytest.fixture
def folder(made):
    folder = made(pairs=["alone", "cross", "self"])
    folder.quality = {"tr@cnn_a": 0.9, "tr": 0.5}
    folder.finish(*(job for job in folder.suite.jobs() if job.run != "tr@tr"))
    folder.fail(folder.jobs("tr@tr")[0], message="the loss | is <nan>")
    return folder


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0213, "+2.1"), (-0.004, "\N{MINUS SIGN}0.4"), (0.0, "0.0"), (-0.0001, "0.0"), (None, "")],
)
def test_gains_are_points_with_a_sign(value, text):
    assert columns.points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.012"), (1.26, "1.3"), (12.6, "13"), (126.4, "126"), (0.0, "0"), (None, "")],
)
def test_hours_have_two_digits(value, text):
    assert columns.hours(value) == text


def test_ranks_and_intervals():
    assert columns.rank(1, 3) == "1–3"
    assert columns.rank(2, 2) == "2"
    assert columns.rank(None, None) == ""
    assert columns.with_interval(0.712, 0.691, 0.733) == "71.2 [69.1, 73.3]"
    assert columns.with_interval(0.712, None, None) == "71.2"
    assert columns.millions(5_288_548) == "5.3 M"


def test_a_scores_interval_is_shown_within_0_and_100_a_gains_is_not():
    assert columns.with_interval(0.673, -0.174, 1.52) == "67.3 [0.0, 100.0]"
    assert columns.with_interval(0.083, -1.5, 1.2, signed=True) == "+8.3 [−150.0, +120.0]"


def test_every_rendering_says_that_intervals_are_cut_and_the_csv_holds_them_whole(folder):
    table = leaderboard(folder.suite)
    wide = table.assign(low=-0.174, high=1.52)
    for render in (
        lambda rows: markdown.render(rows, "small", {}),
        lambda rows: page.render(rows, "small", {}, {}),
        lambda rows: " ".join(render_terminal(rows).split()),
    ):
        assert "shown within 0 and 100" not in render(table)
        assert "shown within 0 and 100" in render(wide)
        assert "[0.0, 100.0]" in render(wide) and "152.0" not in render(wide)
    assert ",-0.174,1.52," in to_csv(wide)


def table_lines(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_a_suite_that_its_budget_ended_says_so_above_its_rows(folder):
    sentence = "budget of device hours (execution: budget_gpu_hours) ended it"
    assert sentence not in markdown.render(leaderboard(folder.suite), "small", {})
    folder.fail(folder.jobs("tr@tr")[0], kind="budget", message="does not reach")
    table = leaderboard(folder.suite)
    assert sentence in markdown.render(table, "small", {})
    assert sentence in page.render(table, "small", {}, {})


def test_markdown_is_a_well_formed_table_of_all_rows(folder):
    table = leaderboard(folder.suite)
    text = markdown.render(table, "small", {})
    lines = table_lines(text)
    assert len(lines) == 2 + len(table)
    cells = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
    assert len(cells) == 1
    row = table.set_index("run").loc["tr@cnn_a"]
    line = next(line for line in lines if "`tr@cnn_a`" in line)
    assert f"{100 * row['value']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in line
    assert f"+{100 * row['gain_alone']:.1f} [" in line
    assert "CNN → transformer" in line
    assert "6/6" in line


def test_markdown_explains_counts_and_names_causes(folder):
    text = markdown.render(leaderboard(folder.suite), "small", {})
    assert "30 of 36 runs are done." in text
    assert "runs+clips = over new trainings and new test clips" in text
    assert r"- `tr@tr`: failed 1/6: non-finite: the loss \| is \<nan\>" in text
    assert "](../../figures/small/gains-tiny.png)" in text
    assert "mAP" not in text


def test_the_note_on_map_stands_where_map_is(made):
    folder = made(datasets=["many"], seeds=[0])
    folder.finish()
    table = leaderboard(folder.suite)
    assert "classes with at least two positive test clips" in markdown.render(table, "small", {})
    assert "mAP, %" in render_terminal(table)


def test_the_page_needs_nothing_beside_it(folder):
    paths = reports.tables(folder.suite)
    text = next(path for path in paths if path.suffix == ".html").read_text(encoding="utf-8")
    assert text.count("data:image/svg+xml;base64,") == 2
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in text.replace("data:image", "")
    assert text.count("<tr") == 1 + len(leaderboard(folder.suite))


def test_the_page_escapes_what_it_shows(folder):
    text = page.render(leaderboard(folder.suite), "a<b>", {"tiny": ["1 < 2"]}, {})
    assert "a&lt;b&gt;" in text
    assert "the loss | is &lt;nan&gt;" in text
    assert "1 &lt; 2" in text
    assert "<nan>" not in text


def test_the_terminal_table_fits_and_says_the_same(folder):
    table = leaderboard(folder.suite)
    text = render_terminal(table)
    assert max(map(len, text.splitlines())) <= 110
    assert "tiny: 30 of 36 runs done" in text
    row = table.set_index("run").loc["tr@cnn_a"]
    line = next(line for line in text.splitlines() if " tr@cnn_a " in line)
    assert f"{100 * row['value']:.1f} [" in line
    assert columns.points(row["gain_teacher"]) in line
    assert "tr@tr: failed 1/6: non-finite" in text


def test_the_widest_terminal_table_fits(folder):
    table = leaderboard(folder.suite)
    long = "effnet_b0_att+lambda025+long@ast_tiny+tau4@effnet_b0_att"
    table = table.assign(run=long, rank_low=10, rank_high=90, value=1.0, low=0.5, high=1.0,
                         gain_alone=-0.5, gain_alone_low=-0.6, gain_alone_high=-0.4,
                         gain_teacher=-0.5, gain_teacher_low=-0.6, gain_teacher_high=-0.4,
                         gpu_hours_total=12345.6)  # fmt: skip
    text = render_terminal(table)
    assert max(map(len, text.splitlines())) <= 110
    assert re.search(r"\d  effnet_b0\S*…\S*_b0_att  +100.0 ", text)


def test_an_empty_table_is_a_sentence(folder):
    empty = leaderboard(folder.suite).iloc[:0]
    assert render_terminal(empty) == "The suite has no runs.\n"
    assert "The suite has no runs." in markdown.render(empty, "small", {})
    assert "The suite has no runs." in page.render(empty, "small", {}, {})


def test_a_run_counts_once_however_many_readouts_it_has(folder):
    table = leaderboard(folder.suite)
    further = table[table["run"] == "tr"].assign(readout="best")
    text = render_terminal(pd.concat([table, further], ignore_index=True))
    assert "tiny: 30 of 36 runs done" in text
