"""Ensembles' rows against means of probabilities worked out here from the scores files."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cmkd import reports
from cmkd.reports import markdown, page
from cmkd.reports.gains import Design
from cmkd.reports.leaderboard import leaderboard, render_terminal
from cmkd.scoring.influence import run_score

TWO = {"two": ["cnn_a", "tr@cnn_a"]}


def arrays(folder, job):
    with np.load(folder.suite.folder(job) / "scores.npz") as file:
        return dict(file)


def softmax(logits):
    e = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def job_at(folder, run, fold, seed):
    return next(j for j in folder.jobs(run) if (j.fold, j.seed) == (fold, seed))


def probabilities(folder, runs, fold, seeds):
    """Return the mean probabilities of runs and seeds on a fold, and the targets."""
    found = [arrays(folder, job_at(folder, run, fold, seed)) for run in runs for seed in seeds]
    return np.mean([softmax(of["logits"]) for of in found], axis=0), found[0]


def grid(folder, runs):
    """Return the scores of an ensemble at each fold and seed."""
    scores = {}
    for fold in (1, 2, 3):
        for seed in (0, 1):
            mean, of = probabilities(folder, runs, fold, [seed])
            scores[fold, seed] = run_score(mean, of["targets"], "accuracy", of["ids"])
    return scores


def row(folder, name):
    table = leaderboard(folder.suite)
    found = table[table["run"] == name]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture
def folder(made):
    folder = made(ensembles=TWO)
    folder.quality = {"tr@cnn_a": 0.7, "cnn_a": 0.4}
    folder.finish()
    return folder


def test_value_interval_and_gain_are_those_of_the_mean_probabilities(folder):
    found, design = row(folder, "ens:two"), Design("accuracy", (1, 2, 3), (0, 1))
    own = grid(folder, ["cnn_a", "tr@cnn_a"])
    expected = design.estimate([(1.0, own)])
    assert found[["value", "low", "high"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high], abs=1e-12
    )
    # cnn_a has no teacher and stands for itself beside the student alone
    gain = design.estimate([(1.0, own), (-1.0, grid(folder, ["cnn_a", "tr"]))])
    assert found[["gain_alone", "gain_alone_low", "gain_alone_high"]].tolist() == pytest.approx(
        [gain.value, gain.low, gain.high], abs=1e-12
    )
    assert "its gain over alone is over the mean of cnn_a, tr" in found["notes"]
    assert found[["done", "planned"]].tolist() == [6, 6]
    assert found["label"] == "runs+clips"


def test_what_it_is_and_what_it_costs(folder):
    found = row(folder, "ens:two")
    table = leaderboard(folder.suite).set_index("run")
    members = table.loc[["cnn_a", "tr@cnn_a"]]
    names = ["student", "teacher", "class", "teacher_class", "direction", "readout"]
    assert found[names].tolist() == ["ens:two", "", "ensemble", "", "ensemble", "last"]
    assert found["params"] == members["params"].sum()
    for name in ("gflops", "gpu_hours", "gpu_hours_total"):
        assert found[name] == pytest.approx(members[name].sum(), rel=1e-9)
    assert found["ids_hash"] == table.loc["cnn_a", "ids_hash"]
    assert "the mean of the probabilities of cnn_a, tr@cnn_a" in found["notes"]
    assert np.isnan(found["gain_teacher"]) and np.isnan(found["clips_per_second"])


def test_it_is_ranked_with_the_others(folder):
    table = leaderboard(folder.suite)
    assert table["rank_low"].notna().all()
    assert set(table["rank_high"]) <= {1, 2, 3, 4, 5} and table["rank_high"].max() == 5


def test_over_seeds_gives_one_value_a_fold(made):
    folder = made(ensembles={"s": {"runs": ["tr"], "over": "seeds"}})
    folder.finish()
    found, scores = row(folder, "ens:s"), {}
    for fold in (1, 2, 3):
        mean, of = probabilities(folder, ["tr"], fold, (0, 1))
        scores[fold, 0] = run_score(mean, of["targets"], "accuracy", of["ids"])
    expected = Design("accuracy", (1, 2, 3), (0,)).estimate([(1.0, scores)])
    assert found[["value", "low", "high"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high], abs=1e-12
    )
    assert found["label"] == "one run per fold"
    assert found[["done", "planned"]].tolist() == [3, 3]
    single = leaderboard(folder.suite).set_index("run").loc["tr"]
    assert found["params"] == 2 * single["params"]
    assert found["gpu_hours"] == pytest.approx(single["gpu_hours"])
    assert "probabilities of tr over the seeds 0, 1" in found["notes"]


def test_on_a_fixed_split_over_seeds_says_nothing_about_training_again(made):
    folder = made(datasets=["many"], seeds=[0, 1, 2],
                  ensembles={"s": {"runs": ["tr"], "over": "seeds"}})  # fmt: skip
    folder.finish()
    assert row(folder, "ens:s")["label"] == "clips only"


def test_sigmoids_for_several_labels(made):
    folder = made(datasets=["many"], seeds=[0], ensembles={"two": ["cnn_a", "tr"]})
    folder.finish()
    found = [arrays(folder, job_at(folder, run, 0, 0)) for run in ("cnn_a", "tr")]
    mean = np.mean([1 / (1 + np.exp(-of["logits"].astype(float))) for of in found], axis=0)
    expected = average_precision_score(found[0]["targets"], mean, average="macro")
    assert row(folder, "ens:two")["value"] == pytest.approx(expected, abs=1e-12)


def test_members_that_are_not_done_are_waited_for_and_named(made):
    folder = made(ensembles=TWO)
    folder.finish(*folder.jobs("cnn_a"), *folder.jobs("tr@cnn_a")[:4])
    found = row(folder, "ens:two")
    assert found[["done", "planned"]].tolist() == [4, 6]
    assert found["label"] == "incomplete" and np.isnan(found["low"])
    assert "members not done yet: tr@cnn_a 4/6" in found["notes"]
    assert "the student alone" not in found["notes"]  # it is planned, only not done
    nothing = made(ensembles=TWO, results=str(folder.root / "empty"))
    empty = row(nothing, "ens:two")
    assert empty["label"] == "not run" and np.isnan(empty["value"]) and empty["done"] == 0


def test_members_outside_the_pairs_get_rows_that_say_why(made):
    folder = made(pairs=["cnn_a"], ensembles={"two": ["cnn_a", "tr"]})
    folder.finish()
    assert "run because an ensemble needs it" in row(folder, "tr")["notes"]


def test_a_student_without_its_alone_gives_no_gain_but_a_note(made):
    folder = made(pairs=["tr@cnn_a"], ensembles=TWO)
    folder.finish()
    found = row(folder, "ens:two")
    assert np.isnan(found["gain_alone"])
    assert (
        "the student alone of tr@cnn_a is not in the suite, so there is no gain" in (found["notes"])
    )


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda a: a | {"ids": np.array([f"x{i:02d}" for i in range(24)])},
         "not formed on fold 1, seed 0: cnn_a (seed 0) and tr@cnn_a (seed 0) were scored on "
         "different clips (48 differ, such as 'tiny-1-00'), evaluate them again on the same"),
        (lambda a: a | {"classes": a["classes"][::-1]},
         "cnn_a (seed 0) and tr@cnn_a (seed 0) have other classes"),
        (lambda a: a | {"targets": np.roll(a["targets"], 1, axis=1)},
         "were scored against different labels"),
    ],
)  # fmt: skip
def test_members_that_disagree_are_one_sentence(folder, spoil, text):
    path = folder.suite.folder(folder.jobs("tr@cnn_a")[0]) / "scores.npz"
    np.savez(path, **spoil(arrays(folder, folder.jobs("tr@cnn_a")[0])))
    found = row(folder, "ens:two")
    assert text in found["notes"]
    assert found["done"] == 5


def test_a_damaged_member_is_said(folder):
    (folder.suite.folder(folder.jobs("cnn_a")[2]) / "scores.npz").write_bytes(b"no archive")
    assert "cannot be read" in row(folder, "ens:two")["notes"]


def test_the_order_of_a_members_clips_changes_nothing(folder):
    before = row(folder, "ens:two")
    job = folder.jobs("tr@cnn_a")[0]
    found = arrays(folder, job)
    order = np.random.default_rng(0).permutation(24)
    for name in ("ids", "logits", "targets", "sources"):
        found[name] = found[name][order]
    np.savez(folder.suite.folder(job) / "scores.npz", **found)
    assert row(folder, "ens:two").equals(before)


def test_every_rendering_tells_ensembles_from_runs(folder):
    table = leaderboard(folder.suite)
    for text in (
        markdown.render(table, "small", {}),
        page.render(table, "small", {}, {}),
        render_terminal(table),
    ):
        assert "ens:two" in text and "are ensembles: the mean of the probabilities" in " ".join(
            text.split()
        )
    assert "All 24 runs are done." in markdown.render(table, "small", {})  # it is no run
    assert len(reports.tables(folder.suite)) >= 7


def test_only_the_cost_figure_shows_them(folder):
    from cmkd.reports import heatmap, tradeoff

    def texts(figure):
        return {text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text"))}

    table = leaderboard(folder.suite)
    assert "ens:two" not in texts(heatmap.draw(table, "tiny", "small"))
    assert "ens:two" in texts(tradeoff.draw(table, "tiny", "small"))
