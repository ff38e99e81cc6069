import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from cmkd.data import decode
from cmkd.errors import DataError


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_int16_at_16_khz_passes_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    wave, info = decode.decode(tmp_path / "a.wav")
    whole, clipped = decode.quantise(wave)
    assert np.array_equal(whole, samples) and clipped == 0
    assert (info.sample_rate, info.channels, info.frames, info.seconds) == (16000, 1, 5000, 0.3125)


@pytest.mark.parametrize(
    ("suffix", "container", "subtype", "tolerance"),
    [
        ("wav", "WAV", "PCM_U8", 1e-2),
        ("wav", "WAV", "PCM_24", 2e-4),
        ("wav", "WAV", "DOUBLE", 2e-4),
        ("flac", "FLAC", "PCM_16", 2e-4),
        ("ogg", "OGG", "VORBIS", 3e-2),
        ("opus", "OGG", "OPUS", 5e-2),
        ("mp3", "MP3", "MPEG_LAYER_III", 3e-2),
    ],
)
@pytest.mark.parametrize("rate", [16000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_rates_and_channels_give_the_same_tone(
    tmp_path: Path,
    suffix: str,
    container: str,
    subtype: str,
    tolerance: float,
    rate: int,
    channels: int,
) -> None:
    path = tmp_path / f"a.{suffix}"
    audio = np.stack([tone(rate)] * channels, axis=1)
    soundfile.write(path, audio, rate, format=container, subtype=subtype)
    wave, info = decode.decode(path)
    expected = tone(16000)
    middle = slice(2000, 6000)  # codecs fade in and out, resampling rings at the ends (1e-4 within)
    assert info.notes == () and info.channels == channels and info.sample_rate == rate
    assert abs(len(wave) - 8000) <= 600
    assert np.abs(wave[middle] - expected[middle]).max() < tolerance


def test_resampling_is_torchaudios(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 22050).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 44100, subtype="FLOAT")
    wave, _ = decode.decode(tmp_path / "a.wav")
    assert np.array_equal(wave, resample(torch.from_numpy(noise), 44100, 16000).numpy())


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000])
def test_resampling_without_kernels_agrees_with_torchaudio(rate: int) -> None:
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, 3001).astype(np.float32)
    expected = resample(torch.from_numpy(noise).double(), rate, 16000).numpy()
    ours = decode.resample_directly(noise, rate)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-6


def test_a_rate_that_does_not_reduce_keeps_pitch_and_length() -> None:
    wave = decode.resample(tone(44101).astype(np.float32), 44101)
    assert len(wave) == 8000
    assert np.abs(wave[200:-200] - tone(16000)[200:-200]).max() < 1e-3


def test_channels_are_averaged_and_cancelling_is_said(tmp_path: Path) -> None:
    left = tone(16000)
    soundfile.write(tmp_path / "mean.wav", np.stack([left, 0 * left], 1), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "anti.wav", np.stack([left, -left], 1), 16000, subtype="FLOAT")
    wave, info = decode.decode(tmp_path / "mean.wav")
    assert np.abs(wave - left / 2).max() < 1e-7 and info.notes == ()
    wave, info = decode.decode(tmp_path / "anti.wav")
    assert not wave.any() and "cancel each other" in info.notes[0]


def test_audio_above_full_scale_keeps_its_form(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 4 * tone(16000), 16000, subtype="FLOAT")
    wave, info = decode.decode(tmp_path / "a.wav")
    whole, clipped = decode.quantise(wave, info.peak)
    assert info.peak == pytest.approx(2.0, abs=1e-3) and clipped == 0
    assert np.abs(whole / 32768 - 4 * tone(16000) / info.peak).max() < 1e-4


def test_samples_beyond_full_scale_are_counted() -> None:
    whole, clipped = decode.quantise(np.array([1.5, -1.5, 1.0, -1.0, 0.5], dtype=np.float32))
    assert whole.tolist() == [32767, -32768, 32767, -32768, 16384] and clipped == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "it is a web page"),
        (b"\0\0\0\x20ftypM4A " + bytes(40), "AAC/MP4 is not read; convert it"),
        (b"not audio" * 20, "libsndfile says 'Format not recognised'; fetch or convert it again"),
    ],
)
def test_what_is_no_audio_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        decode.decode(path)
    assert sentence in str(caught.value)


def test_a_missing_file_a_folder_and_empty_audio_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.empty(0), 16000)
    (tmp_path / "._a.wav").write_bytes(b"\0\x05\x16\x07" + bytes(60))
    for name, sentence in (
        ("absent.wav", "is not a file"),
        (".", "is not a file"),
        ("none.wav", "zero length"),
        ("._a.wav", "macOS resource fork"),
    ):
        with pytest.raises(DataError, match=sentence):
            decode.decode(tmp_path / name)


def test_non_finite_samples_are_counted(tmp_path: Path) -> None:
    audio = tone(16000)
    audio[[3, 5]] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    with pytest.raises(DataError, match="holds 2 samples that are NaN or infinite"):
        decode.decode(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [1, 2_000_000_011])
def test_an_absurd_rate_is_refused_before_it_costs_memory(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16000), rate)
    with pytest.raises(DataError, match=f"claims {rate} Hz"):
        decode.decode(tmp_path / "a.wav")


def test_a_cut_off_wav_is_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000), 16000)
    path.write_bytes(path.read_bytes()[:8044])
    wave, info = decode.decode(path)
    assert len(wave) == 4000
    assert info.notes == ("is cut off: its header promises 16000 bytes, 8000 are there",)


def test_a_wrong_suffix_is_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(16000), 16000, format="WAV")
    assert decode.decode(tmp_path / "a.flac")[1].notes == ("is WAV audio under the name .flac",)


def test_hostile_files_are_read_or_refused_as_expected(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "hostile"
    with tarfile.open(folder / "files.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with open(folder / "expected.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    outcomes = {row["file"]: _outcome(tmp_path, row) for row in table}
    assert len(table) > 60
    assert {name: text for name, text in outcomes.items() if text} == {}


def _outcome(folder: Path, row: dict[str, str]) -> str:
    """Return what is wrong with the reading of one file, or ""."""
    try:
        wave, info = decode.decode(folder / row["file"])
    except DataError as error:
        said = str(error)
        return "" if row["expect"] != "read" and len(said) > 10 else f"refused: {said}"
    if row["expect"] == "refuse" or (row["expect"] == "read_warn" and not info.notes):
        return "read without a word"
    frames, slack = int(row["frames"]), 2400 if row["lossy"] == "1" else 0
    if abs(info.frames - frames) > slack or info.sample_rate != int(row["rate"]):
        return f"{info}"
    if info.channels != int(row["channels"]) or not np.isfinite(wave).all():
        return f"{info}"
    wanted = -(-info.frames * 16000 // info.sample_rate)
    return "" if len(wave) == wanted else f"{len(wave)} samples instead of {wanted}"


def test_a_recording_longer_than_allowed_is_refused_after_as_much(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.full(16000, 0.25), 8000)
    assert len(decode.decode(path, 2.0)[0]) == 32000
    with pytest.raises(DataError, match="lasts more than 1.9 s, the most that a clip"):
        decode.decode(path, 1.9)
