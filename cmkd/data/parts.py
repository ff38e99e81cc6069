"""The samples of a dataset, made part by part in several processes, each part kept until the end.

A part is a run of rows: `part-N.bin` (int16 samples) and `part-N.json` (what each clip is, the
sha256 of the samples, and the key of all that they depend on). A part whose key and hash still hold
is not made again, so a killed preparation goes on where it was.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmkd import files
from cmkd.data import catalog
from cmkd.data.catalog import SAMPLE_RATE, Row
from cmkd.data.manifest import Decoded
from cmkd.errors import DataError

FEWEST_CLIPS, MOST_CLIPS, MANY_PARTS = 16, 512, 200


class Part(NamedTuple):
    """One piece of work: which rows, read how, written where."""

    stem: Path
    entry: dict[str, Any]
    data_root: Path | None
    rows: tuple[Row, ...]

    @property
    def samples(self) -> Path:
        """Return where the part's samples are written."""
        return self.stem.with_suffix(".bin")

    @property
    def record(self) -> Path:
        """Return where the part's clips are described."""
        return self.stem.with_suffix(".json")


def divide(
    entry: dict[str, Any], data_root: Path | None, rows: Sequence[Row], folder: Path
) -> list[Part]:
    """Return the rows in runs of 16 to 512 clips; their number does not depend on the workers."""
    size = min(max(len(rows) // MANY_PARTS, FEWEST_CLIPS), MOST_CLIPS)
    starts = range(0, len(rows), size)
    return [
        Part(folder / f"part-{n:05d}", entry, data_root, tuple(rows[start : start + size]))
        for n, start in enumerate(starts)
    ]


def make_all(parts: Sequence[Part], workers: int) -> Iterator[Decoded]:
    """Make what is not there yet, in this process or in `workers` others; yield each clip's facts.

    The order is that of finishing. DataError if a process dies.
    """
    if workers <= 1 or len(parts) <= 1:
        for part in parts:
            yield from make(part)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(parts)), context, _end_with_parent)
    try:
        for future in as_completed([pool.submit(make, part) for part in parts]):
            yield from _result(future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is killed: the pool would keep it."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _result(future: Future[list[Decoded]]) -> list[Decoded]:
    """Return a finished part; DataError if its process died."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that prepares clips died (out of memory?); run the same again, it goes on "
            "where it was; with --workers 1 if it dies again."
        ) from error


def make(part: Part) -> list[Decoded]:
    """Return the facts of a part's clips, making its two files unless they are there and hold."""
    key = _key(part)
    known = _read_record(part, key)
    if known is not None:
        return known
    decoded, digest = [], hashlib.sha256()
    module = catalog.reader(part.entry["reader"])
    read = _synthesised if hasattr(module, "samples") else _recorded
    with files.replacing(part.samples) as temporary, open(temporary, "wb") as out:
        for row in part.rows:  # one clip in memory at a time: 512 of 30 s would be half a gigabyte
            facts, wave = read(part, row)
            decoded.append(facts)
            content = wave.astype("<i2").tobytes()
            digest.update(content)
            out.write(content)
    clips = [dataclasses.asdict(facts) for facts in decoded]
    files.write_json(part.record, {"key": key, "sha256": digest.hexdigest(), "clips": clips})
    return decoded


def _key(part: Part) -> str:
    """Return the hash of all that a part depends on, the recordings by size and time."""
    stamps = []
    recorded = [row for row in part.rows if row.path and part.data_root]
    for row in recorded:
        with contextlib.suppress(OSError):
            status = os.stat(Path(part.data_root or ".") / row.path)
            stamps.append((row.path, status.st_size, status.st_mtime_ns))
    rows = [dataclasses.astuple(row) for row in part.rows]
    facts = [part.entry, str(part.data_root), rows, stamps]
    return files.sha256_text(json.dumps(facts, sort_keys=True))


def _read_record(part: Part, key: str) -> list[Decoded] | None:
    """Return the facts of a part made earlier, or None where its key or samples do not hold."""
    try:
        record = files.read_json(part.record)
        if record["key"] != key or record["sha256"] != files.sha256_file(part.samples):
            return None
        clips = [{**facts, "notes": tuple(facts["notes"])} for facts in record["clips"]]
        return [Decoded(**facts) for facts in clips]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _synthesised(part: Part, row: Row) -> tuple[Decoded, NDArray[np.int16]]:
    """Return the facts and samples of a clip that its reader makes in code."""
    wave = catalog.reader(part.entry["reader"]).samples(part.entry, row)
    seconds = len(wave) / SAMPLE_RATE
    facts = Decoded(row.clip, seconds=seconds, sample_rate=SAMPLE_RATE, channels=1)
    return _with_samples(facts, wave), wave


def _recorded(part: Part, row: Row) -> tuple[Decoded, NDArray[np.int16]]:
    """Return the facts and samples of a recording; what cannot be used has a problem, no samples.

    What rises above full scale (float files, lossy codecs) is divided by its peak, not clipped.
    """
    # Decoding needs soundfile, which a machine that only trains or makes toy sounds may lack.
    from cmkd.data import decode

    longest = getattr(catalog.reader(part.entry["reader"]), "LONGEST_SECONDS", None)
    try:
        floats, info = decode.decode(Path(part.data_root or ".") / row.path, longest)
    except DataError as error:
        return Decoded(row.clip, problem=str(error)), np.empty(0, dtype=np.int16)
    scale = max(info.peak, 1.0)
    wave, clipped = decode.quantise(floats, scale)
    facts = Decoded(
        clip=row.clip,
        seconds=info.seconds,
        sample_rate=info.sample_rate,
        channels=info.channels,
        scale=scale,
        clipped=clipped,
        notes=info.notes,
    )
    return _with_samples(facts, wave), wave


def _with_samples(facts: Decoded, wave: NDArray[np.int16]) -> Decoded:
    """Return the facts with the number and the hash of the samples."""
    digest = hashlib.sha256(wave.astype("<i2").tobytes()).hexdigest()
    return dataclasses.replace(facts, samples=len(wave), sha256=digest)
