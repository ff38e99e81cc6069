"""Several processes train what one does: the same objective, gradients, weights and history."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from cmkd.learning import parallel, seeds
from cmkd.learning.parallel import World

RUNNER = Path(__file__).with_name("parallel_runner.py")
PLAIN = {"model.dropout": 0.0, "model.drop_path": 0.0}
SIZES = [1, 2, 4]


def run(cases: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Run cases in forked processes and return what each returned."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), json.dumps(cases), str(folder)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def small(wanted, multi, data: SimpleNamespace) -> Callable[..., dict[str, Any]]:
    """Return a function that makes a case of a training on the multi-label sounds."""

    def case(name: str, changes: dict[str, Any], **given: Any) -> dict[str, Any]:
        paths = {key: str(value) for key, value in given.items() if isinstance(value, Path)}
        return {
            "name": name,
            "sizes": SIZES,
            "fold": 0,
            "wanted": str(wanted(name, **{**multi, "training.epochs": 2, **changes})),
            "prepared": str(data.multi),
            "statistics": str(data.multi / "stats.json"),
            "teacher": None,
            **given,
            **paths,
        }

    return case


def ast(taught: Callable[[Path], dict[str, Any]], teacher: Path) -> dict[str, Any]:
    """Return the changes that make a recipe a taught AST's, without chance within the model."""
    return {**taught(teacher), **PLAIN}


@given(st.integers(0, 50), st.integers(0, 40), st.integers(1, 9))
def test_parts_follow_each_other_and_are_even(start: int, count: int, size: int) -> None:
    parts = [parallel.part(start, start + count, rank, size) for rank in range(size)]
    flat = [position for begin, end in parts for position in range(begin, end)]
    assert flat == list(range(start, start + count))
    lengths = [end - begin for begin, end in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


def test_one_process_gives_back_the_very_objects() -> None:
    world, logits, targets = World(), torch.ones(2, 3), torch.zeros(2, 3)
    answer, labels, soft = world.whole(logits, targets, None, 0, 2)
    assert answer is logits
    assert labels is targets
    assert soft is None
    assert world.part(3, 8) == (3, 8)
    assert world.leader


def test_the_first_process_has_the_masks_of_one_process_and_the_others_their_own() -> None:
    drawn = []
    for axes in ((), (0,), (1,), (2,)):
        seeds.seed_step(5, 1, "ast", 7, *axes)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1]
    assert drawn[1] != drawn[2] != drawn[3] != drawn[1]


def test_operations(tmp_path: Path) -> None:
    calls = ("gradients", "empty", "live", "values", "unequal")
    cases = [{"name": call, "call": call, "sizes": [2, 3, 4]} for call in calls]
    gone = {"name": "gone", "call": "gone", "sizes": [2, 3]}
    found = run([*cases, gone], tmp_path)
    for size in ("2", "3", "4"):
        assert all(apart < 1e-15 for apart in found["empty"][size])
        for rank in found["gradients"][size]:
            # 1e-16 a rounding in float64, some tens of them on the way.
            assert rank["largest"] > 0.01
            assert rank["apart"] < 1e-14
            assert rank["loss"] < 1e-14
            assert rank["unused"]
        assert all(max(apart) < 1e-14 for apart in found["live"][size])
        for rank in found["values"][size]:
            assert rank["shared"] == {"rank": 0, "text": "schön", "score": 0.1 + 0.2, "none": None}
            assert rank["tensors"]["whole"] == ["torch.int64", 7]
            assert rank["tensors"]["rows"] == ["torch.float32", [[0.0] * 3] * 2]
            assert rank["tensors"]["empty"] == ["torch.float32", []]
            assert (rank["one"], rank["none"]) == (True, False)
        for text in found["unequal"][size]:
            assert "no longer hold the same weights" in text
    assert found["gone"] == {"2": ["Parted", None], "3": ["Parted", "Parted", None]}


def test_trainings_are_those_of_one_process(
    small, trained, wanted, taught, multi, data, tmp_path: Path
) -> None:
    """In float64, so that the order of sums (1e-15) is told from anything else."""
    teacher = trained(wanted("teacher", **multi), "teacher", prepared=data.multi)
    student = ast(taught, teacher)
    alone = student | {"teacher": None, "objective": {"behaviour": 1, "name": "alone"}}
    coupled = student | {"objective.name": "dist", "objective.beta": 2.0, "objective.gamma": 2.0}
    pair = student | {"objective.name": "token_soft", "model.token": "two_heads"}
    best = {
        "training.readout": "best",
        "training.schedule": {"kind": "plateau", "patience": 0, "factor": 0.5},
    }
    averaged = {"training.readout": "averaged", "training.average": [1, 2]}
    one_epoch, three = {"training.epochs": 1}, {"training.batch": 3}
    other_views = {"objective.teaching": "independent"}
    mixup = {"input.mixup": 0.5, "input.mixup_alpha": 10.0}
    cases = [
        small("cnn_frozen", best, frozen=True),
        small("ast", alone | averaged),
        small("dist_mixup", coupled | mixup, teacher=teacher, sizes=[1, 4]),
        small("independent", student | one_epoch | other_views, teacher=teacher, sizes=[1, 2]),
        small("two_heads_tiny_batch", pair | one_epoch | three, teacher=teacher, sizes=[1, 4]),
    ]
    found = run(cases, tmp_path)
    for case in cases:
        name = case["name"]
        one = load_file(tmp_path / f"{name}-1.safetensors")
        start = found[name]["1"][0]
        for size in case["sizes"][1:]:
            ranks = found[name][str(size)]
            for rows in ranks:
                check_history(rows, start)
            several = load_file(tmp_path / f"{name}-{size}.safetensors")
            assert several.keys() == one.keys()
            for key, value in several.items():
                torch.testing.assert_close(
                    value, one[key], rtol=1e-8, atol=1e-10, msg=f"{name} {key}"
                )


def check_history(rows: list[dict], one: list[dict]) -> None:
    """Compare histories, but for what a clock says."""
    for row, other in zip(rows, one, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"time", "seconds", "clips_per_second"}:
            if other[key] is None:
                assert row[key] is None
            else:
                assert math.isclose(row[key], other[key], rel_tol=1e-9), (key, row[key], other[key])


needs_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@needs_gpus
def test_batch_norm_is_synchronised_on_gpus() -> None:
    from timm.layers import BatchNormAct2d

    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), BatchNormAct2d(2)).cuda()
    prepared = parallel.Processes(0, 2).prepare(model)
    assert isinstance(prepared[1], torch.nn.SyncBatchNorm)
    assert isinstance(prepared[1].act, torch.nn.ReLU)
