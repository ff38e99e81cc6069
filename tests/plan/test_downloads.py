"""Which datasets a suite fetches, into which folder, and what is refused in their entries."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmkd.errors import ConfigError
from cmkd.plan import downloads, recipes, suites
from cmkd.plan.agreement import PREPARED, Agreement
from cmkd.plan.catalog import Catalog

ROOT = Path(__file__).parents[2]
FILE = {"url": "https://example.org/a.zip", "file": "a.zip", "folder": "a"}
SUM = "0" * 32


@pytest.fixture
def fetched(bench: Any) -> Any:
    """A bench whose `birds` can be fetched; `cars` comes in the same archive."""
    bench.datasets["birds"]["downloads"] = [FILE | {"md5": SUM}]
    bench.datasets["cars"]["downloads_of"] = "birds"
    bench.suite["datasets"] = ["birds", "cars"]
    return bench


def test_off_by_default_nothing_has_a_root(fetched: Any) -> None:
    suite = fetched.load()
    assert not suite.download
    assert [suite.root(name) for name in suite.datasets] == [None, None]
    assert suite.fetched("birds") is None


@pytest.mark.parametrize("on", [True, "true"])
def test_two_datasets_of_one_archive_share_a_folder(fetched: Any, on: object) -> None:
    suite = fetched.load(download=on)
    assert [suite.fetched(name) for name in suite.datasets] == ["birds", "birds"]
    assert {suite.root(name) for name in suite.datasets} == {Path("results/downloads/birds")}
    assert fetched.load(downloads="~/d").root("cars") == Path("~/d/birds").expanduser()


@pytest.mark.parametrize("off", [False, "false"])
def test_it_can_be_switched_off(fetched: Any, off: object) -> None:
    assert fetched.load(download=off).root("birds") is None


def test_a_stated_root_is_never_fetched_into(fetched: Any) -> None:
    suite = fetched.load(download=True, data_root={"birds": "/mine"})
    assert suite.root("birds") == Path("/mine")
    assert (suite.fetched("birds"), suite.fetched("cars")) == (None, "birds")
    assert fetched.load(data_root="/all").fetched("cars") is None


def test_downloads_are_in_no_recipe(fetched: Any) -> None:
    after = fetched.load(download=True)
    for name in ("birds", "cars"):
        fetched.datasets[name].pop("downloads", None)
        fetched.datasets[name].pop("downloads_of", None)
    before = fetched.load(download=False)
    for name in ("birds", "cars"):
        assert after.data_recipe(name) == before.data_recipe(name)
        assert after.recipe(name, "a") == before.recipe(name, "a")


def test_a_suite_is_read_back_with_its_downloads(fetched: Any) -> None:
    suite = fetched.load(download="true", downloads="here")
    (fetched.folder / "again.yaml").write_text(suite.text())
    again = suites.load(fetched.folder / "again.yaml")
    assert again.root("birds") == Path("here/birds")


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("birds", {"downloads": [FILE]}, "downloads 'a.zip' with no hash; give one of md5, sha256"),
        (
            "birds",
            {"downloads": [FILE | {"md5": SUM, "no_hash": "why"}]},
            "downloads 'a.zip' with md5 and no_hash; give one",
        ),
        ("birds", {"downloads": [FILE | {"md5": SUM}] * 2}, "downloads 'a.zip' twice"),
        ("birds", {"downloads": [FILE | {"md5": "0"}]}, "must be 32 hex digits"),
        ("birds", {"downloads": [FILE | {"url": "file:///x", "md5": SUM}]}, "must be an address"),
        ("birds", {"downloads": [FILE | {"file": "../a.zip", "md5": SUM}]}, "must be a file's"),
        ("birds", {"downloads": [FILE | {"folder": "..", "md5": SUM}]}, "must be the name of"),
        ("birds", {"downloads": [FILE | {"md5": SUM, "size": 1}]}, "unknown key 'size'"),
        ("birds", {"downloads": []}, "but must be a list of files"),
        ("birds", {"downloads_of": "bird"}, "downloads_of 'bird', which has no downloads"),
        ("cars", {"downloads": [FILE | {"md5": SUM}]}, "both downloads and downloads_of"),
    ],
)
def test_entries_that_make_no_sense_are_said(
    fetched: Any, name: str, entry: dict[str, Any], said: str
) -> None:
    if "downloads_of" in entry:
        del fetched.datasets["cars"]["downloads_of"], fetched.datasets["birds"]["downloads"]
    fetched.datasets[name] |= entry
    with pytest.raises(ConfigError, match=said):
        fetched.load()


def test_download_is_true_or_false(fetched: Any) -> None:
    with pytest.raises(ConfigError, match="download is 'yes', but must be true or false"):
        fetched.load(download="yes")


def test_the_script_fetches_before_it_prepares(fetched: Any) -> None:
    lines = fetched.load(download=True, folds=[1]).commands().splitlines()
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("cmkd prepare")]
    fetching = ["--data-root", "results/downloads/birds", "--catalog", ".", "--download-only"]
    assert [call[2:] == fetching for call in calls] == [True, False, True, False]
    assert calls[1][1] == calls[0][1]
    assert calls[1][4:6] == fetching[:2]


def test_the_marker_is_needed_only_to_prepare(fetched: Any) -> None:
    suite = fetched.load(download=True)
    marker = Path("results/downloads/birds") / downloads.MARKER
    assert Agreement(suite).marker("birds") == marker
    folder = suite.prepared_folder("birds")
    folder.mkdir(parents=True)
    for name in PREPARED:
        (folder / name).write_text(suite.data_recipe("birds").text)
    assert Agreement(suite).marker("birds") is None
    assert Agreement(suite).marker("cars") == marker
    (folder / "recipe.yaml").write_text("of another recipe")
    assert Agreement(suite).marker("birds") == marker
    assert Agreement(fetched.load(download=False)).marker("birds") is None


def test_a_recipe_that_is_handed_on_is_written_and_its_time_left_alone(fetched: Any) -> None:
    suite = fetched.load()
    path = Agreement(suite).data_file("birds")
    assert recipes.dump(yaml.safe_load(path.read_text())) == suite.data_recipe("birds").text
    assert path == Agreement(suite).wanted_prepared("birds").path


def test_published_datasets_know_where_they_are_fetched() -> None:
    entries = Catalog(ROOT / "config")
    owners = {name: downloads.owner(entries, name) for name in ("esc50", "esc10", "fsd50k", "toy")}
    assert owners == {"esc50": "esc50", "esc10": "esc50", "fsd50k": "fsd50k", "toy": None}
    parts = [item["file"] for item in entries.entry("datasets", "fsd50k")["downloads"]]
    audio = [name for name in parts if "dev_audio" in name]
    assert audio == [f"FSD50K.dev_audio.z0{n}" for n in range(1, 6)] + ["FSD50K.dev_audio.zip"]
