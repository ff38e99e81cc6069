"""Make mix2, a small multi-label set in FSD50K's published shape, from the ESC-10 clips.

    python benchmarks/make_mix2.py ESC-50-master mix2

Each of the 700 clips (400 train, 100 val, 200 eval; 0.3 to 30 s, 16 kHz) is the sum of two ESC-10
clips of different classes at random levels and offset. Labels carry their AudioSet ancestors, as
FSD50K's do: 24 labels. Train is made from ESC folds 1 to 3, val from 4, eval from 5, so that no
Freesound source lies in two splits. The same seed gives the same clips.
"""

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

RATE = 16000
SEED = 20260
Wave = NDArray[np.float64]

# ESC-10 class -> labels from leaf to root in FSD50K's spelling; chainsaw and helicopter are not
# among its 200 classes, AudioSet has them.
CHAIN = {
    "dog": ["Dog", "Domestic_animals_and_pets", "Animal"],
    "rooster": [
        *("Chicken_and_rooster", "Fowl"),
        *("Livestock_and_farm_animals_and_working_animals", "Animal"),
    ],
    "rain": ["Rain", "Water"],
    "sea_waves": ["Waves_and_surf", "Ocean", "Water"],
    "crackling_fire": ["Crackle", "Fire"],
    "crying_baby": ["Crying_and_sobbing", "Human_voice"],
    "sneezing": ["Sneeze", "Respiratory_sounds"],
    "clock_tick": ["Tick-tock", "Clock", "Mechanisms"],
    "helicopter": ["Helicopter", "Aircraft", "Vehicle"],
    "chainsaw": ["Chainsaw", "Engine"],
}
MID = {
    **{"Aircraft": "/m/0k5j", "Animal": "/m/0jbk", "Chainsaw": "/m/01j4z9"},
    **{"Chicken_and_rooster": "/m/09b5t", "Clock": "/m/01x3z", "Crackle": "/m/07pzfmf"},
    **{"Crying_and_sobbing": "/m/0463cq4", "Dog": "/m/0bt9lr", "Engine": "/m/02mk9"},
    **{"Domestic_animals_and_pets": "/m/068hy", "Fire": "/m/02_41", "Fowl": "/m/025rv6n"},
    **{"Helicopter": "/m/09ct_", "Human_voice": "/m/09l8g", "Mechanisms": "/t/dd00077"},
    **{"Livestock_and_farm_animals_and_working_animals": "/m/0ch8v", "Ocean": "/m/05kq4"},
    **{"Rain": "/m/06mb1", "Respiratory_sounds": "/m/09hlz4", "Sneeze": "/m/01hsr_"},
    **{"Tick-tock": "/m/07qjznl", "Vehicle": "/m/07yv9", "Water": "/m/0838f"},
    "Waves_and_surf": "/m/034srq",
}


class Split(NamedTuple):
    """A split: its audio folder, its word in dev.csv, the ESC folds it is made from, its size."""

    folder: str
    word: str
    folds: tuple[int, ...]
    clips: int


SPLITS = (
    Split("FSD50K.dev_audio", "train", (1, 2, 3), 400),
    Split("FSD50K.dev_audio", "val", (4,), 100),
    Split("FSD50K.eval_audio", "", (5,), 200),
)


class Mix(NamedTuple):
    """One clip: its file number, samples and labels."""

    name: int
    samples: Wave
    labels: list[str]


def load(path: Path) -> Wave:
    """Return a recording at 16 kHz without the digital silence that pads many clips."""
    samples, rate = soundfile.read(path, dtype="float64")
    samples = resample_poly(samples, RATE, rate) if rate != RATE else samples
    loud = np.flatnonzero(np.abs(samples) > 1e-4)
    return samples[loud[0] : loud[-1] + 1]


def piece(samples: Wave, length: int, rng: np.random.Generator) -> Wave:
    """Return `length` samples: tiled when there are too few, else the loudest of six crops."""
    if len(samples) < length:
        return np.tile(samples, -(-length // len(samples)))[:length]
    starts = rng.integers(0, len(samples) - length + 1, 6)
    crops = (samples[start : start + length] for start in starts)
    return max(crops, key=lambda crop: float(np.sum(crop * crop)))


def level(samples: Wave, decibels: float) -> Wave:
    """Return samples at a root mean square in dB below full scale."""
    return samples * (10 ** (decibels / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-5))


def length_of(number: int, rng: np.random.Generator) -> float:
    """Return a clip's seconds: each split begins with the shortest and the longest."""
    if number < 2:
        return (0.3, 30.0)[number]
    return float(np.clip(rng.lognormal(np.log(2.7), 0.85), 0.3, 30.0))


def mix(seconds: float, first: Path, second: Path, rng: np.random.Generator) -> Wave:
    """Return the sum of two recordings; the second begins anywhere and may be shorter."""
    length = round(seconds * RATE)
    shorter = max(round(min(seconds, 0.3) * RATE), int(length * rng.uniform(0.4, 1.0)))
    start = int(rng.integers(0, length - shorter + 1))
    levels = rng.uniform(-32, -20), rng.uniform(-28, -16)
    samples = level(piece(load(first), length, rng), levels[0])
    samples[start : start + shorter] += level(piece(load(second), shorter, rng), levels[1])
    return samples * min(1.0, 0.95 / float(np.max(np.abs(samples))))


def mixes(esc: Path, split: Split, names: list[int], rng: np.random.Generator) -> Iterator[Mix]:
    """Yield the clips of a split; `names` loses the file numbers that are used."""
    with open(esc / "meta" / "esc50.csv", newline="", encoding="utf-8") as file:
        table = [line for line in csv.DictReader(file) if line["esc10"] == "True"]
    table = [line for line in table if int(line["fold"]) in split.folds]
    classes = sorted(CHAIN)
    files = {c: [line["filename"] for line in table if line["category"] == c] for c in classes}
    for number in range(split.clips):
        name, seconds = names.pop(), length_of(number, rng)
        other = (number + 1 + int(rng.integers(len(classes) - 1))) % len(classes)
        pair = (classes[number % len(classes)], classes[other])
        paths = [esc / "audio" / files[c][int(rng.integers(len(files[c])))] for c in pair]
        labels = list(dict.fromkeys(CHAIN[pair[0]] + CHAIN[pair[1]]))
        yield Mix(name, mix(seconds, *paths, rng), labels)


def write_table(path: Path, lines: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with Unix line ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def make(esc: Path, out: Path, seed: int = SEED) -> None:
    """Write the whole tree into `out`."""
    rng = np.random.default_rng(seed)
    count = sum(split.clips for split in SPLITS)
    names = [int(name) for name in rng.choice(np.arange(1000, 420000), count, replace=False)]
    lines: dict[str, list[list[object]]] = {"dev": [], "eval": []}
    for split in SPLITS:
        folder = out / split.folder
        folder.mkdir(parents=True, exist_ok=True)
        for clip in mixes(esc, split, names, rng):
            soundfile.write(folder / f"{clip.name}.wav", clip.samples, RATE, subtype="PCM_16")
            mids = ",".join(MID[label] for label in clip.labels)
            line = [clip.name, ",".join(clip.labels), mids, *([split.word] if split.word else [])]
            lines["dev" if split.word else "eval"].append(line)
    truth, head = out / "FSD50K.ground_truth", ["fname", "labels", "mids"]
    write_table(truth / "dev.csv", [[*head, "split"], *lines["dev"]])
    write_table(truth / "eval.csv", [head, *lines["eval"]])
    words = [[number, label, MID[label]] for number, label in enumerate(sorted(MID))]
    write_table(truth / "vocabulary.csv", words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("esc", type=Path, help="the folder ESC-50-master")
    parser.add_argument("out", type=Path, help="the folder to write")
    chosen = parser.parse_args()
    make(chosen.esc, chosen.out)
