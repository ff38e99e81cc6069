"""The doctor on this machine, and on machines that lack something."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cmkd.cli import main
from cmkd.operations import doctor, findings
from cmkd.operations.findings import ok, warning, wrong
from cmkd.operations.slurm import reader

ROOT = Path(__file__).parents[2]


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    """A suite whose folders are in a temporary one."""
    execution = {"threads": 1, "workers": 1}
    return SimpleNamespace(
        results=tmp_path / "results", prepared=tmp_path / "prepared", execution=execution
    )


def wrongs(found: Any) -> list[str]:
    """Return the sentences of what is not ok."""
    return [f"{one.level} {one.subject}: {one.text}" for one in found if one.level != "ok"]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions that are said to be installed instead of the real ones."""
    said: dict[str, str | None] = {}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: said.get(name, real(name)))
    return said


def test_this_installation_is_sound(suite: Any, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.installation(suite)
    out = capsys.readouterr().out
    assert ", 0 wrong" in out
    assert "load together" in out
    assert not suite.results.exists()


def test_wrong_things_are_an_exit_code(
    suite: Any, missing: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "torch", lambda: iter(()))
    missing["timm"] = None
    monkeypatch.chdir(ROOT)
    assert main(["doctor", "config/demo.yaml"]) == 2
    missing["timm"] = "1.0.31"
    assert main(["doctor", "config/demo.yaml"]) == 0


def test_versions_are_judged_by_what_the_package_declares(
    missing: dict[str, str | None],
) -> None:
    assert wrongs(doctor.packages()) == []
    missing["scipy"] = "1.13.0"
    (found,) = wrongs(doctor.packages())
    assert found == "warning packages: scipy 1.13.0 (tested: 1.17.1)"
    missing["torch"] = "2.9.1+cpu"
    (found,) = wrongs(doctor.packages())
    assert found.startswith("wrong packages: torch 2.9.1+cpu (needs ")


def test_a_local_build_counts_as_the_tested_version(missing: dict[str, str | None]) -> None:
    missing["torch"] = "2.11.0+cpu"
    assert wrongs(doctor.packages()) == []


@pytest.mark.parametrize(
    ("seen", "listed", "level"),
    [
        ({"gpus": 0, "cuda": None, "names": []}, [], "ok"),
        ({"gpus": 0, "cuda": None, "names": []}, ["GPU 0: A100"], "wrong"),
        ({"gpus": 0, "cuda": "13.0", "names": []}, ["GPU 0: A100"], "wrong"),
        ({"gpus": 1, "cuda": "13.0", "names": ["A100"]}, ["GPU 0: A100"], "ok"),
    ],
)
def test_gpus_that_torch_does_not_see(
    seen: Any, listed: list[str], level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [one.level for one in doctor._gpus(seen, listed)] == [level]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    hidden = [one.level for one in doctor._gpus(seen, listed)]
    assert hidden == ["ok"]


def test_a_torch_that_does_not_load_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TORCH", "raise ImportError('libcudart.so is missing')")
    (found,) = wrongs(doctor.torch())
    assert found.startswith("wrong torch") and "libcudart.so is missing" in found


def test_a_full_disk_and_a_closed_folder_are_said(
    suite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.disks, "room", lambda _: 10**9)

    def closed(_: Path) -> float:
        raise PermissionError("closed")

    monkeypatch.setattr(doctor.disks, "latency", closed)
    levels = [one.split(":")[0] for one in wrongs(doctor.folders(suite))]
    assert levels == ["warning results", "warning prepared", "wrong results"]
    assert wrongs(doctor.temporary()) == ["wrong temporary files: closed"]


def test_more_workers_than_processors_are_said(suite: Any) -> None:
    assert wrongs(doctor.processors(suite)) == []
    suite.execution["workers"] = 10**4
    assert "warning processors" in wrongs(doctor.processors(suite))[0]


def test_without_slurm_it_says_where_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (found,) = wrongs(doctor.programs())
    assert found.startswith("wrong slurm: not on the PATH: sbatch, srun")


def test_a_controller_that_is_away_ends_the_check(
    suite: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    away = reader.Answer(1, "", "Unable to contact slurm controller")
    monkeypatch.setattr(reader, "ask", lambda *_, **__: away)
    monkeypatch.chdir(ROOT)
    assert main(["doctor", "--slurm"]) == 2
    out = capsys.readouterr().out
    assert "Unable to contact slurm controller" in out
    assert main(["doctor", "--slurm", "--write"]) == 2


@pytest.mark.parametrize("option", [["--write"], ["--no-job"], ["--profile", "x"]])
def test_options_of_a_cluster_need_it(option: list[str], capsys: Any) -> None:
    assert main(["doctor", str(ROOT / "config/demo.yaml"), *option]) == 2
    assert f"{option[0]} is about a cluster: add --slurm" in capsys.readouterr().err


def test_no_library_is_loaded() -> None:
    heavy = "('torch', 'pandas', 'snakemake', 'mlflow', 'numpy')"
    modules = "cmkd.operations.doctor, cmkd.cli"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_findings_are_lines_with_what_to_do() -> None:
    found = [ok("a", "fine"), warning("b", "slow"), wrong("c", "bad " * 40, "mend it")]
    text = findings.page(found)
    assert text.splitlines()[0] == "ok       a: fine"
    assert text.splitlines()[-1] == "         -> mend it"
    assert max(map(len, text.splitlines())) <= 96
    assert findings.summary(found) == "1 ok, 1 warning, 1 wrong"
