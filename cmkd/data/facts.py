"""What decoding told of many clips in 80 bytes each, where an object a clip would take 700."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cmkd.data.manifest import Decoded

TABLE = np.dtype(
    [
        ("samples", np.int64),
        ("seconds", np.float64),
        ("sample_rate", np.int32),
        ("channels", np.int32),
        ("sha256", "S32"),
        ("scale", np.float64),
        ("clipped", np.int64),
    ]
)


class Facts(Mapping[str, Decoded]):
    """The facts of clips by their ids; notes and problems, which few clips have, lie apart."""

    def __init__(self, clips: Sequence[str]) -> None:
        """Take the ids, sorted; nothing is known of any clip yet."""
        self._clips = clips
        self._table = np.zeros(len(clips), dtype=TABLE)
        self._words: dict[str, tuple[tuple[str, ...], str]] = {}

    def add(self, facts: Decoded) -> None:
        """Keep the facts of one of the clips; KeyError for another."""
        self._table[self._place(facts.clip)] = (
            facts.samples,
            facts.seconds,
            facts.sample_rate,
            facts.channels,
            bytes.fromhex(facts.sha256),
            facts.scale,
            facts.clipped,
        )
        if facts.notes or facts.problem:
            self._words[facts.clip] = (facts.notes, facts.problem)

    def __getitem__(self, clip: str) -> Decoded:
        """Return a clip's facts as they were given."""
        samples, seconds, rate, channels, digest, scale, clipped = self._table[
            self._place(clip)
        ].item()
        # NumPy drops zero bytes at the end of a text.
        sha256 = digest.ljust(32, b"\0").hex() if digest else ""
        notes, problem = self._words.get(clip, ((), ""))
        return Decoded(
            clip, samples, seconds, rate, channels, sha256, scale, clipped, notes, problem
        )

    def __iter__(self) -> Iterator[str]:
        """Yield the ids in order."""
        return iter(self._clips)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._clips)

    def _place(self, clip: str) -> int:
        """Return a clip's row."""
        place = bisect_left(self._clips, clip)
        if place == len(self._clips) or self._clips[place] != clip:
            raise KeyError(clip)
        return place
