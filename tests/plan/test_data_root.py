"""Where recordings are: one path for all datasets, a path for each, or the entry's own."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from cmkd.errors import ConfigError
from cmkd.plan import suites


@pytest.fixture
def recorded(bench: Any) -> Any:
    """Return the bench with two datasets whose clips are recordings."""
    for name in ("birds", "cars"):
        bench.datasets[name]["reader"] = "folder"
    bench.suite |= {"datasets": ["birds", "cars"], "pairs": ["alone"]}
    return bench


def test_one_path_is_that_of_every_dataset(recorded: Any) -> None:
    suite = recorded.load(data_root="~/sounds")
    assert suite.root("birds") == suite.root("cars") == Path.home() / "sounds"


def test_a_mapping_gives_each_its_own(recorded: Any) -> None:
    recorded.datasets["cars"]["data_root"] = "/entry"
    suite = recorded.load(data_root={"birds": "~/b"})
    assert suite.root("birds") == Path.home() / "b" and suite.root("cars") == Path("/entry")
    both = recorded.load(data_root={"birds": "/b", "cars": "/c d"})
    assert both.root("cars") == Path("/c d")
    script = [line for line in both.commands().splitlines() if line.startswith("cmkd prepare")]
    roots = [shlex.split(line)[shlex.split(line).index("--data-root") + 1] for line in script]
    assert roots == ["/b", "/c d"]


def test_a_path_given_by_hand_wins_over_a_mapping(recorded: Any) -> None:
    recorded.suite["data_root"] = {"birds": "/b", "cars": "/c"}
    suite = suites.load(recorded.write(), {"data_root": Path("/all")})
    assert suite.root("birds") == suite.root("cars") == Path("/all")


def test_the_resolved_suite_keeps_a_mapping(recorded: Any, tmp_path: Path) -> None:
    suite = recorded.load(data_root={"birds": "/b", "cars": "/c"})
    (tmp_path / "again.yaml").write_text(suite.text())
    assert suites.load(tmp_path / "again.yaml").root("cars") == Path("/c")


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({"birds": "/b"}, "data_root: there is no path for the dataset 'cars'; add 'cars: PATH'"),
        ({"birds": "/b", "car": "/c"}, "data_root: 'car' is not in datasets.yaml, did you mean"),
        ({"birds": 1, "cars": "/c"}, "data_root.birds is 1, but must be a path"),
        (["/b"], 'data_root is ["/b"], but must be a path, or a mapping of datasets to paths'),
    ],
)
def test_what_is_wrong_with_it_is_said(recorded: Any, root: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        recorded.load(data_root=root)
    assert message in str(error.value).replace(f"{recorded.folder}/", "")


def test_a_dataset_that_only_initial_weights_come_from_needs_one_too(recorded: Any) -> None:
    recorded.suite |= {"datasets": ["birds"], "models": ["a"], "pairs": ["a+warm"]}
    with pytest.raises(ConfigError, match="no path for the dataset 'cars'"):
        recorded.load(data_root={"birds": "/b"})


def test_sounds_made_in_code_need_none(recorded: Any) -> None:
    recorded.datasets["cars"]["reader"] = "toy"
    assert recorded.load(data_root={"birds": "/b"}).root("cars") is None
