from typing import Any

import pytest

from cmkd.data import catalog, toy
from cmkd.errors import ConfigError


def test_readers_are_the_modules_that_have_rows() -> None:
    assert {"toy", "esc50"} <= set(catalog.readers())
    assert "clips" not in catalog.readers() and catalog.reader("toy") is toy


@pytest.mark.parametrize(("name", "said"), [("esc5", "did you mean 'esc50'"), ("clips", "known")])
def test_an_unknown_reader_is_named_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown reader '{name}'.*{said}"):
        catalog.reader(name)


def test_splits_are_folds_or_names() -> None:
    assert catalog.splits({"folds": [1, 2]}) == ("1", "2")
    assert catalog.splits({"splits": ["train", "test"]}) == ("train", "test")
    for entry in ({}, {"folds": [1], "splits": ["train"]}):
        with pytest.raises(ConfigError, match="either 'folds' or 'splits'"):
            catalog.splits(entry)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("just words", "not a table of keys: give one that a plan has written"),
        ("{name: a, reader: toy}", "lacks the key 'classes': give one that a plan has written"),
        ("a: [", "the dataset's recipe, line 2: this is not YAML"),
        ("{name: a, reader: toy, classes: ['x;y']}", "class 'x;y' of dataset a"),
    ],
)
def test_a_recipe_that_is_no_entry_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        catalog.entry(text)


def test_absent_recordings_get_one_sentence(esc50: dict[str, Any]) -> None:
    said = catalog.needs_recordings(esc50, "nothing is there")
    assert said == (
        "dataset tiny: nothing is there; name the folder by --config data_root=PATH "
        "(a verb of cmkd: --data-root PATH); get it from its authors."
    )
