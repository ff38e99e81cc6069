"""Sound events made in code: each clip is a pure function of (seed, clip id); nothing to fetch.

Random pitch, speed, level, onset, length and background make look-alikes (rising and falling
chirps, even and uneven clicks, steady and fluttering noise, plain and wavering tones) that a small
model tells apart often, not always. Options of the entry: `labels: single|multi`, `classes` (names
from EVENTS), `seed`, `seconds`, and `clips_per_class` (single) or `clips` (multi).
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmkd.data.catalog import SAMPLE_RATE, Row, splits
from cmkd.errors import ConfigError, nearest

Wave = NDArray[np.float64]
Random = np.random.Generator

SECONDS = 2.0
SIGNAL_TO_NOISE_DB = (-8.0, 14.0)
PEAK_DB = (-24.0, -3.0)
EVENT_SECONDS = (0.35, 1.1)
MOST_EVENTS = 3
TWO_PI = 2 * np.pi
# Events last whole hundredths of a second: Fourier transforms of prime lengths are slow.
HUNDREDTH = SAMPLE_RATE // 100


def rows(entry: Mapping[str, Any], data_root: Path | None) -> list[Row]:
    """Return the clips of an entry; ConfigError for a class that no function here makes."""
    for name in entry["classes"]:
        if name not in EVENTS:
            raise ConfigError(
                f"dataset {entry['name']}: no such toy sound '{name}'{nearest(name, EVENTS)}"
            )
    return _multi(entry) if entry.get("labels") == "multi" else _single(entry)


def samples(entry: Mapping[str, Any], row: Row) -> NDArray[np.int16]:
    """Return one clip's samples, int16 at 16 kHz: background, then an event for each label."""
    random = _random(entry, row.clip, "sound")
    n = round(float(entry.get("seconds", SECONDS)) * SAMPLE_RATE)
    wave = _background(random, n)
    floor = np.sqrt(np.mean(wave**2))
    for name in row.labels:
        _add_event(wave, EVENTS[name], floor, random)
    peak = 10 ** (random.uniform(*PEAK_DB) / 20)
    wave *= 32767 * peak / np.abs(wave).max()
    return np.round(wave).astype(np.int16)


def _random(entry: Mapping[str, Any], clip: str, stream: str) -> Random:
    """Return the generator of one clip and purpose, keyed by the seed and the clip's id."""
    digest = hashlib.sha256(f"{clip}/{stream}".encode()).digest()
    key = [int(entry.get("seed", 0)), int.from_bytes(digest[:8], "little")]
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))


def _single(entry: Mapping[str, Any]) -> list[Row]:
    """Return `clips_per_class` clips of each class, dealt out to the folds or splits in turn."""
    deal = _deal(entry)
    return [
        Row(clip := f"{name}-{number:05d}", "", deal[number % len(deal)], (name,), clip)
        for name in entry["classes"]
        for number in range(int(entry.get("clips_per_class", 60)))
    ]


def _multi(entry: Mapping[str, Any]) -> list[Row]:
    """Return `clips` clips with one to three classes each, early classes oftener than late ones."""
    deal, classes = _deal(entry), list(entry["classes"])
    odds = 1.0 / (1.0 + 0.25 * np.arange(len(classes)))
    found = []
    for number in range(int(entry.get("clips", 400))):
        clip = f"mix-{number:06d}"
        random = _random(entry, clip, "labels")
        count = int(random.integers(1, min(MOST_EVENTS, len(classes)) + 1))
        chosen = np.sort(random.choice(len(classes), count, replace=False, p=odds / odds.sum()))
        labels = tuple(classes[k] for k in chosen)
        found.append(Row(clip, "", deal[number % len(deal)], labels, clip))
    return found


def _deal(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the folds once each, or the fixed splits with three shares in five for `train`."""
    names = splits(entry)
    return names if entry.get("folds") else ("train", "train", *names)


def _add_event(
    wave: Wave, event: Callable[[Random, int], Wave], floor: float, random: Random
) -> None:
    """Add one event at a random place and level, faded in and out over 10 ms."""
    seconds = min(random.uniform(*EVENT_SECONDS), 0.9 * len(wave) / SAMPLE_RATE)
    sound = event(random, max(round(100 * seconds), 1) * HUNDREDTH)
    fade = min(HUNDREDTH, len(sound) // 2)
    slope = np.linspace(0.0, 1.0, fade)
    sound[:fade] *= slope
    sound[len(sound) - fade :] *= slope[::-1]
    level = floor * 10 ** (random.uniform(*SIGNAL_TO_NOISE_DB) / 20)
    start = int(random.integers(0, len(wave) - len(sound) + 1))
    root_mean_square = np.sqrt(np.mean(sound**2)) + 1e-12
    wave[start : start + len(sound)] += sound * (level / root_mean_square)


def _background(random: Random, n: int) -> Wave:
    """Return coloured noise of a random slope, at times with hum and a stray blip."""
    slope = random.uniform(0.0, 1.0)
    wave = _noise(random, n, np.exp(-slope * _log_frequency(n // 2 + 1)))
    wave /= np.sqrt(np.mean(wave**2))
    if random.random() < 0.5:
        pitch = random.uniform(50.0, 1000.0)
        wave += random.uniform(0.1, 0.8) * np.sin(TWO_PI * pitch * _time(n))
    if random.random() < 0.5:
        blip = _click(random)
        start = int(random.integers(0, max(n - len(blip), 1)))
        wave[start : start + len(blip)] += random.uniform(1.0, 4.0) * blip[: n - start]
    return wave


@functools.lru_cache(maxsize=4)
def _log_frequency(bins: int) -> Wave:
    """Return the logarithms of 1 to `bins`."""
    return np.log(np.arange(1, bins + 1))


def _noise(random: Random, n: int, shape: Wave) -> Wave:
    """Return noise whose spectrum has the amplitudes `shape` [n // 2 + 1]."""
    parts = random.random((len(shape), 2)) - 0.5
    parts *= shape[:, None]
    return np.fft.irfft(parts.view(np.complex128)[:, 0], n)


def _time(n: int) -> Wave:
    """Return the time of each sample, in seconds."""
    return np.arange(n) / SAMPLE_RATE


def _log_uniform(random: Random, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform: pitches are heard that way."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _chirp(random: Random, n: int, up: bool) -> Wave:
    """Return a sine that glides by a factor of 1.2 to 3, up or down."""
    low = _log_uniform(random, 300.0, 2400.0)
    ratio = random.uniform(1.2, 3.0)
    curve = low * ratio ** np.linspace(0.0, 1.0, n)
    return np.sin(np.cumsum(TWO_PI / SAMPLE_RATE * (curve if up else curve[::-1])))


def _rising(random: Random, n: int) -> Wave:
    """Return a rising chirp."""
    return _chirp(random, n, up=True)


def _falling(random: Random, n: int) -> Wave:
    """Return a falling chirp."""
    return _chirp(random, n, up=False)


def _harmonics(random: Random, phase: Wave) -> Wave:
    """Return the sum of two to six harmonics over the phase of the fundamental, in radians."""
    first = np.exp(1j * phase)
    power, wave = first, first.imag.copy()
    fall = random.uniform(0.4, 0.9)
    for number in range(1, int(random.integers(2, 7))):
        power = power * first
        wave += fall**number * power.imag
    return wave


def _harmonic(random: Random, n: int) -> Wave:
    """Return a steady tone with harmonics."""
    pitch = _log_uniform(random, 150.0, 1000.0)
    return _harmonics(random, TWO_PI * pitch * _time(n))


def _vibrato(random: Random, n: int) -> Wave:
    """Return a tone with harmonics whose pitch wavers by 2 to 6 % four to nine times a second."""
    pitch = _log_uniform(random, 150.0, 1000.0)
    wavering = np.sin(TWO_PI * random.uniform(4.0, 9.0) * _time(n) + random.uniform(0, TWO_PI))
    curve = pitch * (1 + random.uniform(0.02, 0.06) * wavering)
    return _harmonics(random, np.cumsum(TWO_PI / SAMPLE_RATE * curve))


def _click(random: Random) -> Wave:
    """Return 25 ms of a damped resonance."""
    time = _time(SAMPLE_RATE // 40)
    pitch, damping = _log_uniform(random, 500.0, 5000.0), random.uniform(120.0, 600.0)
    return np.exp(-damping * time) * np.sin(TWO_PI * pitch * time)


def _train(random: Random, n: int, places: NDArray[np.int64]) -> Wave:
    """Return one click repeated at the given samples, each with a loudness of its own."""
    wave, click = np.zeros(n + SAMPLE_RATE // 40), _click(random)
    for place in places:
        wave[place : place + len(click)] += random.uniform(0.6, 1.0) * click
    return wave[:n]


def _clicks(random: Random, n: int) -> Wave:
    """Return clicks at uneven times, six to fourteen a second."""
    count = max(3, round(random.uniform(6.0, 14.0) * n / SAMPLE_RATE))
    return _train(random, n, np.sort(random.integers(0, n, count)))


def _rhythm(random: Random, n: int) -> Wave:
    """Return clicks at even times, six to fourteen a second."""
    step = SAMPLE_RATE / random.uniform(6.0, 14.0)
    places = np.arange(random.uniform(0, step / 2), n, step) + random.uniform(0, 1)
    return _train(random, n, places.astype(np.int64).clip(0, n - 1))


def _band(random: Random, n: int) -> Wave:
    """Return noise in a band one to three octaves wide."""
    low = _log_uniform(random, 200.0, 2500.0)
    high = low * 2 ** random.uniform(1.0, 3.0)
    frequency = np.arange(n // 2 + 1) * (SAMPLE_RATE / n)
    return _noise(random, n, ((frequency >= low) & (frequency <= high)).astype(np.float64))


def _flutter(random: Random, n: int) -> Wave:
    """Return band noise that swells and fades five to fifteen times a second."""
    speed, depth = random.uniform(5.0, 15.0), random.uniform(0.5, 1.0)
    swell = 1 + depth * np.sin(TWO_PI * speed * _time(n) + random.uniform(0, TWO_PI))
    return _band(random, n) * swell


def _hiss(random: Random, n: int) -> Wave:
    """Return steady band noise."""
    return _band(random, n)


EVENTS: dict[str, Callable[[Random, int], Wave]] = {
    "rising": _rising,
    "falling": _falling,
    "harmonic": _harmonic,
    "vibrato": _vibrato,
    "clicks": _clicks,
    "rhythm": _rhythm,
    "flutter": _flutter,
    "hiss": _hiss,
}
