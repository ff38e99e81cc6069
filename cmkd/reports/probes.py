"""Probes of a suite's runs as tables and figures: means over folds and seeds, a row a run.

Reads the JSON files that `cmkd probe` leaves; none of these numbers has an interval, so they
describe the runs that were made and prove nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from cmkd import files
from cmkd.plan import names
from cmkd.plan.suites import Job, Suite
from cmkd.probing import FORMAT
from cmkd.reports import probe_figures, references, runs, style
from cmkd.scoring.influence import RunScore, mean_score

COLUMNS = (
    *("dataset", "run", "direction", "probes", "value", "ece", "shift_agreement_10ms"),
    *("shift_agreement_100ms", "shift_distance_100ms", "noise_10db", "level_minus_20db"),
    *("teacher_agreement", "error_overlap", "expected_overlap", "cka_same_depth", "cka_last"),
    *("loss_seen", "loss_fresh"),
)
Probe = Mapping[str, Any]


def place(suite: Suite, job: Job) -> Path:
    """Return where a run's probe lies: RESULTS/probes/DATASET/RUN/fold-F/seed-S.json."""
    folder = suite.results / "probes" / job.dataset / job.run / f"fold-{job.fold}"
    return folder / f"seed-{job.seed}.json"


def collect(suite: Suite) -> dict[tuple[str, str], list[Probe]]:
    """Return the probes of each (dataset, run) that are of the weights which are there now."""
    found: dict[tuple[str, str], list[Probe]] = {}
    for job in suite.jobs():
        probe = runs.read(place(suite, job))
        weights = runs.sha256(_weights(suite, job))
        if probe is not None and _fits(probe, weights):
            found.setdefault((job.dataset, job.run), []).append(probe)
    return found


def stability(suite: Suite, job: Job) -> RunScore | None:
    """Return how far a run's scores stay when clips are shifted, with what each clip adds.

    The correlation over classes of a clip's logits with those of the shifted clip, mean over the
    shifts; None where the run has no probe of its present weights.
    """
    probe = runs.read(place(suite, job))
    if probe is None or not _fits(probe, runs.sha256(_weights(suite, job))):
        return None
    by_clip = probe["by_clip"]
    return mean_score(by_clip["stability"], by_clip["ids"], by_clip["sources"])


def _fits(probe: Probe, weights: str | None) -> bool:
    """Tell whether a probe is of this version and of these weights."""
    return probe.get("format") == FORMAT and probe.get("weights") == weights


def _weights(suite: Suite, job: Job) -> Path:
    """Return a run's weights."""
    return suite.folder(job) / "weights.safetensors"


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are known, or None."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def pick(probes: Sequence[Probe], part: str, key: str, at: float, value: str) -> float | None:
    """Return the mean over probes of one entry of a list, such as the shift of 100 ms."""
    return mean([row[value] for probe in probes for row in probe[part] if row[key] == at])


def row(suite: Suite, dataset: str, run: str, probes: Sequence[Probe]) -> dict[str, Any]:
    """Return a run's row of the table."""
    taught = [probe for probe in probes if "overlap" in probe]
    overlap = {key: mean([p["overlap"][key] for p in taught]) for key in _OVERLAP}
    return {
        "dataset": dataset,
        "run": run,
        "direction": suite.direction(run),
        "probes": len(probes),
        "value": mean([probe["value"] for probe in probes]),
        "ece": mean([probe["calibration"]["ece"] for probe in probes]),
        "shift_agreement_10ms": pick(probes, "shifts", "ms", 10, "agreement"),
        "shift_agreement_100ms": pick(probes, "shifts", "ms", 100, "agreement"),
        "shift_distance_100ms": pick(probes, "shifts", "ms", 100, "distance"),
        "noise_10db": pick(probes, "noise", "snr_db", 10, "value"),
        "level_minus_20db": pick(probes, "level", "gain_db", -20, "value"),
        "teacher_agreement": overlap["agreement"],
        "error_overlap": overlap["error_overlap"],
        "expected_overlap": overlap["expected_overlap"],
        "cka_same_depth": mean([mean(probe["cka"]["by_depth"]) for probe in taught]),
        "cka_last": mean([probe["cka"]["values"][-1][-1] for probe in taught]),
        "loss_seen": mean([probe["freshness"]["seen"] for probe in probes]),
        "loss_fresh": mean([probe["freshness"]["fresh"] for probe in probes]),
    }


_OVERLAP = ("agreement", "error_overlap", "expected_overlap")


def table(suite: Suite) -> pd.DataFrame:
    """Return the table of probes, a row for each dataset and run that was probed."""
    rows = [row(suite, *key, probes) for key, probes in collect(suite).items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def class_gains(suite: Suite) -> pd.DataFrame:
    """Return each taught run's gain over the student alone by class: dataset, run, class, gain.

    Means over the folds and seeds that both have; classes without clips are left out.
    """
    found, rows = collect(suite), []
    for (dataset, run), probes in found.items():
        parsed = names.parse(run)
        known = [names.parse(name) for of, name in found if of == dataset]
        alone = references.alone(suite, dataset, parsed, known) if parsed.teacher else None
        theirs = {_key(p): p for p in found.get((dataset, str(alone)), ())}
        pairs = [(p, theirs[_key(p)]) for p in probes if _key(p) in theirs]
        for number, name in enumerate(probes[0]["classes"] if pairs else ()):
            gain = mean([_minus(one["by_class"][number], two["by_class"][number])
                         for one, two in pairs])  # fmt: skip
            if gain is not None:
                rows.append({"dataset": dataset, "run": run, "class": name, "gain": gain})
    return pd.DataFrame(rows, columns=["dataset", "run", "class", "gain"])


def _key(probe: Probe) -> tuple[int, int]:
    """Return a probe's fold and seed."""
    return int(probe["fold"]), int(probe["seed"])


def _minus(one: float | None, two: float | None) -> float | None:
    """Return a difference, None where one side is unknown."""
    return None if one is None or two is None else one - two


def write(suite: Suite) -> list[Path]:
    """Write probes.csv, probe-classes.csv and the figures; return their paths."""
    found, folder = collect(suite), suite.results / "tables" / suite.name
    gains = class_gains(suite)
    texts = {"probes.csv": table(suite), "probe-classes.csv": gains}
    for name, frame in texts.items():
        text = frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")
        files.write_text(folder / name, str(text))
    drawn = []
    with style.styled():
        for dataset in dict.fromkeys(key[0] for key in found):
            probes = {run: of for (name, run), of in found.items() if name == dataset}
            own = gains[gains["dataset"] == dataset]
            for kind, figure in probe_figures.draw(suite, dataset, probes, own).items():
                stem = suite.results / "figures" / suite.name / f"probe-{kind}-{dataset}"
                drawn += style.save(figure, stem)
    return [folder / name for name in texts] + drawn
