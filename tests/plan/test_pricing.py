"""Prices: from finished runs, from their like, from a calibration, by arithmetic; each in turn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import calibration, measured, pricing, work
from cmkd.plan.calibration import Measurement
from cmkd.plan.pricing import Prices
from cmkd.plan.suites import Job

Finish = Callable[..., Path]
SIZE = {"clips": 300, "seconds": 5}  # 200 train, 100 test, three folds


@pytest.fixture
def suite(bench: Any) -> Any:
    bench.models["a"] |= {"gflops": 1, "params_m": 2}
    bench.models["b"] |= {"gflops": 8, "params_m": 0.5}
    bench.datasets["birds"]["size"] = SIZE
    return bench.load()


def calibrated(suite: Any, run: str, **more: Any) -> Measurement:
    values: dict[str, Any] = {
        **{"likeness": work.of_run(suite, "birds", run), "run": run, "device": "cpu, 1 thread"},
        **{"at_once": 2, "boot": 2.5, "start": 1.0, "first": 0.02, "later": 0.01},
        **{"score": 0.004, "again": 0.003, "taken": 0.0, "machine": "m", "versions": {}},
    }
    return Measurement(**(values | {"time": "2026-01-02"} | more))


def test_a_run_costs_what_the_middle_one_of_its_folds_did(suite: Any, finished: Finish) -> None:
    for fold, seconds in ((1, 100.0), (2, 900.0), (3, 110.0)):
        finished(suite, Job("birds", "a", fold, 0), seconds)
    price = Prices(suite).of("birds", "a")
    assert (price.train, price.evaluate, price.basis) == (110.0, 2.0, "measured")
    assert price.seconds == 112.0


def test_other_epochs_are_scaled_but_not_what_is_done_once(bench: Any, finished: Finish) -> None:
    """10 s of 100 are start and outputs; 25 epochs instead of 10 make 90 s to 225 s."""
    old = bench.load()
    finished(old, Job("birds", "a", 1, 0))
    bench.recipes["defaults"]["training"] |= {"epochs": 25, "readouts": ["peek"]}
    price = Prices(bench.load()).of("birds", "a")
    assert price.train == pytest.approx(235.0)
    assert price.evaluate == pytest.approx(2.0 * 26)  # last, and each of 25 epochs


def test_a_variant_is_priced_by_its_like(bench: Any, finished: Finish) -> None:
    suite = bench.load(variants=["tau2"])
    finished(suite, Job("birds", "a@b", 1, 0), 70.0)
    price = Prices(suite).of("birds", "a+tau2@b")
    assert (price.train, price.basis, price.source) == (70.0, "alike", "a@b")
    finished(suite, Job("birds", "a+tau2@b", 2, 0), 80.0)
    assert Prices(suite).of("birds", "a+tau2@b")[:4:3] == (80.0, "measured")


def test_another_front_end_is_not_alike(bench: Any, finished: Finish) -> None:
    finished(bench.load(), Job("birds", "a", 1, 0))
    bench.recipes["defaults"]["input"]["frames"] = 200
    assert Prices(bench.load()).of("birds", "a").basis in ("estimated", "unknown")


def test_a_calibration_times_clips_and_epochs(suite: Any) -> None:
    """200 clips: one epoch at 0.02, nine at 0.01; 100 clips scored."""
    calibration.add([calibrated(suite, "a")])
    price = Prices(suite).of("birds", "a")
    assert price.train == pytest.approx(1 + 200 * (0.02 + 9 * 0.01))
    assert price.evaluate == pytest.approx(100 * 0.004)
    assert (price.boot, price.basis) == (2.5, "calibrated")
    assert Prices(suite).of("birds", "b").basis == "estimated"


def test_filter_banks_that_do_not_fit_are_made_every_epoch(bench: Any, suite: Any) -> None:
    """Half of 200 banks of 100 x 64 numbers of 4 bytes."""
    calibration.add([calibrated(suite, "a")])
    bench.suite["execution"] = {"cache_bytes": 100 * 100 * 64 * 4}
    price = Prices(bench.load()).of("birds", "a")
    assert price.train == pytest.approx(1 + 200 * (0.02 + 9 * 0.015))


def test_validation_and_further_readouts_are_scored_from_memory(bench: Any) -> None:
    bench.datasets["cars"]["size"] = {"train": 1000, "val": 100, "test": 50, "seconds": 2}
    bench.recipes["defaults"]["training"] |= {"readout": "best", "readouts": ["last"]}
    suite = bench.load(datasets=["cars"], pairs=["alone"], models=["a"])
    calibration.add([calibrated(suite, "a", likeness=work.of_run(suite, "cars", "a"))])
    price = Prices(suite).of("cars", "a")
    assert price.train == pytest.approx(1 + 1000 * (0.02 + 9 * 0.01) + 10 * 100 * 0.003)
    assert price.evaluate == pytest.approx((50 + 100) * 0.004 + 50 * 0.003)


def test_a_finished_run_is_worth_more_than_a_calibration(suite: Any, finished: Finish) -> None:
    calibration.add([calibrated(suite, "a")])
    finished(suite, Job("birds", "a", 1, 0), 50.0)
    assert Prices(suite).of("birds", "a").basis == "measured"


def test_prices_are_of_one_device_the_last_measured(suite: Any, finished: Finish) -> None:
    finished(suite, Job("birds", "a", 1, 0), 100.0)
    gpu = {"device": "NVIDIA A", "device_kind": "cuda", "end": "2026-02-01"}
    finished(suite, Job("birds", "b", 1, 0), 7.0, **gpu)
    prices = Prices(suite)
    assert prices.device == "NVIDIA A"
    assert (prices.of("birds", "b").train, prices.of("birds", "a").basis) == (7.0, "estimated")
    assert Prices(suite, "CPU").of("birds", "a").train == 100.0
    with pytest.raises(ConfigError, match="--device tpu: nothing was measured on it"):
        Prices(suite, "tpu")


def test_a_suite_for_processors_takes_no_price_of_a_gpu(bench: Any, finished: Finish) -> None:
    suite = bench.load(execution={"device": "cpu"})
    gpu = {"device": "NVIDIA A", "device_kind": "cuda", "end": "2026-02-01"}
    finished(suite, Job("birds", "a", 1, 0), 7.0, **gpu)
    assert Prices(suite).device is None


@pytest.mark.parametrize(
    ("cost", "name"),
    [
        ({"device": "cpu", "device_kind": "cpu", "threads": 1}, "cpu, 1 thread"),
        ({"device": "cpu", "device_kind": "cpu", "threads": 4}, "cpu, 4 threads"),
        ({"device": "X", "device_kind": "cuda", "processes": 2}, "X, 2 at a run"),
    ],
)
def test_devices_have_names(cost: dict[str, Any], name: str) -> None:
    assert measured.device(cost) == name


def test_damaged_and_foreign_folders_are_passed_over(suite: Any, finished: Finish) -> None:
    folder = finished(suite, Job("birds", "a", 1, 0))
    (folder / "cost.json").write_text("{")
    finished(suite, Job("birds", "b", 1, 0)).joinpath("recipe.yaml").write_text("run: b\n")
    foreign = finished(suite, Job("birds", "a", 2, 0)).parents[1]
    foreign.rename(foreign.with_name("a@gone"))
    assert measured.Measured(suite).records == ()


def test_calibrations_are_kept_one_of_a_kind(suite: Any) -> None:
    one = calibrated(suite, "a")
    calibration.add([one, calibrated(suite, "b")])
    path = calibration.add([one._replace(later=5.0), one._replace(at_once=1)])
    assert [(m.run, m.later, m.at_once) for m in calibration.read()] == [
        *(("a", 5.0, 2), ("b", 0.01, 2), ("a", 0.01, 1)),
    ]
    for damaged in ("{", "[]", json.dumps({"format": 2, "measurements": []})):
        path.write_text(damaged)
        assert calibration.read() == ()
    assert Prices(suite).boot == pricing.BOOT
