"""Seeds: each axis counts, and nothing else does."""

import hashlib

import torch

from cmkd.learning import seeds


def test_a_seed_is_63_bits_of_the_sha256_of_its_axes() -> None:
    expected = int(hashlib.sha256(b"0/1/a@b/initial").hexdigest()[:16], 16) >> 1
    assert seeds.seed(0, 1, "a@b", "initial") == expected


def test_every_axis_counts() -> None:
    axes = [(0, 1, "a", 2), (1, 1, "a", 2), (0, 2, "a", 2), (0, 1, "b", 2), (0, 1, "a", 3)]
    assert len({seeds.seed(*one) for one in axes}) == len(axes)


def test_torch_gives_the_same_after_the_same_seed() -> None:
    drawn = []
    for step in (4, 5, 4):
        seeds.seed_step(0, 1, "a", step)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    seeds.seed_initial(0, 1, "a")
    assert not torch.equal(torch.rand(3), drawn[0])
