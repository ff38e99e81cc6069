"""Names of runs: the name is the graph of who taught whom.

RUN := LINK ("@" RUN)?    LINK := MODEL ("+" VARIANT)*    words [a-z0-9]+(_[a-z0-9]+)*

`ast_tiny+tau2@effnet_b0` is AST-Tiny, variant `tau2`, taught by the run `effnet_b0`. A name is safe
in a shell, a path, a Markdown table and an MLflow run name (not in an MLflow key).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cmkd.errors import ConfigError

WORD = r"[a-z0-9]+(?:_[a-z0-9]+)*"
LINK = rf"{WORD}(?:\+{WORD})*"
RUN = rf"{LINK}(?:@{LINK})*"
LONGEST = 200  # characters: file systems allow 255 bytes, temporary names and logs add some

_WORD = re.compile(WORD)
_RUN = re.compile(RUN)


@dataclass(frozen=True, slots=True)
class Run:
    """One model trained once on one fold with one seed; `teacher` is the run that taught it."""

    model: str
    variants: tuple[str, ...] = ()
    teacher: "Run | None" = None

    @property
    def link(self) -> str:
        """The first link's text: the model and its variants, without the teacher."""
        return "+".join((self.model, *self.variants))

    @property
    def depth(self) -> int:
        """The number of teachers above this run."""
        return sum(1 for _ in self.chain()) - 1

    def chain(self) -> Iterator["Run"]:
        """Yield this run, its teacher, its teacher's teacher and so on."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.teacher

    def with_variant(self, variant: str) -> "Run":
        """Return the same run with one more variant of the student."""
        return Run(self.model, tuple(sorted({*self.variants, variant})), self.teacher)

    def taught_by(self, teacher: "Run") -> "Run":
        """Return the run of this model and these variants taught by `teacher`."""
        return Run(self.model, self.variants, teacher)

    def __str__(self) -> str:
        """Return the name, which `parse` reads back."""
        return "@".join(run.link for run in self.chain())


def parse(text: str) -> Run:
    """Read the name of a run; only the canonical text of a run is accepted.

    Raises:
        ConfigError: anything else, with the place that is wrong.
    """
    if not isinstance(text, str) or not _RUN.fullmatch(text):
        raise ConfigError(f"'{text}' is not the name of a run: {_grammar_complaint(str(text))}")
    if len(text) > LONGEST:
        raise ConfigError(
            f"The name '{text[:40]}...' has {len(text)} characters; at most {LONGEST} are allowed: "
            "shorten the names of its models or variants"
        )
    *links, first_teacher = text.split("@")
    run = _link(first_teacher, text, None)
    for link in reversed(links):
        run = _link(link, text, run)
    return run


def is_word(text: object) -> bool:
    """Tell whether a text may name a model, a variant or a dataset."""
    return isinstance(text, str) and _WORD.fullmatch(text) is not None


def _link(link: str, text: str, teacher: Run | None) -> Run:
    """Read one link of the name `text`; its variants must be sorted, each once."""
    model, *variants = link.split("+")
    canonical = sorted(set(variants))
    if variants != canonical:
        right = "+".join((model, *canonical))
        raise ConfigError(
            f"'{text}' is not the name of a run: variants are sorted, each once; "
            f"write '{right}' instead of '{link}'"
        )
    return Run(model, tuple(variants), teacher)


def _grammar_complaint(text: str) -> str:
    """Say which piece of a name breaks the grammar."""
    for piece in re.split(r"[@+]", text):
        if not piece:
            return "a model or variant is missing beside '@' or '+'; write MODEL+VARIANT@TEACHER"
        if not _WORD.fullmatch(piece):
            return f"'{piece}' must be words of a-z and 0-9 joined by single '_'"
    return "write MODEL+VARIANT@TEACHER"
