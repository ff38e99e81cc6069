"""Compact facts give back what they were given."""

import pytest

from cmkd import files
from cmkd.data.facts import TABLE, Facts
from cmkd.data.manifest import Decoded

HASHES = [files.sha256_text("a"), "00" * 31 + "01", "01" + "00" * 31, ""]
GIVEN = [
    Decoded("-a", 16000, 0.1 + 0.2, 44100, 2, HASHES[0], 1.5, 7, ("is odd", "is long")),
    Decoded("b", 1, 1e-9, 1_000_000, 1, HASHES[1]),
    Decoded("c", 2**40, 1e6, 8000, 6, HASHES[2]),
    Decoded("d", problem="is not a file"),
]


def test_facts_come_back_whatever_the_order_they_came_in() -> None:
    facts = Facts([given.clip for given in GIVEN])
    for given in reversed(GIVEN):
        facts.add(given)
    assert [facts[given.clip] for given in GIVEN] == GIVEN
    assert list(facts) == ["-a", "b", "c", "d"] and len(facts) == 4
    assert facts["b"].sha256 == HASHES[1] and facts["c"].sha256 == HASHES[2]


def test_an_unknown_clip_is_an_error() -> None:
    facts = Facts(["a", "c"])
    for clip in ("b", "d", ""):
        with pytest.raises(KeyError):
            facts[clip]
    assert "b" not in facts and "a" in facts


def test_a_clip_takes_72_bytes() -> None:
    assert TABLE.itemsize == 72
