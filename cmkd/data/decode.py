"""Recordings become mono float32 at 16 kHz, whatever their rate, depth and channel count.

libsndfile alone accepts empty and non-finite audio and says nothing of cut-off files; this does.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from cmkd.data.catalog import SAMPLE_RATE
from cmkd.errors import DataError

BLOCK_SAMPLES = 1 << 22
FULL_SCALE = 32768
LARGEST_KERNEL = 1 << 23
RATES = (1_000, 1_000_000)
ROLLOFF, ZERO_CROSSINGS = 0.99, 6
CANCELLED = 1e-3
SUFFIXES = {
    "WAV": ("wav", "wave"),
    "WAVEX": ("wav", "wave"),
    "RF64": ("wav", "rf64"),
    "W64": ("w64",),
    "FLAC": ("flac",),
    "OGG": ("ogg", "oga", "opus"),
    "MP3": ("mp3",),
    "MPEG": ("mp3", "mp2", "mp1"),
    "AIFF": ("aiff", "aif", "aifc"),
    "AU": ("au", "snd"),
    "CAF": ("caf",),
}


@dataclass(frozen=True)
class Info:
    """What a recording is: rate in Hz, channels, frames, peak of the mono mix, things to say."""

    sample_rate: int
    channels: int
    frames: int
    peak: float
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Return the recording's own length."""
        return self.frames / self.sample_rate


def decode(path: Path, longest: float | None = None) -> tuple[NDArray[np.float32], Info]:
    """Return a recording as mono float32 [samples] at 16 kHz and what it is.

    Channels are averaged. Values above full scale stay (see `quantise`). DataError, a sentence's
    end without the file's name, if it cannot be decoded, is empty, holds NaN or infinity, or lasts
    more than `longest` seconds.
    """
    path = Path(path)
    audio, rate, container = _read(path, longest)
    if not len(audio):
        raise DataError("holds no samples (zero length)")
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"claims {rate} Hz, outside {RATES[0]} to {RATES[1]} Hz; fetch it again")
    wrong = int(np.count_nonzero(~np.isfinite(audio)))
    if wrong:
        raise DataError(f"holds {wrong} samples that are NaN or infinite")
    mono = audio.mean(axis=1, dtype=np.float32)
    notes = (*_container_notes(path, container), *_signal_notes(audio, mono))
    info = Info(rate, audio.shape[1], len(audio), float(np.abs(mono).max()), notes)
    return resample(mono, rate), info


def quantise(wave: NDArray[np.float32], scale: float = 1.0) -> tuple[NDArray[np.int16], int]:
    """Return a wave divided by `scale` as int16, and how many samples were beyond full scale."""
    rounded = np.round(wave * np.float64(FULL_SCALE / scale))
    clipped = int(np.count_nonzero((rounded > FULL_SCALE) | (rounded < -FULL_SCALE)))
    return rounded.clip(-FULL_SCALE, FULL_SCALE - 1).astype("<i2"), clipped


def _read(path: Path, longest: float | None) -> tuple[NDArray[np.float32], int, str]:
    """Return a file's samples [frames, channels], rate and container; DataError if unreadable."""
    if not path.is_file():
        raise DataError("is not a file")
    try:
        with soundfile.SoundFile(path) as file:
            return _all_frames(file, longest), file.samplerate, file.format
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot be decoded: {_reason(path, error)}") from error


def _all_frames(file: soundfile.SoundFile, longest: float | None) -> NDArray[np.float32]:
    """Read until no more comes: a header's own count of frames is not to be trusted."""
    step = max(BLOCK_SAMPLES // file.channels, 1)
    blocks: list[NDArray[np.float32]] = []
    while len(block := file.read(step, dtype="float32", always_2d=True)):
        blocks.append(block)
        if longest is not None and sum(map(len, blocks)) > longest * file.samplerate:
            raise DataError(
                f"lasts more than {longest:g} s, the most that a clip of this dataset may have; "
                "cut out the segment that its list names"
            )
    return np.concatenate(blocks) if blocks else np.empty((0, file.channels), np.float32)


def _reason(path: Path, error: Exception) -> str:
    """Return why a file is no audio, in the user's terms where its first bytes tell."""
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "the file is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with 'git lfs pull'"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page, most likely a failed download; fetch it again"
    if path.name.startswith("._"):
        return "it is a macOS resource fork, not a recording; delete it"
    if head[4:8] == b"ftyp":
        return "AAC/MP4 is not read; convert it to wav or flac"
    reason = str(error).split(": ", 1)[-1].strip().rstrip(".")
    return f"libsndfile says '{reason}'; fetch or convert it again"


def _container_notes(path: Path, container: str) -> tuple[str, ...]:
    """Return what the file's name and header promise beside what it holds."""
    notes = []
    suffix = path.suffix.lower().lstrip(".")
    known = SUFFIXES.get(container, ())
    if known and suffix and suffix not in known:
        named = {name for names in SUFFIXES.values() for name in names}
        if suffix in named:
            notes.append(f"is {container} audio under the name .{suffix}")
    if container in ("WAV", "WAVEX"):
        notes.extend(_riff_notes(path))
    return tuple(notes)


def _riff_notes(path: Path) -> list[str]:
    """Return whether a RIFF file's data chunk is shorter than its header says, or ends unevenly."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(12)
        frame = 1
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                return _data_notes(length, size - file.tell(), frame)
            if name == b"fmt ":
                frame = max(struct.unpack("<12xH", file.read(14))[0], 1)
                length -= 14
            file.seek(length + length % 2, 1)
    return []


def _data_notes(promised: int, present: int, frame: int) -> list[str]:
    """Return sentence ends for a data chunk of `promised` bytes of which `present` are there."""
    if promised > present:
        return [f"is cut off: its header promises {promised} bytes, {present} are there"]
    if promised % frame:
        return [f"ends within a frame: {promised} bytes are no multiple of {frame}"]
    return []


def _signal_notes(audio: NDArray[np.float32], mono: NDArray[np.float32]) -> list[str]:
    """Return whether a recording is digital silence, or cancels out when mixed to mono."""
    loudest = float(np.abs(audio).max())
    if not loudest:
        return ["is digital silence"]
    if float(np.abs(mono).max()) < CANCELLED * loudest:
        return [f"has {audio.shape[1]} channels that cancel each other in the mono mix"]
    return []


def resample(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return a mono wave of any rate at 16 kHz: torchaudio's windowed sinc (Hann, width 6).

    torchaudio keeps one kernel for each phase of the reduced ratio, gigabytes where it does not
    reduce (44101 Hz); there the same kernel is evaluated sample by sample.
    """
    if rate == SAMPLE_RATE:
        return wave
    common = math.gcd(rate, SAMPLE_RATE)
    if (rate // common) * (SAMPLE_RATE // common) > LARGEST_KERNEL:
        return resample_directly(wave, rate)
    return _resample_by_kernels(wave, rate)


def _resample_by_kernels(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return torchaudio's result, on one thread: bits and speed do not depend on the cores then."""
    import torch
    from torchaudio.functional import resample as by_kernels

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result: NDArray[np.float32] = by_kernels(torch.from_numpy(wave), rate, SAMPLE_RATE).numpy()
        return result
    finally:
        torch.set_num_threads(threads)


def resample_directly(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return a wave at 16 kHz from the windowed sinc at each output sample, in float64."""
    cutoff = ROLLOFF * min(rate, SAMPLE_RATE)
    reach = math.ceil(ZERO_CROSSINGS * rate / cutoff)
    padded = np.pad(wave.astype(np.float64), reach + 1)
    length = -(-len(wave) * SAMPLE_RATE // rate)
    result = np.empty(length, dtype=np.float32)
    for start in range(0, length, SAMPLE_RATE):
        places = np.arange(start, min(start + SAMPLE_RATE, length)) * (rate / SAMPLE_RATE)
        near = np.floor(places).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
        distance = (places[:, None] - near) * (cutoff / rate)
        distance = distance.clip(-ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = np.cos(distance * (np.pi / ZERO_CROSSINGS / 2)) ** 2
        taps = np.sinc(distance) * window * (cutoff / rate)
        values = padded[(near + reach + 1).clip(max=len(padded) - 1)]
        result[start : start + len(places)] = (values * taps).sum(axis=1)
    return result
