"""Estimates of `cmkd plan`, worked by hand on a small catalogue."""

from typing import Any

import pytest

from cmkd.plan import costs

# Model a: 1 GFLOP and 2 million parameters at 128 bins x 1000 frames; here 64 x 500, a quarter.
FORWARD_A = 0.25e9 / costs.SUSTAINED["cnn"]
FORWARD_B = 0.25 * 8e9 / costs.SUSTAINED["transformer"]


@pytest.fixture
def sized(bench: Any) -> Any:
    bench.models["a"] |= {"gflops": 1, "params_m": 2}
    bench.models["b"] |= {"gflops": 8, "params_m": 0.5}
    bench.datasets["birds"]["size"] = {"clips": 300, "seconds": 5}
    bench.datasets["cars"]["size"] = {"train": 1000, "val": 100, "test": 50, "seconds": 2}
    bench.recipes["defaults"]["input"]["frames"] = 500
    return bench


def test_a_fold_of_three_by_hand(sized: Any) -> None:
    """200 clips train and 100 are scored, of 5 s: 10 epochs."""
    suite = sized.load(pairs=["alone"], folds=[1], models=["a"])
    found = costs.estimate(suite)
    host = 5 * costs.HOST
    seconds = 60 + 10 * 200 * (3 * FORWARD_A + host) + 100 * (FORWARD_A + host)
    assert found.jobs == 1 and found.unknown == ()
    assert found.hours == pytest.approx(seconds / 3600)
    assert found.runs == pytest.approx(2e6 * 4 + 100 * 2 * 5 + 100_000)
    assert found.prepared == 300 * 5 * 32000
    assert found.passing == pytest.approx(6 * 8e6)
    assert found.disk == found.runs + found.prepared


def test_a_teacher_costs_its_forward_pass(sized: Any) -> None:
    suite = sized.load(folds=[1], models=["a", "b"])
    alone, taught = (
        costs.estimate(suite, [job for job in suite.jobs() if job.run == run]).hours
        for run in ("a", "a@b")
    )
    assert (taught - alone) * 3600 == pytest.approx(10 * 200 * FORWARD_B)
    assert costs.estimate(suite).hours > taught + alone


def test_validation_and_readouts_are_scored(sized: Any) -> None:
    """Fixed split: 100 clips validate 10 epochs; 150 are scored by each readout or its epochs."""
    suite = sized.load(datasets=["cars"], pairs=["alone"], models=["a"])
    once = costs.estimate(suite)
    training = sized.recipes["defaults"]["training"]
    training |= {"readouts": ["averaged", "checkpoints"], "average": [7, 10]}
    several = costs.estimate(sized.load())
    pass_ = FORWARD_A + 2 * costs.HOST
    assert (several.hours - once.hours) * 3600 == pytest.approx(150 * (1 + 4) * pass_)
    scores = 150 * 3 * 5
    assert several.runs - once.runs == pytest.approx(8e6 + 2 * scores)
    assert several.passing - once.passing == pytest.approx(4 * 8e6)
    training["readouts"] = ["peek"]
    peeked = costs.estimate(sized.load())
    assert (peeked.hours - once.hours) * 3600 == pytest.approx(150 * 10 * pass_)
    assert peeked.passing - once.passing == pytest.approx(10 * 8e6)


def test_what_has_no_size_is_named_and_left_out(sized: Any) -> None:
    del sized.models["b"]["gflops"]
    suite = sized.load(folds=[1])
    found = costs.estimate(suite)
    assert found.unknown == ("b",)
    assert found.hours == costs.estimate(suite, suite.jobs()[:1]).hours  # only a is known
    del sized.datasets["birds"]["size"]
    assert costs.estimate(sized.load()).unknown == ("birds", "b")


def test_a_size_describes_and_changes_no_recipe(sized: Any) -> None:
    suite = sized.load(models=["a"], pairs=["alone"])
    before = suite.recipe("birds", "a").text, suite.data_recipe("birds").text
    sized.datasets["birds"]["size"]["clips"] = 9
    sized.models["a"]["gflops"] = 7
    after = sized.load()
    assert (after.recipe("birds", "a").text, after.data_recipe("birds").text) == before


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01, "under 0.1"), (0.123, "about 0.12"), (9.96, "about 10"), (1234.0, "about 1200")],
)
def test_hours_have_two_digits(value: float, text: str) -> None:
    assert costs.hours(value) == f"{text} GPU-hours"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((2e5, "under 1 MB"), (1e6, "about 1 MB"), (999e6, "about 1 GB")),
        *((12.44e9, "about 12 GB"), (3.456e12, "about 3.5 TB")),
    ],
)
def test_bytes_have_two_digits(value: float, text: str) -> None:
    assert costs.size(value) == text


def test_clips_without_a_size_are_counted_as_prepared(sized: Any) -> None:
    """Six clips in folds 1 to 3, 12 s: a third of them tests."""
    del sized.datasets["birds"]["size"]
    suite = sized.load()
    assert costs.sizes(suite, "birds") is None
    rows = "".join(f"c{n},{n % 3 + 1},{1 + n % 2 * 2}.0\n" for n in range(6))
    path = suite.prepared_folder("birds") / "manifest.csv"
    path.parent.mkdir(parents=True)
    path.write_text(f"clip,split,seconds\n{rows}")
    assert costs.sizes(suite, "birds") == (4, 0, 2, 2.0)
    path.write_text("clip,split,seconds\n")
    assert costs.sizes(suite, "birds") is None


def test_clips_of_a_fixed_split_are_counted_as_prepared(sized: Any) -> None:
    del sized.datasets["cars"]["size"]
    suite = sized.load(datasets=["cars"])
    path = suite.prepared_folder("cars") / "manifest.csv"
    path.parent.mkdir(parents=True)
    path.write_text("clip,split,seconds\na,train,2\nb,train,4\nc,val,3\nd,test,3\n")
    assert costs.sizes(suite, "cars") == (2, 1, 1, 3.0)
