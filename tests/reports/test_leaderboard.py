import io
import subprocess
import sys

import numpy as np
import pandas as pd

from cmkd import files, reports
from cmkd.reports import columns
from cmkd.reports.leaderboard import leaderboard, to_csv

# docs/interfaces.md promises these columns
EXPECTED = (
    "rank_low,rank_high,dataset,run,student,teacher,class,teacher_class,direction,readout,metric,"
    "value,low,high,gain_alone,gain_alone_low,gain_alone_high,gain_teacher,gain_teacher_low,"
    "gain_teacher_high,label,done,planned,params,gflops,gpu_hours,gpu_hours_total,"
    "clips_per_second,weights_origin,ids_hash,notes"
)


def by_run(folder):
    return leaderboard(folder.suite).set_index("run")


def test_the_columns_are_those_of_the_design(made):
    folder = made(seeds=[0])
    folder.finish()
    text = to_csv(leaderboard(folder.suite))
    assert text.splitlines()[0] == EXPECTED
    assert EXPECTED.split(",") == columns.COLUMNS


def test_one_row_for_each_run_best_first_with_what_it_is(made):
    folder = made(pairs=["alone", "cross", "self"])
    folder.quality = {"tr@cnn_a": 0.95, "cnn_a": 0.1}
    folder.finish()
    table = leaderboard(folder.suite)
    assert sorted(table["run"]) == ["cnn_a", "cnn_a@cnn_a", "cnn_a@tr", "tr", "tr@cnn_a", "tr@tr"]
    assert table["run"].iloc[0] == "tr@cnn_a"
    assert table["run"].iloc[-1] == "cnn_a"
    assert table["value"].is_monotonic_decreasing
    best = table.iloc[0]
    assert best[
        ["student", "teacher", "class", "teacher_class", "direction", "readout"]
    ].tolist() == [*("tr", "cnn_a", "transformer", "cnn", "cnn_to_transformer", "last")]
    assert set(table["weights_origin"]) == {"none"}
    assert set(table["metric"]) == {"accuracy"}
    alone = table.set_index("run").loc["tr"]
    assert (alone["teacher"], alone["direction"]) == ("", "alone")
    assert np.isnan(alone["gain_alone"])


def test_a_value_is_the_mean_of_the_metrics_files(made):
    folder = made()
    folder.finish()
    paths = [folder.suite.folder(job) / "metrics.json" for job in folder.jobs("tr")]
    mean = np.mean([files.read_json(path)["value"] for path in paths])
    assert np.isclose(by_run(folder).loc["tr", "value"], mean, atol=1e-12)


def test_nothing_done_gives_every_row_without_numbers(made):
    folder = made()
    table = leaderboard(folder.suite)
    assert len(table) == 4
    assert table[["value", "low", "rank_low", "gain_alone", "gpu_hours"]].isna().all().all()
    assert set(table["done"]) == {0}
    assert set(table["planned"]) == {6}
    assert set(table["label"]) == {"not run"}
    assert len(reports.tables(folder.suite)) == 11


def test_a_missing_fold_leaves_the_interval_and_the_rank_out(made):
    folder = made()
    folder.finish(*folder.jobs("cnn_a"), *folder.jobs("tr")[:4])
    table = by_run(folder)
    assert table.loc["tr", "label"] == "incomplete"
    assert table.loc["tr", ["done", "planned"]].tolist() == [4, 6]
    assert table[["low", "rank_low"]].isna().loc["tr"].all()
    assert table.loc["tr", "value"] > 0
    assert table.loc["cnn_a", ["rank_low", "rank_high"]].tolist() == [1, 1]


def test_a_failed_run_is_a_row_with_its_cause(made):
    folder = made(seeds=[0])
    folder.finish(*folder.jobs("cnn_a"), *folder.jobs("tr")[:2])
    folder.fail(folder.jobs("tr")[2])
    table = by_run(folder)
    cause = "failed 1/3: non-finite: the loss is nan in epoch 3, step 7"
    assert cause in table.loc["tr", "notes"]
    assert table.loc["tr", "done"] == 2


def test_stale_runs_say_so_and_give_no_number(made):
    old = made(seeds=[0])
    old.finish()
    table = by_run(made(seeds=[0], set={"training": {"lr": 0.5}}))
    assert table["value"].isna().all()
    assert set(table["notes"]) == {"stale 3/3: its recipe has changed since"}


def test_a_student_without_its_alone_has_no_gain_but_a_note(made):
    folder = made(pairs=["tr@cnn_a"], seeds=[0])
    folder.finish()
    table = by_run(folder)
    assert "the student alone is not in the suite" in table.loc["tr@cnn_a", "notes"]
    assert np.isnan(table.loc["tr@cnn_a", "gain_alone"])
    assert not np.isnan(table.loc["tr@cnn_a", "gain_teacher"])
    assert "another run needs it" in table.loc["cnn_a", "notes"]


def test_a_variant_that_leaves_the_alone_run_as_it_is_is_compared_with_it(made):
    folder = made(pairs=["alone", "tr+tau2@cnn_a", "tr+long@cnn_a"], seeds=[0])
    folder.finish()
    table = by_run(folder)
    right = table.loc["tr+tau2@cnn_a", "value"] - table.loc["tr", "value"]
    assert np.isclose(table.loc["tr+tau2@cnn_a", "gain_alone"], right, atol=1e-12)
    assert "its student alone is tr" in table.loc["tr+tau2@cnn_a", "notes"]
    assert np.isnan(table.loc["tr+long@cnn_a", "gain_alone"])


def test_declared_oddities_are_noted(made):
    folder = made(seeds=[0])
    declared = [{"kind": "source", "sentence": "source 1 lies in folds 1 and 2.", "clips": []}]
    path = folder.suite.prepared_folder("tiny") / "audit.json"
    files.write_json(path, {"format": 1, "declared": declared})
    assert by_run(folder).loc["tr", "notes"] == "data: 1 declared oddities, see audit.json"
    paths = reports.tables(folder.suite)
    text = next(path for path in paths if path.suffix == ".md").read_text(encoding="utf-8")
    assert "- source 1 lies in folds 1 and 2." in text


def test_warnings_of_a_run_are_noted(made):
    folder = made(seeds=[0])
    folder.finish()
    folder.finish(folder.jobs("tr")[1], warnings=["AUC 0.501 is near 0.5; look at it"])
    assert by_run(folder).loc["tr", "notes"] == "warning 1/3: AUC 0.501 is near 0.5"


def test_a_semicolon_stands_only_between_notes(made):
    folder = made(seeds=[0])
    folder.fail(folder.jobs("tr")[0], message="no space left; free some")
    folder.finish(*folder.jobs("tr")[1:])
    notes = by_run(folder).loc["tr", "notes"].split("; ")
    assert notes == [
        "failed 1/3: non-finite: no space left, free some",
        "no complete run of fold 1",
    ]


def test_runs_on_other_test_clips_are_ranked_apart(made):
    folder = made()
    folder.quality = {"cnn_a": 0.2, "tr": 0.97, "tr@cnn_a": 0.97, "cnn_a@tr": 0.2}
    folder.finish()
    table = by_run(folder)
    assert table["ids_hash"].nunique() == 1
    assert table.loc["tr", ["rank_low", "rank_high"]].tolist() == [1, 2]
    assert table.loc["cnn_a", ["rank_low", "rank_high"]].tolist() == [3, 4]
    for job in folder.jobs("cnn_a"):
        path = folder.suite.folder(job) / "metrics.json"
        files.write_json(path, files.read_json(path) | {"ids_hash": "e" * 64})
    table = by_run(folder)
    assert table["ids_hash"].nunique() == 2
    assert table.loc["cnn_a", ["rank_low", "rank_high"]].tolist() == [1, 1]
    assert table.loc["cnn_a@tr", ["rank_low", "rank_high"]].tolist() == [3, 3]


def test_two_copies_of_a_dataset_are_ranked_and_compared_apart(made):
    folder = made(datasets=["many"])
    folder.quality = {"cnn_a": 0.2, "tr": 0.97, "tr@cnn_a": 0.97, "cnn_a@tr": 0.2}
    folder.finish()
    whole = by_run(folder)
    assert whole.loc["cnn_a@tr", "gain_alone"] is not None and whole["ids_hash"].nunique() == 1
    for job in folder.jobs("cnn_a"):
        path = folder.suite.folder(job) / "scores.npz"
        with np.load(path) as file:
            arrays = dict(file)
        kept = {key: arrays[key][3:] for key in ("ids", "logits", "targets", "sources")}
        np.savez(path, **{**arrays, **kept})
        digest = files.sha256_text("\n".join(sorted(kept["ids"])))
        path = folder.suite.folder(job) / "metrics.json"
        files.write_json(path, files.read_json(path) | {"ids_hash": digest, "n": len(kept["ids"])})
    table = by_run(folder)
    assert table["ids_hash"].nunique() == 2
    assert table.loc["cnn_a", ["rank_low", "rank_high"]].tolist() == [1, 1]
    assert table.loc["cnn_a@tr", "rank_high"] == 3
    assert np.isnan(table.loc["cnn_a@tr", "gain_alone"])
    assert "scored on different clips" in table.loc["cnn_a@tr", "notes"]
    assert table.loc["tr@cnn_a", "gain_alone"] == whole.loc["tr@cnn_a", "gain_alone"]


def test_one_seed_on_a_fixed_split_proves_no_rank(made):
    folder = made(datasets=["many"], seeds=[0])
    folder.quality = {"cnn_a": 0.0, "tr": 1.0}
    folder.finish()
    table = by_run(folder)
    assert set(table["label"]) == {"clips only"}
    assert set(table["rank_low"]) == {1}
    assert set(table["rank_high"]) == {4}
    job = folder.jobs("tr")[0]
    metrics = files.read_json(folder.suite.folder(job) / "metrics.json")
    assert table.loc["tr", "ids_hash"] == metrics["ids_hash"]


def test_further_readouts_are_further_rows_without_rank(made):
    folder = made(seeds=[0])
    folder.finish()
    for job in folder.jobs("tr") + folder.jobs("tr@cnn_a"):
        run = folder.suite.folder(job)
        (run / "scores-peek.npz").write_bytes((run / "scores.npz").read_bytes())
        metrics = files.read_json(run / "metrics.json")
        metrics["readouts"]["peek"] = {"value": 0.99, "metrics": {"accuracy": 0.99}}
        files.write_json(run / "metrics.json", metrics)
    table = leaderboard(folder.suite)
    assert len(table) == 6
    peek = table[table["readout"] == "peek"].set_index("run")
    assert peek["rank_low"].isna().all()
    assert np.isclose(peek.loc["tr", "value"], 0.99, atol=1e-12)
    assert "its epoch was chosen on the test clips" in peek.loc["tr", "notes"]
    assert not np.isnan(peek.loc["tr@cnn_a", "gain_alone"])
    assert np.isnan(peek.loc["tr@cnn_a", "gain_teacher"])  # its teacher has no such readout
    heads = table[table["readout"] == "last"].set_index("run")
    assert set(heads["rank_high"]) == {4}


def test_two_datasets_stand_one_after_the_other(made):
    folder = made(datasets=["many", "tiny"], seeds=[0])
    folder.finish()
    table = leaderboard(folder.suite)
    assert table["dataset"].tolist() == ["many"] * 4 + ["tiny"] * 4
    assert table["metric"].tolist() == ["map"] * 4 + ["accuracy"] * 4


def test_tables_made_again_have_the_same_bytes(made):
    folder = made(pairs=["alone", "cross", "self"], datasets=["tiny", "many"], seeds=[0])
    folder.finish(*folder.suite.jobs()[:-3])
    folder.fail(folder.suite.jobs()[-1])
    first = {path: path.read_bytes() for path in reports.tables(folder.suite)}
    assert len(first) == 3 + 2 * 2 * 2 + 4
    for path in first:
        path.unlink()
    second = {path: path.read_bytes() for path in reports.tables(folder.suite)}
    assert first == second


def test_files_lie_where_the_design_says(made):
    folder = made(seeds=[0], name="mine")
    tables, figures = folder.root / "results/tables/mine", folder.root / "results/figures/mine"
    expected = [tables / f"leaderboard.{kind}" for kind in ("csv", "md", "html")]
    for name in ("gains-tiny", "cost-tiny"):
        expected += [figures / f"{name}.png", figures / f"{name}.svg"]
    expected += [tables / "claims.md", tables / "claims.csv"]
    expected += [figures / "claims.png", figures / "claims.svg"]
    assert reports.tables(folder.suite) == expected
    assert all(path.is_file() for path in expected)


def test_the_csv_is_read_back_as_the_table(made):
    folder = made()
    folder.finish()
    table = leaderboard(folder.suite)
    back = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False, na_values={"value": ""})
    assert np.allclose(back["value"], table["value"], rtol=1e-9)
    assert back["teacher"].tolist() == table["teacher"].tolist()


def test_tables_need_no_torch(made):
    folder = made(seeds=[0])
    folder.finish()
    code = (
        "import sys; from cmkd import reports; from cmkd.plan import suites; "
        f"reports.tables(suites.load({str(folder.root / 'small.yaml')!r})); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder.root / "results/tables/small/leaderboard.csv").is_file()
