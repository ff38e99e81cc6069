from pathlib import Path

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import catalog


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("1e-3", "1.0e-3"),
        ("5E5", "5.0e+5"),
        (".5e3", "0.5e+3"),
        ("1.5e3", "1.5e+3"),
        ("+1e+2", "+1.0e+2"),
    ],
)
def test_a_number_that_yaml_takes_for_text_is_explained(written: str, advice: str) -> None:
    with pytest.raises(ConfigError) as error:
        catalog.parse_yaml(f"a: 1\nlr: {written}\n", "recipes.yaml")
    assert str(error.value) == (
        f"recipes.yaml, line 2: YAML reads {written} as text, not as a number; write {advice}"
    )
    value = catalog.parse_yaml(f"lr: {advice}", "recipes.yaml")["lr"]
    assert value == float(written)


def test_quoted_it_is_a_text() -> None:
    assert catalog.parse_yaml("name: '1e-3'", "x") == {"name": "1e-3"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3: the key 'a' is written twice; keep one"),
        ("a: {b: 1, b: 2}", "x.yaml, line 1: the key 'b' is written twice; keep one"),
        ("a: .nan", "x.yaml, line 1: .nan is not a finite number"),
        ("a: 1\nb: -.inf", "x.yaml, line 2: -.inf is not a finite number"),
        ("a: [1, 2", "x.yaml, line "),
        ("a: !!python/object:os.system {}", "x.yaml, line 1: this is not YAML: "),
        ("? [1]\n: 2", "x.yaml: this is not YAML: unhashable"),
        ("a: 2025-13-45", "x.yaml: this is not YAML: month must be in 1..12"),
    ],
)
def test_broken_yaml_says_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        catalog.parse_yaml(text, "x.yaml")
    assert str(error.value).startswith(message)


def test_anchors_and_merge_keys_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    expected = {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert catalog.parse_yaml(text, "x") == expected


def test_a_missing_file_names_its_nearest(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="demos.yaml, did you mean 'demo.yaml'"):
        catalog.read_yaml(tmp_path / "demos.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n", "must hold a mapping .key: value., not list"),
        (b"", "must hold a mapping .key: value., not NoneType"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        catalog.read_yaml(tmp_path / "x.yaml")


def test_the_catalogue_is_found_upwards_else_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "my config" / "studies"
    deep.mkdir(parents=True)
    checkouts = catalog.find()
    assert catalog.find(deep) == checkouts
    assert (checkouts / "recipes.yaml").is_file()
    (tmp_path / "my config" / "models.yaml").write_text("{}")
    assert catalog.find(deep) == tmp_path / "my config"
    monkeypatch.chdir(tmp_path)
    assert catalog.find(deep) == Path("my config")


def test_an_unknown_entry_names_its_nearest(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("ast_tiny: {}\neffnet_b0: {}\n")
    entries = catalog.Catalog(tmp_path)
    assert entries.entry("models", "ast_tiny") == {}
    assert entries.variants == {}
    with pytest.raises(ConfigError, match="no model 'ast_tinny' .* did you mean 'ast_tiny'"):
        entries.entry("models", "ast_tinny")
