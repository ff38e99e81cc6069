"""From a published dataset to a prepared folder: manifest, audit, one array of samples, recipe."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmkd import files
from cmkd.data import audit as audits
from cmkd.data import catalog, losses, manifest, parts
from cmkd.data.catalog import Row
from cmkd.data.clips import Clips
from cmkd.data.facts import Facts
from cmkd.data.manifest import Decoded
from cmkd.errors import DataError
from cmkd.progress import progress

BUILDING = ".building"
PREPARED = ("clips.bin", "clips.csv", "manifest.csv")


def prepare(
    recipe_text: str, out: Path, data_root: Path | None, workers: int, again: bool = False
) -> None:
    """Write a prepared folder whose recipe.yaml is `recipe_text`, with its audit first.

    A folder that is finished and has this recipe stays as it is unless `again`. A preparation that
    was killed goes on where it was. DataError lists all findings of the audit, which are then in
    audit.json, and leaves the rest of the folder as it was; the clips that were read stay in
    .building, so that only mended recordings are read again.
    """
    out = Path(out)
    entry = catalog.entry(recipe_text)
    if not again and _is_finished(out, recipe_text):
        print(f"{entry['name']}: {out} is prepared already (--again makes it anew)")
        return
    out.mkdir(parents=True, exist_ok=True)
    building = out / BUILDING
    if again:
        shutil.rmtree(building, ignore_errors=True)
    rows, work, decoded = _make(entry, out, data_root, workers)
    _write(recipe_text, out, rows, work, decoded)
    shutil.rmtree(building, ignore_errors=True)


def _is_finished(out: Path, recipe_text: str) -> bool:
    """Tell whether a folder was finished with this very recipe and its files fit together."""
    recipe = out / "recipe.yaml"
    if not recipe.is_file() or recipe.read_text(encoding="utf-8") != recipe_text:
        return False
    return _is_whole(out)


def _is_whole(out: Path) -> bool:
    """Tell whether a folder holds a finished dataset, of whatever recipe."""
    if not all(files.sidecar(out / name).is_file() for name in PREPARED):
        return False
    try:
        return len(Clips(out)) > 0 and (out / "audit.json").is_file()
    except DataError:
        return False


def _make(
    entry: dict[str, Any], out: Path, data_root: Path | None, workers: int
) -> tuple[list[Row], list[parts.Part], Facts]:
    """Read the table, make all parts, audit them and say what was found; stop if it must."""
    data_root = Path(data_root) if data_root is not None else None
    audit = audits.Audit()
    listed = _listed(entry, data_root, audit)
    rows = audits.check_present(entry, listed, data_root, audit)
    work = parts.divide(entry, data_root, rows, out / BUILDING)
    facts = Facts([row.clip for row in rows])
    for clip in progress(parts.make_all(work, workers), len(rows), f"{entry['name']} clips"):
        facts.add(clip)
    eroded = not audits.stops_at_losses(entry)
    audits.check_audio(rows, facts, audit, eroded)
    if eroded:
        rows = losses.leave_out(entry, listed, rows, facts, audit)
    path = out / ("audit-stopped.json" if audit.findings and _is_whole(out) else "audit.json")
    audits.write(path, entry, (facts[row.clip] for row in rows), audit)
    _say(entry, rows, facts, audit)
    audits.raise_findings(entry, audit, path)
    (out / "audit-stopped.json").unlink(missing_ok=True)
    return rows, work, facts


def _listed(entry: dict[str, Any], data_root: Path | None, audit: audits.Audit) -> list[Row]:
    """Return the rows of the dataset's own table, by clip, after checking them."""
    table = catalog.reader(entry["reader"]).rows(entry, data_root)
    rows = sorted(table, key=lambda row: row.clip)
    audits.check_table(entry, rows, audit)
    for kind, sentence in getattr(table, "notes", ()):
        audit.note(kind, sentence)
    return rows


def _say(
    entry: Mapping[str, Any],
    rows: Sequence[Row],
    decoded: Mapping[str, Decoded],
    audit: audits.Audit,
) -> None:
    """Print what was found: counts, then declared oddities, then notes."""
    usable = audits.totals(decoded[row.clip] for row in rows)
    rates = ", ".join(usable["sample_rates"])
    folds = len({row.split for row in rows})
    kind = "folds" if entry.get("folds") else "splits"
    print(
        f"{entry['name']}: {usable['clips']} clips, {len(entry['classes'])} classes, "
        f"{folds} {kind}, {usable['seconds']:.0f} s at {rates or '?'} Hz"
    )
    if audit.left_out:
        print(f"  {losses.line(audit.left_out)}")
    for sentence in audits.sentences(audit.declared):
        print(f"  declared oddity: {sentence}")
    for sentence in audits.sentences(audit.notes, audits.NOTES_OF_A_KIND):
        print(f"  note: {sentence}")


def _write(
    recipe_text: str,
    out: Path,
    rows: Sequence[Row],
    work: Sequence[parts.Part],
    decoded: Mapping[str, Decoded],
) -> None:
    """Write the prepared files; recipe.yaml, removed first and written last, makes them count."""
    (out / "recipe.yaml").unlink(missing_ok=True)
    whole_path = out / BUILDING / "clips.bin"
    with files.replacing(whole_path) as temporary, open(temporary, "wb") as whole:
        for part in work:
            with open(part.samples, "rb") as piece:
                shutil.copyfileobj(piece, whole, 1 << 20)
    whole_path.replace(out / "clips.bin")
    manifest.write_index(out / "clips.csv", rows, decoded)
    manifest.write_manifest(out / "manifest.csv", rows, decoded)
    for name in PREPARED:
        files.write_sidecar(out / name)
    files.write_text(out / "recipe.yaml", recipe_text)
