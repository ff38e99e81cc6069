"""What memory a clip costs while a dataset is built and read, and a real measurement."""

import importlib.util
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data import manifest
from cmkd.data.catalog import Row
from cmkd.data.clips import Clips
from cmkd.data.facts import Facts
from cmkd.data.manifest import Decoded

Text = Callable[[dict[str, Any]], str]
FEW, MANY = 1000, 6000


def peak(work: Callable[[], object]) -> int:
    """Return the most bytes of Python and NumPy that were alive during some work."""
    tracemalloc.start()
    try:
        kept = work()
        del kept
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def built(entry: dict[str, Any], clips: int, out: Path) -> object:
    """List, audit and write clips as if their samples had been made; return what is kept."""
    names = entry["classes"]
    rows = [
        Row(clip := f"clip-{n:07d}", f"{clip}.wav", ("train", "test")[n % 2], (names[n % 3],), clip)
        for n in range(clips)
    ]
    facts, audit = Facts([row.clip for row in rows]), audits.Audit()
    audits.check_table(entry, rows, audit)
    for number, row in enumerate(rows):
        facts.add(Decoded(row.clip, 1, 0.5, 16000, 1, f"{number:064x}"))
    audits.check_audio(rows, facts, audit)
    audits.write(out / "audit.json", entry, (facts[row.clip] for row in rows), audit)
    manifest.write_index(out / "clips.csv", rows, facts)
    manifest.write_manifest(out / "manifest.csv", rows, facts)
    (out / "clips.bin").write_bytes(bytes(2 * clips))
    return rows, facts


def test_a_clip_costs_hundreds_of_bytes_not_thousands(
    toy_multi: dict[str, Any], text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "PIECE", 100)
    entry = toy_multi | {"splits": ["train", "test"]}
    building, reading = {}, {}
    for clips in (FEW, MANY):
        out = tmp_path / str(clips)
        out.mkdir()
        building[clips] = peak(lambda n=clips, o=out: built(entry, n, o))
        for name in ("clips.csv", "manifest.csv"):
            files.write_sidecar(out / name)
        (out / "recipe.yaml").write_text(text(entry))
        assert len(Clips(out)) == clips  # also, so that what is made once counts in neither
        reading[clips] = peak(lambda o=out: Clips(o))
    assert (building[MANY] - building[FEW]) / (MANY - FEW) < 700
    assert (reading[MANY] - reading[FEW]) / (MANY - FEW) < 300


def benchmark() -> ModuleType:
    """Return benchmarks/scale.py as a module."""
    path = files.checkout() / "benchmarks" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_memory_is_flat_from_two_to_twelve_thousand_clips(tmp_path: Path) -> None:
    scale = benchmark()
    found = {}
    for clips in (2_000, 12_000):
        (tmp_path / str(clips)).mkdir()
        found[clips] = scale.measure(clips, 2, tmp_path / str(clips))
    for step, spent in found[12_000].items():
        # 700 bytes a clip are 7 MB; the allocator's own whims are more than that.
        assert spent.peak - found[2_000][step].peak < 25, step
