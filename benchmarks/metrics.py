"""Time mAP and AUC of 20,000 clips x 527 classes (AudioSet's evaluation set): `python FILE`."""

import time

import numpy as np

from cmkd.scoring.influence import run_score
from cmkd.scoring.metrics import areas


def main(clips: int = 20_000, classes: int = 527) -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(clips, classes)).astype(np.float32)
    targets = (generator.random((clips, classes)) < 0.005).astype(np.uint8)
    ids = [f"clip-{number:05d}" for number in range(clips)]
    for label, work in {
        "mAP and AUC": lambda: areas(scores, targets),
        "exact jackknife of mAP": lambda: run_score(scores, targets, "map", ids),
    }.items():
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(f"{label}, {clips} x {classes}: {wall:.2f} s ({cpu:.2f} s of CPU)")


if __name__ == "__main__":
    main()
