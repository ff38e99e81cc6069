import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cmkd.reports import figures, heatmap, labels, style, tradeoff
from cmkd.reports.leaderboard import leaderboard


@pytest.fixture
def table(made):
    folder = made(models=["cnn_a", "cnn_b", "tr"], pairs=["alone", "cross", "self"])
    folder.quality = {"tr@cnn_a": 0.95, "tr": 0.3}
    folder.finish(*(job for job in folder.suite.jobs() if job.run not in ("cnn_b@tr", "tr@tr")))
    folder.fail(folder.jobs("tr@tr")[0])
    return leaderboard(folder.suite)


def texts(figure):
    """Return every text in a figure."""
    found = list(figure.texts)
    for axes in figure.axes:
        found += axes.texts
    return [text.get_text() for text in found]


def test_drawn_again_they_are_the_same_bytes(table, tmp_path):
    first = figures.write(table, "small", tmp_path / "one")
    second = figures.write(table, "small", tmp_path / "two")
    assert set(first) == {("tiny", "gains"), ("tiny", "cost")}
    for key, paths in first.items():
        assert [path.suffix for path in paths] == [".png", ".svg"]
        for one, two in zip(paths, second[key], strict=True):
            assert one.read_bytes() == two.read_bytes()


def test_they_hold_no_date_and_no_version(table, tmp_path):
    for png, svg in figures.write(table, "small", tmp_path).values():
        text = svg.read_text(encoding="utf-8")
        assert "dc:date" not in text
        assert "https://matplotlib.org" not in text
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert b"Software" not in png.read_bytes()
        assert png.read_bytes().startswith(b"\x89PNG")


def test_the_users_matplotlib_settings_are_left_alone(table, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.write(table, "small", tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_the_heat_map_says_gain_half_width_and_what_is_missing(table):
    with style.styled():
        found = texts(heatmap.draw(table, "tiny", "small"))
    row = table.set_index("run").loc["tr@cnn_a"]
    assert f"+{100 * row['gain_alone']:.1f}" in found
    assert f"±{50 * (row['gain_alone_high'] - row['gain_alone_low']):.1f}" in found
    assert found.count("not run") == 1  # cnn_b@tr
    assert found.count("failed") == 1  # tr@tr
    assert found.count("cnn_b") == 2  # a row and a column


def test_gains_within_the_noise_are_pale_and_large_ones_are_not(table):
    noisy = table.assign(gain_alone=0.01, gain_alone_low=-0.03, gain_alone_high=0.05)
    assert heatmap._norm(noisy).vmax == pytest.approx(0.04)
    clear = table.assign(gain_alone=-0.2, gain_alone_low=-0.21, gain_alone_high=-0.19)
    assert heatmap._norm(clear).vmax == pytest.approx(0.2)
    unknown = table.assign(gain_alone=float("nan"), gain_alone_low=float("nan"))
    assert heatmap._norm(unknown).vmax == pytest.approx(0.01)


def test_the_diagonal_of_the_heat_map_is_self_distillation(table):
    rows = table[table["dataset"] == "tiny"]
    teachers, students = heatmap._axis(rows, "teacher"), heatmap._axis(rows, "student")
    assert list(teachers) == list(students) == ["cnn_a", "cnn_b", "tr"]
    assert list(teachers.values()) == list(students.values())
    assert students["tr"] - students["cnn_b"] == 1 + heatmap.GAP


def test_a_teacher_of_a_second_round_has_a_row_of_its_own(made):
    folder = made(pairs=["alone", "tr@cnn_a@tr"], seeds=[0])
    folder.finish()
    rows = leaderboard(folder.suite)
    assert list(heatmap._axis(rows, "teacher")) == ["cnn_a", "cnn_a@tr", "tr"]
    assert list(heatmap._axis(rows, "student")) == ["cnn_a", "tr"]


def test_both_figures_can_be_drawn_before_any_run_is_done(made, tmp_path):
    table = leaderboard(made().suite)
    figures.write(table, "small", tmp_path)
    with style.styled():
        assert "no run is done yet" in texts(tradeoff.draw(table, "tiny", "small"))
        assert texts(heatmap.draw(table, "tiny", "small")).count("not run") == 2


def test_a_suite_of_one_run_can_be_drawn(made, tmp_path):
    folder = made(pairs=["cnn_a"], seeds=[0])
    folder.finish()
    assert len(figures.write(leaderboard(folder.suite), "small", tmp_path)) == 2


def test_bars_are_drawn_within_what_a_score_can_be(table):
    wide = table.assign(low=-0.2, high=1.5)
    assert {(p.low, p.high) for p in tradeoff._points(wide)[1]} == {(0.0, 100.0)}
    with style.styled():
        assert any("within 0 and 100" in text for text in texts(tradeoff.draw(wide, "tiny", "s")))
        assert not any("within 0" in text for text in texts(tradeoff.draw(table, "tiny", "s")))


def test_every_scored_run_is_a_point_at_its_cost_and_quality(table):
    kind, points = tradeoff._points(table)
    assert kind == "minutes"
    assert len(points) == table["value"].notna().sum() == 8
    row = table.set_index("run").loc["tr@cnn_a"]
    point = next(point for point in points if point.run == "tr@cnn_a")
    assert point.cost == pytest.approx(60 * row["gpu_hours_total"] / row["done"])
    assert [point.value, point.low, point.high] == pytest.approx(
        [100 * row["value"], 100 * row["low"], 100 * row["high"]]
    )
    assert point.label == "@cnn_a"


@pytest.mark.parametrize(
    ("hours", "unit"), [(0.001, "seconds"), (0.3, "minutes"), (1.0, "hours"), (np.nan, "hours")]
)
def test_time_has_a_unit_that_can_be_read(hours, unit):
    assert tradeoff._unit(hours)[0] == unit


def test_without_hours_the_cost_is_flops_then_parameters(table):
    assert tradeoff._points(table.assign(gpu_hours_total=np.nan))[0] == "gflops"
    bare = table.assign(gpu_hours_total=np.nan, gflops=np.nan)
    kind, points = tradeoff._points(bare)
    assert kind == "params"
    assert points[0].cost == pytest.approx(0.012345)


def test_labels_cover_neither_each_other_nor_a_point():
    figure = style.new(6, 4)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    random = np.random.default_rng(0)
    points = [tuple(point) for point in random.uniform(0.2, 0.8, (10, 2))]
    notes = labels.place(axes, points, [f"label {i}" for i in range(10)], ["black"] * 10)
    figure.canvas.draw()  # puts the texts in their places
    # of the text alone: an annotation's own extent holds its line too
    boxes = [Text.get_window_extent(note).padded(-0.5) for note in notes]
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:i]) == 0
        assert box.count_contains(axes.transData.transform(points)) == 0


def test_a_label_stays_inside_the_axes():
    figure = style.new(6, 4)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    (note,) = labels.place(axes, [(0.99, 0.99)], ["a long label"], ["black"])
    extent = note.get_window_extent()
    assert Bbox.intersection(extent, axes.bbox).bounds == pytest.approx(extent.bounds)
