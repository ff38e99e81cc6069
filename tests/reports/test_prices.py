from cmkd import files
from cmkd.reports import runs
from cmkd.reports.leaderboard import leaderboard
from cmkd.reports.prices import Prices


def prices(folder):
    return Prices(runs.collect(folder.suite))


def cost(folder, run, hours):
    for job in folder.jobs(run):
        path = folder.suite.folder(job) / "cost.json"
        files.write_json(path, files.read_json(path) | {"device_hours": hours})


def test_a_student_pays_its_share_of_its_teacher_recursively(made):
    pairs = ["alone", "cross", "tr@cnn_a@tr", "cnn_b@tr"]
    folder = made(models=["cnn_a", "tr"], pairs=pairs, seeds=[0])
    folder.finish()
    for run, hours in {"tr": 3.0, "cnn_a@tr": 5.0, "cnn_b@tr": 5.0, "tr@cnn_a@tr": 7.0}.items():
        cost(folder, run, hours)
    found = prices(folder)
    job = folder.jobs("tr@cnn_a@tr")[0]
    # evaluating costs 0.01 each; `tr` teaches cnn_a@tr and cnn_b@tr, cnn_a@tr teaches one
    taught = 5.01 + 3.01 / 2
    assert found.own(job) == 7.01
    assert found.total(folder.jobs("cnn_a@tr")[0]) == taught
    assert found.total(job) == 7.01 + taught


def test_hours_of_a_row_add_up_over_its_done_runs(made):
    folder = made()
    jobs = folder.jobs("cnn_a")
    folder.finish(*jobs[:4])
    cost_files = [folder.suite.folder(job) / "cost.json" for job in jobs[:4]]
    for number, path in enumerate(cost_files):
        files.write_json(path, files.read_json(path) | {"device_hours": 1.0 + number})
    table = leaderboard(folder.suite).set_index("run")
    assert table.loc["cnn_a", "gpu_hours"] == 1 + 2 + 3 + 4 + 4 * 0.01
    assert table.loc["cnn_a", ["done", "planned"]].tolist() == [4, 6]
    assert table.loc["cnn_a", "params"] == 12_345
    assert table.loc["cnn_a", "gflops"] == 0.0025


def test_a_total_without_the_teachers_cost_is_unknown_not_too_small(made):
    folder = made(seeds=[0])
    folder.finish()
    for job in folder.jobs("cnn_a"):
        for name in ("cost.json", "cost-evaluate.json"):
            (folder.suite.folder(job) / name).unlink()
    table = leaderboard(folder.suite).set_index("run")
    assert table["gpu_hours"].isna()["cnn_a"]
    assert not table["gpu_hours"].isna()["tr@cnn_a"]
    assert table["gpu_hours_total"].isna()["tr@cnn_a"]
