"""Which datasets are fetched, from whose entry, into which folder.

An entry of datasets.yaml has `downloads`, a list of files, or `downloads_of`, the name of another
entry that comes in the same archive and is fetched once for both.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cmkd.errors import nearest
from cmkd.plan.catalog import Catalog

MARKER = "download.json"  # written last, in the dataset's folder
HASHES = ("md5", "sha256", "no_hash")


def owner(entries: Catalog, dataset: str) -> str | None:
    """Return the entry whose downloads hold a dataset, or None where it must be got by hand."""
    entry = entries.entry("datasets", dataset)
    if "downloads_of" in entry:
        return str(entry["downloads_of"])
    return dataset if "downloads" in entry else None


def problems(entry: Mapping[str, Any], datasets: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes no sense in an entry's downloads."""
    other = entry.get("downloads_of")
    if other is not None and "downloads" in entry:
        yield "has both downloads and downloads_of; keep one"
    elif other is not None and "downloads" not in datasets.get(other, {}):
        known = [name for name, known in datasets.items() if "downloads" in known]
        yield f"has downloads_of '{other}', which has no downloads{nearest(other, known)}"
    seen: set[str] = set()
    for item in entry.get("downloads") or ():
        given = [kind for kind in HASHES if kind in item]
        if len(given) != 1:
            yield (
                f"downloads '{item['file']}' with {' and '.join(given) or 'no hash'}; give one of "
                f"{', '.join(HASHES)} (no_hash: the reason why none is known)"
            )
        if item["file"] in seen:
            yield f"downloads '{item['file']}' twice; give each file a name of its own"
        seen.add(item["file"])
