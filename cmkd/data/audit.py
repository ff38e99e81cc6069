"""What is wrong or odd in a dataset, one sentence each: all found first, then said together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmkd import files
from cmkd.data.catalog import Row, splits
from cmkd.data.manifest import Decoded
from cmkd.errors import DataError, nearest

NAMED = 3
SENTENCES_OF_A_KIND = 20
NOTES_OF_A_KIND = 5


@dataclass(frozen=True)
class Finding:
    """One sentence, its kind and the clips it is about."""

    kind: str
    sentence: str
    clips: tuple[str, ...] = ()


@dataclass
class Audit:
    """Findings stop the preparation; declared oddities and notes are printed and kept.

    `left_out` counts clips by split where they may be missing (see `cmkd.data.losses`).
    """

    findings: list[Finding] = field(default_factory=list)
    declared: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    left_out: dict[str, Any] = field(default_factory=dict)

    def stop(self, kind: str, sentence: str, clips: Iterable[str] = ()) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, sentence, tuple(clips)))

    def note(self, kind: str, sentence: str, clips: Iterable[str] = ()) -> None:
        """Add something worth saying that stops nothing."""
        self.notes.append(Finding(kind, sentence, tuple(clips)))

    def declare(self, kind: str, sentence: str, clips: Iterable[str] = ()) -> None:
        """Add an oddity that the dataset's entry names with its reason."""
        self.declared.append(Finding(kind, sentence, tuple(clips)))


def check_table(entry: Mapping[str, Any], rows: Sequence[Row], audit: Audit) -> None:
    """Check what needs no audio: ids, classes, labels, folds and sources."""
    _check_ids(rows, audit)
    _check_classes(entry, rows, audit)
    _check_splits(entry, rows, audit)
    _check_sources(entry, rows, audit)


def check_present(
    entry: Mapping[str, Any], rows: Sequence[Row], data_root: Path | None, audit: Audit
) -> list[Row]:
    """Return the rows whose file is there; the others are a finding, or counted where it may be."""
    if data_root is None:
        return list(rows)
    missing = [row for row in rows if row.path and not (data_root / row.path).is_file()]
    if not missing:
        return list(rows)
    few = first_few(row.path for row in missing)
    sentence = f"{len(missing)} of {len(rows)} clips are missing under {data_root}: {few}"
    clips = [row.clip for row in missing]
    if stops_at_losses(entry):
        obtain = str(entry.get("obtain") or "put them there").rstrip(".")
        audit.stop("missing", f"{sentence}; {obtain}.", clips)
    else:
        audit.note("missing", f"{sentence}; they are left out.", clips)
        if len(missing) == len(rows):
            obtain = str(entry.get("obtain") or "correct it").rstrip(".")
            audit.stop("missing", f"none of {len(rows)} clips is under {data_root}: {obtain}.")
    gone = set(clips)
    return [row for row in rows if row.clip not in gone]


def stops_at_losses(entry: Mapping[str, Any]) -> bool:
    """Tell whether a clip that is missing or damaged stops the preparation of a dataset."""
    return str(entry.get("on_missing", "stop")) == "stop"


def check_audio(
    rows: Sequence[Row], decoded: Mapping[str, Decoded], audit: Audit, eroded: bool = False
) -> None:
    """Check what decoding told: unusable clips, the same audio in two folds, things to say.

    `eroded` says that clips may be lost: the user can mend neither those nor the published splits.
    """
    for row in rows:
        if decoded[row.clip].problem:
            sentence = f"clip {row.clip} ({row.path}) {decoded[row.clip].problem}."
            (audit.note if eroded else audit.stop)("undecodable", sentence, [row.clip])
    _check_same_audio(rows, decoded, audit, eroded)
    for row in rows:
        for text in decoded[row.clip].notes:
            audit.note("file", f"clip {row.clip} ({row.path}) {text}.", [row.clip])
    _note_levels(rows, decoded, audit)


def totals(decoded: Iterable[Decoded]) -> dict[str, Any]:
    """Return number, seconds, sample rates and channels of the clips that can be used."""
    clips, seconds = 0, 0.0
    rates: Counter[int] = Counter()
    channels: Counter[int] = Counter()
    for clip in decoded:
        if not clip.problem:
            clips, seconds = clips + 1, seconds + clip.seconds
            rates[clip.sample_rate] += 1
            channels[clip.channels] += 1
    return {
        "clips": clips,
        "seconds": round(seconds, 6),
        "sample_rates": {str(rate): rates[rate] for rate in sorted(rates)},
        "channels": {str(count): channels[count] for count in sorted(channels)},
    }


def write(path: Path, entry: Mapping[str, Any], decoded: Iterable[Decoded], audit: Audit) -> None:
    """Write audit.json: what was counted, found, declared and noted."""
    content = {
        "format": 1,
        "dataset": entry["name"],
        "status": "stopped" if audit.findings else "passed",
        **totals(decoded),
        **({"left_out": audit.left_out} if audit.left_out else {}),
        "findings": [asdict(finding) for finding in audit.findings],
        "declared": [asdict(finding) for finding in audit.declared],
        "notes": [asdict(finding) for finding in audit.notes],
    }
    files.write_json(path, content)


def raise_findings(entry: Mapping[str, Any], audit: Audit, path: Path) -> None:
    """Raise one DataError with a sentence for each finding, if there is any."""
    if audit.findings:
        lines = sentences(audit.findings)
        count = len(audit.findings)
        stops = "1 finding stops" if count == 1 else f"{count} findings stop"
        head = f"dataset {entry['name']}: {stops} the preparation"
        raise DataError("\n  ".join([f"{head} (all in {path}):", *lines]))


def declared(prepared: Path) -> list[str]:
    """Return the declared oddities of a prepared dataset, a sentence each (for the leaderboard)."""
    path = Path(prepared) / "audit.json"
    if not path.is_file():
        return []
    return [finding["sentence"] for finding in files.read_json(path)["declared"]]


def sentences(findings: Sequence[Finding], most: int = SENTENCES_OF_A_KIND) -> list[str]:
    """Return the findings' sentences, at most `most` of a kind and how many more there are."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        kinds[finding.kind].append(finding.sentence)
    lines = []
    for kind, texts in kinds.items():
        lines.extend(texts[:most])
        if len(texts) > most:
            lines.append(f"... and {len(texts) - most} more ({kind}).")
    return lines


def first_few(names: Iterable[str]) -> str:
    """Return the first three names and how many more there are."""
    known = list(names)
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return ", ".join(known[:NAMED]) + more


def _check_ids(rows: Sequence[Row], audit: Audit) -> None:
    """Each clip has one row, and there is at least one."""
    if not rows:
        audit.stop("no clips", "the dataset's table lists no clips: put the published table there.")
    if len({row.clip for row in rows}) == len(rows):
        return
    for clip, count in Counter(row.clip for row in rows).items():
        if count > 1:
            audit.stop("clip twice", f"clip {clip} has {count} rows: keep one.", [clip])


def _check_classes(entry: Mapping[str, Any], rows: Sequence[Row], audit: Audit) -> None:
    """The labels are the declared classes, all of them, one a clip in a single-label dataset."""
    classes = [str(name) for name in entry["classes"]]
    used = {label for row in rows for label in row.labels}
    # Where clips may be lost the list of classes is fixed, and `losses` names those without clips.
    if len(used) != len(classes) and stops_at_losses(entry):
        audit.stop(
            "classes",
            f"the clips have {len(used)} classes where datasets.yaml declares {len(classes)}: "
            f"{_difference(used, set(classes))}.",
        )
    for label in sorted(used - set(classes)):
        clips = [row.clip for row in rows if label in row.labels]
        few = first_few(clips)
        hint = nearest(label, classes)
        audit.stop("class", f"class '{label}' ({few}) is not declared{hint}", clips)
    if entry.get("labels", "single") == "single":
        for row in rows:
            if len(row.labels) != 1:
                text = f"clip {row.clip} has {len(row.labels)} labels where one is needed."
                audit.stop("labels", text, [row.clip])


def _difference(used: set[str], classes: set[str]) -> str:
    """Return which classes no clip has and which are not declared."""
    parts = []
    if classes - used:
        parts.append(f"no clip has {first_few(sorted(classes - used))}")
    if used - classes:
        parts.append(f"not declared: {first_few(sorted(used - classes))}")
    return "; ".join(parts) or "one is declared twice"


def _check_splits(entry: Mapping[str, Any], rows: Sequence[Row], audit: Audit) -> None:
    """Every clip lies in a declared fold or split, and none of these is empty."""
    known = splits(entry)
    groups = _groups(rows, lambda row: row.split)
    for split, members in groups.items():
        if split not in known:
            clips = [row.clip for row in members]
            text = f"fold or split '{split}' ({first_few(clips)}) is not declared"
            audit.stop("split", text + nearest(split, known), clips)
    for split in known:
        if rows and split not in groups:
            text = f"fold or split '{split}' has no clips: correct datasets.yaml or the table."
            audit.stop("split", text)


def _check_sources(entry: Mapping[str, Any], rows: Sequence[Row], audit: Audit) -> None:
    """No source recording lies in two folds, except those that the entry declares."""
    oddity = entry.get("sources_in_two_folds") or {}
    allowed = {str(source) for source in oddity.get("allowed", ())}
    seen = set()
    for source, members in _groups(_of_spread_sources(rows), lambda row: row.source).items():
        folds = {row.split for row in members}
        clips = [row.clip for row in members]
        text = f"source {source} lies in folds {' and '.join(sorted(folds))}: {first_few(clips)}"
        if source in allowed:
            seen.add(source)
            reason = str(oddity.get("reason", "declared in datasets.yaml")).rstrip(".")
            audit.declare("source", f"{text} ({reason}).", clips)
        else:
            remedy = "move them into one, or declare it under sources_in_two_folds with its reason"
            audit.stop("source", f"{text}; {remedy}.", clips)
    for source in sorted(allowed - seen):
        text = (
            f"source {source} is declared under sources_in_two_folds but lies in one fold or none"
        )
        audit.note("source", f"{text} here.")


def _of_spread_sources(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose source lies in more than one fold."""
    fold: dict[str, str] = {}
    spread = {
        row.source
        for row in rows
        if row.source and fold.setdefault(row.source, row.split) != row.split
    }
    return [row for row in rows if row.source in spread]


def _check_same_audio(
    rows: Sequence[Row], decoded: Mapping[str, Decoded], audit: Audit, eroded: bool
) -> None:
    """No two clips of different folds have the same samples; within a fold it is a note."""
    usable = _of_common_audio(rows, decoded)
    for members in _groups(usable, lambda row: decoded[row.clip].sha256).values():
        if len(members) < 2:
            continue
        clips = [row.clip for row in members]
        folds = sorted({row.split for row in members})
        text = f"clips {first_few(clips)} are the same audio"
        if len(folds) > 1 and eroded:
            text = f"{text} in splits {' and '.join(folds)}; kept as published."
            audit.note("same audio", text, clips)
        elif len(folds) > 1:
            remedy = "keep them in one fold"
            audit.stop("same audio", f"{text} in folds {' and '.join(folds)}: {remedy}.", clips)
        else:
            audit.note("same audio", f"{text} within fold {folds[0]}.", clips)


def _of_common_audio(rows: Sequence[Row], decoded: Mapping[str, Decoded]) -> list[Row]:
    """Return the rows whose samples may be those of another one: their hashes begin alike."""
    begins = np.fromiter(
        (int(decoded[row.clip].sha256[:16] or "0", 16) for row in rows), np.uint64, len(rows)
    )
    values, counts = np.unique(begins, return_counts=True)
    common = np.flatnonzero(np.isin(begins, values[counts > 1]))
    return [rows[number] for number in common if decoded[rows[number].clip].sha256]


def _note_levels(rows: Sequence[Row], decoded: Mapping[str, Decoded], audit: Audit) -> None:
    """Say which clips were scaled to fit full scale, and how many resampling drove beyond it."""
    clipped, total = [], 0
    for clip in (decoded[row.clip] for row in rows):
        if clip.scale > 1:
            text = f"clip {clip.clip} reaches {clip.scale:.4g} where full scale is 1"
            audit.note("level", f"{text}: all its samples were divided by that.", [clip.clip])
        if clip.clipped:
            clipped.append(clip.clip)
            total += clip.clipped
    if clipped:
        text = f"resampling drove {total} samples of {len(clipped)} clips beyond full scale"
        audit.note("clipped", f"{text}; they were clipped ({first_few(clipped)}).", clipped)


def _groups(rows: Sequence[Row], key: Any) -> dict[str, list[Row]]:
    """Return the rows by a key, in the order of first sight."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
