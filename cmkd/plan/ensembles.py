"""Ensembles: rows of the leaderboard that are the mean of the probabilities of several runs.

A suite's key `ensembles` is a mapping of names to lists of runs, or to `{runs: [RUN], over: seeds}`
for the mean over the seeds as well. An ensemble is computed from its members' scores files whenever
tables are made; it is no run: nothing is trained or kept for it and it teaches nobody.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

PREFIX = "ens:"  # no run's name has a colon


class Ensemble(NamedTuple):
    """Some runs of each dataset of a suite; `over_seeds`: every seed of each is a member."""

    name: str
    runs: tuple[str, ...]
    over_seeds: bool = False

    @property
    def row(self) -> str:
        """Return what its row is called."""
        return f"{PREFIX}{self.name}"

    def line(self) -> str:
        """Return all of it as one text."""
        return f"{self.row} {' '.join(self.runs)}{' over seeds' if self.over_seeds else ''}"


def read(config: Mapping[str, Any]) -> tuple[Ensemble, ...]:
    """Return a checked suite's ensembles, by name: a suite that is handed on has sorted keys."""
    return tuple(
        Ensemble(name, tuple(of["runs"]), True)
        if isinstance(of, Mapping)
        else Ensemble(name, tuple(of))
        for name, of in sorted((config.get("ensembles") or {}).items())
        if not isinstance(of, str)  # which the form has refused
    )


def too_few(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield ensembles of a single member."""
    seeds = len(config.get("seeds") or (0,))
    for one in read(config):
        if one.over_seeds and len(one.runs) * seeds < 2:
            yield (
                f"ensembles: '{one.name}' is over the seeds, but the suite has one seed; add seeds "
                "or name several runs"
            )
