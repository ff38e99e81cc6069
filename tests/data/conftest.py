"""Small datasets in the published layouts, made of tones and seeded noise."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

HEADER = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
Line = tuple[str, int, int, str, bool, str, str]


@pytest.fixture
def toy() -> dict[str, Any]:
    """Return a small single-label entry of sounds made in code."""
    return {
        "name": "toy",
        "behaviour": 1,
        "reader": "toy",
        "labels": "single",
        "classes": ["rising", "clicks", "hiss"],
        "folds": [1, 2],
        "clips_per_class": 12,
        "seconds": 0.5,
        "seed": 3,
    }


@pytest.fixture
def toy_multi(toy: dict[str, Any]) -> dict[str, Any]:
    """Return a small multi-label entry with a fixed split."""
    kept = {key: value for key, value in toy.items() if key != "folds"}
    new = {"name": "toy_multi", "labels": "multi", "clips": 60, "splits": ["train", "val", "test"]}
    return kept | new


@pytest.fixture
def esc50() -> dict[str, Any]:
    """Return an entry for two classes and two folds in ESC-50's layout."""
    return {
        "name": "tiny",
        "behaviour": 1,
        "reader": "esc50",
        "labels": "single",
        "classes": ["dog", "hen"],
        "folds": [1, 2],
        "on_missing": "stop",
        "obtain": "get it from its authors",
    }


@pytest.fixture
def lines() -> list[Line]:
    """Return four lines of ESC-50's table: two folds, two classes, four sources."""
    return [
        ("1-10-A-0.wav", 1, 0, "dog", True, "10", "A"),
        ("1-11-A-6.wav", 1, 6, "hen", False, "11", "A"),
        ("2-12-A-0.wav", 2, 0, "dog", True, "12", "A"),
        ("2-13-A-6.wav", 2, 6, "hen", False, "13", "A"),
    ]


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of a folder in ESC-50's layout; its clips are noise, each of its own."""

    def make(lines: Sequence[Line], name: str = "ESC-50-master", rate: int = 16000) -> Path:
        folder = tmp_path / name
        (folder / "meta").mkdir(parents=True)
        (folder / "audio").mkdir()
        with open(folder / "meta" / "esc50.csv", "w", newline="") as file:
            csv.writer(file).writerows([HEADER, *lines])
        for number, line in enumerate(lines):
            noise = np.random.default_rng(number).uniform(-0.5, 0.5, rate // 10)
            soundfile.write(folder / "audio" / line[0], noise, rate)
        return folder

    return make


@pytest.fixture
def text() -> Callable[[dict[str, Any]], str]:
    """Return the writer of an entry as the text of a prepared recipe."""
    return lambda entry: yaml.safe_dump(entry, sort_keys=True)
