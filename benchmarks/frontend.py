"""Speed of our filter banks against torchaudio's, one clip at a time, on one thread.

    python benchmarks/frontend.py [--seconds 5] [--clips 32] [--rounds 15] [--device cpu]

Both work in turns on the same clips; medians and the spread (first to third quartile) of the
rounds are printed, of each one's rate and of the ratio, by wall time and by processor time (on a
shared machine only the latter means much). The aim is 3 or more on one thread of a CPU.
On a GPU ours works in chunks; torchaudio still takes one clip at a time, there as well.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torchaudio.compliance import kaldi

from cmkd.audio.fbank import fbank


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip")
    parser.add_argument("--clips", type=int, default=32, help="clips in a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--mel-bins", type=int, default=128)
    parser.add_argument("--shift-ms", type=float, default=10.0)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    waves = 0.1 * torch.randn(chosen.clips, int(chosen.seconds * 16000), generator=generator)
    report(chosen, measure(chosen, waves.to(chosen.device)))


def measure(chosen: argparse.Namespace, waves: Tensor) -> dict[str, np.ndarray]:
    """Return wall and processor seconds a clip [rounds, 2] of both, after a round to warm up."""
    options = {"htk_compat": True, "window_type": "hanning", "dither": 0.0, "use_energy": False}
    sizes = {"num_mel_bins": chosen.mel_bins, "frame_shift": chosen.shift_ms}

    def ours() -> None:
        fbank(waves, mel_bins=chosen.mel_bins, shift_ms=chosen.shift_ms)

    def theirs() -> None:
        for wave in waves:
            kaldi.fbank(wave[None], **options, **sizes)

    found: dict[str, list[tuple[float, float]]] = {"ours": [], "torchaudio": []}
    for _ in range(chosen.rounds + 1):
        found["ours"].append(seconds(ours))
        found["torchaudio"].append(seconds(theirs))
    return {name: np.array(values[1:]) / chosen.clips for name, values in found.items()}


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Return the wall and processor time of some work, a GPU's included in the first."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy


def report(chosen: argparse.Namespace, spent: dict[str, np.ndarray]) -> None:
    """Print the machine and one line for each number."""
    print(f"machine: {machine(chosen.device)}, 1 thread")
    print(f"torch {torch.__version__}, torchaudio {torchaudio.__version__}")
    print(
        f"{chosen.rounds} rounds of {chosen.clips} clips of {chosen.seconds:g} s, "
        f"{chosen.mel_bins} mel bins, {chosen.shift_ms:g} ms"
    )
    for column, clock in enumerate(("wall", "processor")):
        for name, values in spent.items():
            print(line(f"{name}, clips per {clock} second", 1 / values[:, column], ".0f"))
        ratio = spent["torchaudio"][:, column] / spent["ours"][:, column]
        print(line(f"ratio by {clock} time", ratio, ".2f"))


def line(name: str, values: np.ndarray, form: str) -> str:
    """Return median and quartiles as text."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{name:<40} {middle:{form}}  (quartiles {low:{form}} to {high:{form}})"


def machine(device: str) -> str:
    """Return the name of the processor or GPU."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [row.split(":", 1)[1].strip() for row in text.splitlines() if "model name" in row]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
