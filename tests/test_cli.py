"""The command: its help, its exit codes, its sentences."""

import subprocess
import sys
from pathlib import Path

import pytest

from cmkd import cli
from cmkd.errors import Stopped

ROOT = Path(__file__).resolve().parents[1]


def names() -> list[str]:
    return [name for name, *_ in cli.VERBS]


@pytest.mark.parametrize("verb", names())
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"example:\n  cmkd {verb}" in capsys.readouterr().out


def test_wrong_input_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["leaderboard", "no/such/suite.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cmkd: ") and "no/such/suite.yaml" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "wanted.yaml cannot be read"),
        (b"\xff", "wanted.yaml cannot be read"),
        (b"datasets: [toy]", "lacks the key 'name'"),
        (b"a: [", "this is not YAML"),
    ],
)
def test_a_wrong_recipe_of_a_dataset_is_one_sentence(
    text: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tmp_path / "wanted.yaml"
    if text is not None:
        wanted.write_bytes(text)
    assert cli.main(["prepare", str(wanted), "--prepared", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a: [", "just words"])
def test_a_wrong_execution_file_is_one_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execution = tmp_path / "execution.yaml"
    execution.write_text(text)
    given = ["--run", "run", "--prepared", "prepared", "--execution", str(execution)]
    assert cli.main(["evaluate", *given]) == 2
    assert "execution.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["0", "-1", "many"])
def test_sizes_are_whole_numbers_from_1(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["prepare", "wanted.yaml", "--prepared", "out", "--workers", wrong])
    assert stopped.value.code == 2
    assert f"'{wrong}' is not a whole number from 1" in capsys.readouterr().err


def test_stopped_in_time_exits_75(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(chosen: object) -> None:
        raise Stopped("stopped at epoch 3, step 12; run the same command again")

    monkeypatch.setattr(cli.viewing, "_leaderboard", stop)
    assert cli.main(["leaderboard"]) == 75


def test_plan_lists_every_run_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", str(ROOT / "config" / "demo.yaml"), "--jobs"]) == 0
    out = capsys.readouterr().out
    assert "toy\tsmall_cnn@small_ast\tfold-1\tseed-0\ttransformer_to_cnn" in out
    assert len(out.splitlines()) == 18


def test_plan_takes_several_suites_but_writes_one_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    studies = [str(ROOT / "config" / "studies" / f"{name}.yaml") for name in ("lambda", "tau")]
    assert cli.main(["plan", *studies]) == 0
    assert "12 of them are counted with lambda" in capsys.readouterr().out
    assert cli.main(["plan", *studies, "--commands"]) == 2
    assert "--commands prints the script of one suite; name one" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_plan_needs_no_torch() -> None:
    code = "import sys; from cmkd import cli; cli.main(['plan']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_the_script_of_a_plan_fetches_where_it_is_told_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = str(ROOT / "config" / "esc10.yaml")
    assert cli.main(["plan", suite, "--commands", "--download"]) == 0
    script = capsys.readouterr().out
    assert "--data-root results/downloads/esc50 --catalog" in script
    assert script.count("--download-only") == 1
    assert cli.main(["plan", suite, "--commands"]) == 0
    assert "--download-only" not in capsys.readouterr().out


def test_a_pipe_closed_early_is_no_error() -> None:
    command = f'"{sys.executable}" -m cmkd.cli plan config/config.yaml | head -n 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in done.stderr and done.stdout
