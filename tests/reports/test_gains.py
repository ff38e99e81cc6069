"""Values and gains against numbers worked out here from the files, by the written formula."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from cmkd.errors import RunError
from cmkd.reports import gains
from cmkd.reports.leaderboard import leaderboard


def hits(folder, run):
    """Return the correctness of a run's clips by hand: [folds, seeds, clips]."""
    found = {}
    for job in folder.jobs(run):
        with np.load(folder.suite.folder(job) / "scores.npz") as file:
            right = file["logits"].argmax(axis=1) == file["targets"].argmax(axis=1)
        found[job.fold, job.seed] = right.astype(float)
    return np.array([[found[fold, seed] for seed in (0, 1)] for fold in (1, 2, 3)])


def quadrature(d):
    """Return value and 95 % half-width of d [folds, seeds, clips] by docs/statistics.md."""
    folds, seeds, clips = d.shape
    g = d.mean(axis=2)
    u = d - g[:, :, None]
    mean = u.mean(axis=1)
    v_run = g.var(axis=1, ddof=1).sum() / seeds / folds**2
    v_clip = (mean**2).sum() / (clips * (clips - 1)) / folds**2
    v_both = ((u - mean[:, None]) ** 2).sum()
    v_both /= (seeds - 1) * (clips - 1) * clips * seeds * folds**2
    t = stats.t.ppf(0.975, folds * (seeds - 1))
    z = stats.norm.ppf(0.975)
    return g.mean(), math.sqrt(t**2 * v_run + z**2 * max(v_clip - v_both, 0.0))


def row(folder, run):
    table = leaderboard(folder.suite)
    return table[table["run"] == run].iloc[0]


def test_value_and_interval_are_the_written_formula(made):
    folder = made()
    folder.finish()
    value, half = quadrature(hits(folder, "tr@cnn_a"))
    found = row(folder, "tr@cnn_a")
    assert found[["value", "low", "high"]].tolist() == pytest.approx(
        [value, value - half, value + half], abs=1e-12
    )
    assert found["label"] == "runs+clips"


@pytest.mark.parametrize(("name", "reference"), [("gain_alone", "tr"), ("gain_teacher", "cnn_a")])
def test_gains_are_paired_by_clip_fold_and_seed(made, name, reference):
    folder = made()
    folder.quality = {"tr@cnn_a": 0.9}
    folder.finish()
    value, half = quadrature(hits(folder, "tr@cnn_a") - hits(folder, reference))
    found = row(folder, "tr@cnn_a")[[name, f"{name}_low", f"{name}_high"]].tolist()
    assert found == pytest.approx([value, value - half, value + half], abs=1e-12)


def test_the_order_of_clips_in_a_file_changes_nothing(made):
    folder = made()
    folder.finish()
    before = row(folder, "tr@cnn_a")
    path = folder.suite.folder(folder.jobs("tr")[0]) / "scores.npz"
    with np.load(path) as file:
        arrays = dict(file)
    order = np.random.default_rng(0).permutation(len(arrays["ids"]))
    for name in ("ids", "logits", "targets", "sources"):
        arrays[name] = arrays[name][order]
    np.savez(path, **arrays)
    after = row(folder, "tr@cnn_a")
    for name in ("gain_alone", "gain_alone_low", "gain_alone_high"):
        assert after[name] == pytest.approx(before[name], abs=1e-12)


def test_a_gain_in_map_is_over_classes_with_two_positives(made):
    folder = made(datasets=["many"], seeds=[0, 1])
    folder.finish()
    gain = []
    for student, alone in zip(folder.jobs("tr@cnn_a"), folder.jobs("tr"), strict=True):
        means = []
        for job in (student, alone):
            with np.load(folder.suite.folder(job) / "scores.npz") as file:
                arrays = dict(file)
            arrays["targets"][:, 0] = 0
            arrays["targets"][3, 0] = 1  # one positive clip: in the value, not in the gain
            np.savez(folder.suite.folder(job) / "scores.npz", **arrays)
            pairs = zip(arrays["targets"].T, arrays["logits"].T, strict=True)
            means.append(np.mean([average_precision_score(*pair) for pair in list(pairs)[1:]]))
        gain.append(means[0] - means[1])
    found = row(folder, "tr@cnn_a")
    assert found["gain_alone"] == pytest.approx(np.mean(gain), abs=1e-12)
    assert "1 classes with fewer than 2 positive clips left out of mAP" in found["notes"]


def test_a_missing_seed_drops_that_pair_only(made):
    folder = made()
    folder.finish(*(job for job in folder.suite.jobs() if job != folder.jobs("tr")[1]))
    found = row(folder, "tr@cnn_a")
    d = hits_without(folder, (1, 1))
    assert found["gain_alone"] == pytest.approx(d, abs=1e-12)
    assert found["done"] == 6


def hits_without(folder, key):
    """Return the mean gain of tr@cnn_a over tr without one (fold, seed)."""
    folds = {}
    for student, alone in zip(folder.jobs("tr@cnn_a"), folder.jobs("tr"), strict=True):
        if (student.fold, student.seed) != key:
            right = []
            for job in (student, alone):
                with np.load(folder.suite.folder(job) / "scores.npz") as file:
                    same = file["logits"].argmax(axis=1) == file["targets"].argmax(axis=1)
                right.append(same.mean())
            folds.setdefault(student.fold, []).append(right[0] - right[1])
    return np.mean([np.mean(of) for of in folds.values()])


def test_arms_on_different_clips_give_no_gain_but_a_remark(made):
    folder = made(seeds=[0])
    folder.finish()
    for job in folder.jobs("tr"):
        path = folder.suite.folder(job) / "scores.npz"
        with np.load(path) as file:
            arrays = dict(file)
        arrays["ids"] = np.array([f"other-{name}" for name in arrays["ids"]])
        np.savez(path, **arrays)
    found = row(folder, "tr@cnn_a")
    assert np.isnan(found["gain_alone"])
    assert "no gain over the student alone: fold 1: runs were scored on different" in found["notes"]
    assert not np.isnan(found["gain_teacher"])


def test_a_damaged_scores_file_is_said_and_left_out(made):
    folder = made()
    folder.finish()
    path = folder.suite.folder(folder.jobs("tr")[0]) / "scores.npz"
    path.write_bytes(b"not an archive")
    found = row(folder, "tr")
    assert f"{path} cannot be read" in found["notes"]
    assert not np.isnan(found["value"])
    with pytest.raises(RunError, match="evaluate this run again"):
        gains.load(path, "accuracy")


def test_folds_that_start_from_one_run_count_by_seed(made, catalog):
    path = catalog / "variants.yaml"
    path.write_text(path.read_text() + 'pre: {model: {weights: "run:many/{model}"}}\n')
    folder = made(pairs=["alone", "cnn_a+pre"], models=["cnn_a", "tr"])
    folder.finish()
    found, alone = row(folder, "cnn_a+pre"), row(folder, "tr")
    assert (found["label"], alone["label"]) == ("seed means", "runs+clips")
    means = hits(folder, "cnn_a+pre").mean(axis=(0, 2))  # a number for each of two seeds
    assert found["value"] == pytest.approx(means.mean())
    run_term = stats.t.ppf(0.975, 1) * means.std(ddof=1) / math.sqrt(2)
    assert (found["high"] - found["low"]) / 2 >= run_term
