"""Real Slurm clusters for the tests below, clones to run on them, and an end to everything."""

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CLUSTERS = ("cluster", "plain_cluster", "forgetful_cluster")
LIMIT = 300  # seconds a test may take, unless its mark says more: @pytest.mark.slurm(limit=600)


def _load(name: str) -> ModuleType:
    """Import a helper that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


machine = _load("machine")
clones = _load("clones")


def _started(accounting: bool, **options: Any) -> Iterator[Any]:
    """Yield a running cluster in a short folder of its own and take it down."""
    lacking = machine.lacks()
    if lacking:
        pytest.skip(lacking)
    # Not tmp_path: Unix sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="cmkd-", dir="/tmp"))
    folder.chmod(0o755)
    made = machine.Machine(folder, accounting, **options)
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A cluster with accounting. See machine.py for what it can be asked."""
    yield from _started(accounting=True)


@pytest.fixture(scope="session")
def plain_cluster() -> Iterator[Any]:
    """A cluster without accounting: sacct fails there."""
    yield from _started(accounting=False)


@pytest.fixture(scope="session")
def forgetful_cluster() -> Iterator[Any]:
    """A cluster without accounting whose squeue forgets a job two seconds after its end."""
    yield from _started(accounting=False, min_job_age=2)


@pytest.fixture(autouse=True)
def _ending(request: pytest.FixtureRequest) -> Iterator[None]:
    """Begin with a sound cluster, and fail a test that hangs, with the cluster's state."""
    names = [name for name in CLUSTERS if name in request.fixturenames]
    used = [request.getfixturevalue(name) for name in names]
    for made in used:
        made.restore()
    mark = request.node.get_closest_marker("slurm")
    limit = int((mark.kwargs if mark else {}).get("limit", LIMIT))

    def late(*_: Any) -> None:
        states = "\n".join(made.tell() for made in used)
        pytest.fail(f"not done after {limit} s\n{states}", pytrace=True)

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show the state of the clusters beside a failure."""
    report = yield
    if report.when == "call" and report.failed:
        for name in CLUSTERS:
            made = getattr(item, "funcargs", {}).get(name)
            if made:
                report.sections.append((f"state of {name}", made.tell()))
    return report


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that makes a clone to run on a cluster: clone(cluster, fake=True)."""
    made: list[Any] = []

    def make(on: Any, name: str = "a clone", fake: bool = False, **suite: Any) -> Any:
        made.append(clones.make(tmp_path / name, on, fake, **suite))
        return made[-1]

    yield make
    for one in made:
        one.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as one that needs a real Slurm."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and not item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.slurm)
