"""peek: marked wherever it is shown, never ranked, with the published habit beside it."""

import numpy as np
import pandas as pd
import pytest

from cmkd import files
from cmkd.reports import markdown, page
from cmkd.reports.leaderboard import leaderboard, render_terminal
from cmkd.scoring.scores import write_npz

NOTE = "its epoch was chosen on the test clips"


def peek(folder, run, values=None):
    """Give a run's folders the further readout, better than all, and scores by epoch."""
    for job in folder.jobs(run):
        of = folder.suite.folder(job)
        (of / "scores-peek.npz").write_bytes((of / "scores.npz").read_bytes())
        metrics = files.read_json(of / "metrics.json")
        metrics["readouts"]["peek"] = {"value": 0.99, "metrics": {"accuracy": 0.99}}
        files.write_json(of / "metrics.json", metrics)
        if values is not None:
            table = {"epochs": np.arange(1, 4), "values": np.array(values[job.fold, job.seed])}
            write_npz(of / "scores-epochs.npz", table)


@pytest.fixture
def folder(made):
    folder = made()
    folder.finish()
    return folder


def row(folder):
    table = leaderboard(folder.suite)
    return table[table["readout"] == "peek"].iloc[0]


def test_one_epoch_for_all_folds_is_the_best_of_the_mean(folder):
    first = {(1, 0): [0.2, 0.5, 0.6], (2, 0): [0.9, 0.6, 0.1], (3, 0): [0.1, 0.7, 0.3]}
    second = {(1, 1): [0.4, 0.1, 0.1], (2, 1): [0.5, 0.1, 0.9], (3, 1): [0.6, 0.1, 0.5]}
    peek(folder, "tr", first | second)
    # Means of seed 0: .4 .6 .333, of seed 1: .5 .1 .5 and the first counts.
    text = "one epoch for all folds, as published, gives 55.0 % (epoch 2 for seed 0, 1 for seed 1)"
    assert text in row(folder)["notes"]


def test_seeds_that_lack_a_fold_are_left_out_and_none_says_nothing(folder):
    values = {(fold, seed): [0.1, 0.2, 0.0] for fold in (1, 2, 3) for seed in (0, 1)}
    peek(folder, "tr", values)
    jobs = folder.jobs("tr")
    (folder.suite.folder(jobs[0]) / "scores-epochs.npz").write_bytes(b"damaged")
    assert "gives 20.0 % (epoch 2 for seed 1)" in row(folder)["notes"]
    (folder.suite.folder(jobs[1]) / "scores-epochs.npz").unlink()
    assert row(folder)["notes"] == NOTE


def test_with_a_fixed_split_the_row_itself_is_the_habit(made):
    folder = made(datasets=["many"], seeds=[0])
    folder.finish()
    peek(folder, "tr", {(0, 0): [0.1, 0.2, 0.0]})
    assert "one epoch for all folds" not in row(folder)["notes"]


def test_it_is_marked_in_every_rendering_and_not_ranked(folder):
    peek(folder, "tr")
    table = leaderboard(folder.suite)
    assert pd.isna(row(folder)["rank_low"]) and table["value"].max() == pytest.approx(0.99)
    assert set(table[table["readout"] == "last"]["rank_high"]) == {4}
    text = markdown.render(table, "small", {})
    assert "| `tr` (peek)" in text and f"- `tr (peek)`: {NOTE}" in text
    assert "Rows marked (peek) are too good by construction" in text
    html = page.render(table, "small", {}, {})
    assert '<tr class="peek">' in html and "<code>tr (peek)</code>" in html
    assert html.count('class="peek"') == 1 and "too good by construction" in html
    terminal = render_terminal(table)
    assert f"tr (peek): {NOTE}" in terminal and "too good by construction" in terminal
    without = table[table["readout"] != "peek"]
    assert "too good" not in markdown.render(without, "small", {})


def test_a_long_name_keeps_the_mark_on_a_terminal(folder):
    peek(folder, "tr")
    long = "effnet_b0_att+lambda025+long@ast_tiny+tau4@effnet_b0_att"
    table = leaderboard(folder.suite).replace({"run": {"tr": long}})
    line = next(line for line in render_terminal(table).splitlines() if " 99.0" in line)
    assert "(peek)" in line and len(line) <= 110


def test_a_remark_on_the_whole_run_names_it_once(folder):
    peek(folder, "tr")
    for job in folder.jobs("tr"):
        path = folder.suite.folder(job) / "metrics.json"
        files.write_json(path, files.read_json(path) | {"warnings": ["too few clips"]})
    text = markdown.render(leaderboard(folder.suite), "small", {})
    assert "- `tr`: warning 6/6: too few clips" in text
