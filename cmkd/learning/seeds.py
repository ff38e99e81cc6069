"""Seeds from named axes: what is random in a model depends on nothing but its own name."""

import hashlib

import torch


def seed(*axes: object) -> int:
    """Return a seed of 63 bits from the axes' text, for instance seed, fold, run name and step."""
    text = "/".join(str(axis) for axis in axes)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_initial(number: int, fold: int, run: str) -> None:
    """Seed torch for the initial weights of a run."""
    torch.manual_seed(seed(number, fold, run, "initial"))


def seed_step(number: int, fold: int, run: str, step: int, rank: int = 0) -> None:
    """Seed torch for the dropout and drop-path of one step of a run, in one of its processes.

    The first process has the stream of a training in one, so that each has masks of its own.
    """
    others = (rank,) if rank else ()
    torch.manual_seed(seed(number, fold, run, "step", step, *others))
