"""Mean and standard deviation of filter banks as the model sees them, from training clips only.

Padding is included and augmentation is not. The sibling codes (ast, psla) computed theirs over all
clips with mixup and masks on, so their published constants differ a little.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmkd import files
from cmkd.audio import views
from cmkd.audio.draws import Indices
from cmkd.data.clips import Clips
from cmkd.errors import DataError
from cmkd.progress import progress

FORMAT = 1
BATCH = 32
FRONTEND = ("mel_bins", "shift_ms", "frames", "sample_rate")
# Beyond these differences from the published constants a sentence says what they may mean.
FAR_MEAN, FAR_STD = 0.3, 0.1


def statistics(
    clips: views.Clips, indices: Sequence[int] | Indices, frontend: Mapping[str, Any]
) -> dict[str, Any]:
    """Return mean, std (of all cells, in log-mel units), clips and frames of some clips' banks.

    `frontend` has mel_bins, shift_ms, frames and sample_rate. Raises DataError where there is no
    clip or where all cells are equal.
    """
    count, size = len(indices), int(frontend["frames"]) * int(frontend["mel_bins"])
    if not count:
        raise DataError("statistics: no training clip; check the fold against the manifest")
    batches = views.batches(clips, indices, frontend, BATCH)
    banks = progress((bank for batch in batches for bank in batch), count, "statistics")
    mean, squares = _moments(banks)
    std = math.sqrt(squares / (count * size))
    if not std > 0.0:
        raise DataError("statistics: all training clips sound alike (silence?); check clips.bin")
    return {"mean": mean, "std": std, "clips": count, "frames": count * int(frontend["frames"])}


def _moments(banks: Iterable[Tensor]) -> tuple[float, float]:
    """Return mean and sum of squared deviations of all cells, in float64, clip by clip.

    Merged as T. Chan, G. Golub and R. LeVeque (1979) do, which loses no digits to a large mean.
    """
    cells, mean, squares = 0, 0.0, 0.0
    for bank in banks:
        values = bank.to(torch.float64)
        here, centre = values.numel(), float(values.mean())
        gap, total = centre - mean, cells + here
        squares += float((values - centre).square().sum()) + gap * gap * cells * here / total
        mean += gap * here / total
        cells = total
    return mean, squares


def write_statistics(prepared: Path, fold: int, frontend: Mapping[str, Any], out: Path) -> None:
    """Write a fold's statistics as JSON with its .sha256, and print how published ones differ.

    Raises DataError for a prepared folder, fold or front end that cannot be used.
    """
    clips = Clips(prepared)
    chosen = {key: frontend[key] for key in FRONTEND}
    found = statistics(clips, clips.subset(fold, "train"), chosen)
    published = clips.entry.get("published_statistics")
    record = {
        "format": FORMAT,
        "mean": found["mean"],
        "std": found["std"],
        "clips": found["clips"],
        "frames": found["frames"],
        "fold": fold,
        "manifest": clips.manifest_sha256,
        "frontend": chosen,
        "published": published,
    }
    files.write_json(out, record)
    files.write_sidecar(out)
    print(comparison(record))
    if far := drift(record):
        print(f"  note: {far}")


def comparison(record: Mapping[str, Any]) -> str:
    """Return one line: a fold's mean and std, and how far the published constants are off."""
    front = record["frontend"]
    line = (
        f"statistics of {record['clips']} training clips ({front['mel_bins']} mel bins, "
        f"{front['shift_ms']:g} ms, {front['frames']} frames): "
        f"mean {record['mean']:.4f}, std {record['std']:.4f}"
    )
    published = record.get("published")
    if not published:
        return f"{line} (no published constants)"
    gaps = (record[key] - float(published[key]) for key in ("mean", "std"))
    mean, std = (f"{gap:+.4f}" for gap in gaps)
    source = published.get("source", "source not named")
    return f"{line}; against the published constants ({source}): mean {mean}, std {std}"


def drift(record: Mapping[str, Any]) -> str:
    """Return what a mean or std far from the published one may mean, "" where both are near."""
    published = record.get("published")
    if not published:
        return ""
    mean = record["mean"] - float(published["mean"])
    std = record["std"] / float(published["std"]) - 1
    if abs(mean) <= FAR_MEAN and abs(std) <= FAR_STD:
        return ""
    return (
        f"the mean is {mean:+.2f} and the std {100 * std:+.0f} % off the published constants. Part "
        "of it is their making: mixup and masks were on, and masked cells are 0, which alone draws "
        "a mean nearer to 0 by up to a fifth; another front end does the rest, or another copy of "
        "the recordings. AudioSet from a re-upload at 32 kHz had mean -3.4 and std 3.9 by the "
        "authors' own script, where theirs had -4.3 and 4.6, and its AST reached 0.433 mAP instead "
        "of 0.449 (ast issues 85 and 108; the cause was never found). Compare results on one copy "
        "only; 'normalise: {statistics: fold}' uses this copy's constants, 'published' the others."
    )
