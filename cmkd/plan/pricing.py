"""What one training and its scoring will take: from measurements where there are any.

Four sources, the best that there is for each run:

    measured     finished runs of this very name on this device, whatever their fold and seed
    alike        finished runs of the same work (cmkd/plan/work.py), such as of another variant
    calibrated   `cmkd plan --calibrate` on this device, times clips and epochs
    estimated    arithmetic on operations (cmkd/plan/costs.py); nothing was measured

A training of other epochs is scaled by them. Medians are taken, so that a run that was measured
beside other work does not pull the rest.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from cmkd.errors import ConfigError
from cmkd.plan import calibration, costs, work
from cmkd.plan.calibration import Measurement
from cmkd.plan.measured import Measured, Record, middle
from cmkd.plan.suites import Suite

MEASURED, ALIKE, CALIBRATED, ESTIMATED = "measured", "alike", "calibrated", "estimated"
UNKNOWN = "unknown"
BASES = (MEASURED, ALIKE, CALIBRATED, ESTIMATED, UNKNOWN)
BOOT = 3.0  # seconds until a verb's first line, most of it importing torch, where not calibrated
CACHE_BYTES = 1 << 30  # of filter banks kept in memory, as cmkd/audio/views.py has it


class Price(NamedTuple):
    """Seconds of wall time of one training and of its scoring, as their cost files will say.

    `boot`: seconds before each, which no cost file counts; `basis`: one of BASES; `source`: the run
    that was measured.
    """

    train: float
    evaluate: float
    boot: float
    basis: str
    source: str = ""

    @property
    def seconds(self) -> float:
        """Device seconds of the run, as its cost files will add up."""
        return self.train + self.evaluate


class Prices:
    """The prices of a suite's runs on one device."""

    def __init__(self, suite: Suite, device: str | None = None) -> None:
        """Take the suite, and a part of the device's name; without it the last measured one is.

        Raises ConfigError for a device that nothing was measured on.
        """
        self.suite = suite
        self._asked = device
        self._measured = Measured(suite)
        self._found: dict[tuple[str, str], Price] = {}
        if device and not self._devices:
            raise ConfigError(
                f"--device {device}: nothing was measured on it; leave it out, or calibrate there "
                "(cmkd plan SUITE --calibrate)"
            )

    def of(self, dataset: str, run: str) -> Price:
        """Return the price of a run."""
        key = dataset, run
        if key not in self._found:
            self._found[key] = self._price(dataset, run)
        return self._found[key]

    @cached_property
    def device(self) -> str | None:
        """The device that prices are of: the one measured last; None where nothing is measured."""
        return max(self._devices, key=lambda name: self._devices[name], default=None)

    @cached_property
    def calibrated(self) -> dict[str, Measurement]:
        """Calibrations on the device, by likeness, the last of each."""
        found = sorted(calibration.read(), key=lambda one: one.time)
        return {one.likeness: one for one in found if one.device == self.device}

    @cached_property
    def _devices(self) -> dict[str, str]:
        """Devices that the suite may run on, with the time of their last measurement."""
        times = [(record.device, record.end) for record in self._measured.records]
        times += [(one.device, one.time) for one in calibration.read()]
        newest: dict[str, str] = {}
        for name, time in times:
            if self._may_run_on(name):
                newest[name] = max(time, newest.get(name, ""))
        return newest

    def _may_run_on(self, name: str) -> bool:
        """Tell whether the suite's `execution:` allows a device."""
        if self._asked is not None:
            return self._asked.lower() in name.lower()
        wanted = str(self.suite.execution["device"])
        on_cpu = name.startswith("cpu")
        return wanted == "auto" or on_cpu == (wanted == "cpu")

    def _price(self, dataset: str, run: str) -> Price:
        """Return the best price there is."""
        values = self.suite.recipe(dataset, run).values
        likeness = work.of_run(self.suite, dataset, run)
        records = [
            record
            for record in self._measured.records
            if record.device == self.device and record.likeness == likeness
        ]
        own = [record for record in records if (record.dataset, record.run) == (dataset, run)]
        if own or records:
            return self._scaled(own or records, values, MEASURED if own else ALIKE)
        sizes = costs.sizes(self.suite, dataset)
        known = self.calibrated.get(likeness)
        if known and sizes:
            return _calibrated(known, values, sizes, self.suite.execution)
        return self._arithmetic(dataset, run)

    def _scaled(self, records: list[Record], values: Mapping[str, Any], basis: str) -> Price:
        """Return the median of records, each scaled to the wanted epochs and readouts."""
        epochs = values["training"]["epochs"]
        scored = sum(work.scored(values["training"]).values())

        def train(one: Record) -> float:
            return float(one.start + (one.train - one.start) * epochs / one.epochs)

        evaluated = [one.evaluate * scored / one.scored for one in records if one.evaluate]
        return Price(
            middle([train(one) for one in records]),
            middle(evaluated) if evaluated else 0.0,
            self.boot,
            basis,
            records[0].run,
        )

    @cached_property
    def boot(self) -> float:
        """Seconds until a verb's first line on the device: calibrated, else a usual value."""
        found = [one.boot for one in self.calibrated.values()]
        return middle(found) if found else BOOT

    def _arithmetic(self, dataset: str, run: str) -> Price:
        """Return the estimate of costs.py, whose seconds hold the start of both programs."""
        job = next(j for j in self.suite.jobs() if (j.dataset, j.run) == (dataset, run))
        found = costs.estimate(self.suite, [job])
        basis = UNKNOWN if found.unknown else ESTIMATED
        return Price(found.hours * 3600, 0.0, 0.0, basis)


def _calibrated(
    one: Measurement,
    values: Mapping[str, Any],
    sizes: costs.Sizes,
    execution: Mapping[str, Any],
) -> Price:
    """Return a price from a calibration: clips and epochs times what one clip took."""
    training, devices = values["training"], int(execution.get("gpus", 1))
    share = _kept_share(values["input"], sizes, execution)
    later = share * one.later + (1 - share) * one.first
    steps = sizes.train * (one.first + (training["epochs"] - 1) * later)
    validated = training["epochs"] * sizes.val * one.again
    often = work.scored(training)
    passes = sum(often.values())
    scored = (sizes.test + sizes.val) * one.score + sizes.test * (passes - 1) * one.again
    return Price(one.start + (steps + validated) / devices, scored, one.boot, CALIBRATED, one.run)


def _kept_share(view: Mapping[str, Any], sizes: costs.Sizes, execution: Mapping[str, Any]) -> float:
    """Return the share of a fold's filter banks that stays in memory from epoch to epoch."""
    bank = 4 * view["frames"] * view["mel_bins"] * max(sizes.train, 1)
    room = execution.get("cache_bytes", CACHE_BYTES) if view.get("mixup", 0.0) < 1.0 else 0
    return float(min(1.0, room / bank))
