import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmkd.errors import ConfigError
from cmkd.plan import names
from cmkd.plan.names import Run, parse

atoms = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=4)
words = st.lists(atoms, min_size=1, max_size=3).map("_".join)
links = st.tuples(words, st.sets(words, max_size=3))


@st.composite
def runs(draw: st.DrawFn) -> Run:
    run = None
    for model, variants in draw(st.lists(links, min_size=1, max_size=4)):
        run = Run(model, tuple(sorted(variants)), run)
    assert run is not None
    return run


def by_hand(text: str) -> bool:
    """The grammar, written without regular expressions."""
    letters = set(string.ascii_lowercase + string.digits)

    def word(piece: str) -> bool:
        return all(atom and set(atom) <= letters for atom in piece.split("_"))

    for link in text.split("@"):
        _, *variants = pieces = link.split("+")
        if not all(map(word, pieces)) or variants != sorted(set(variants)):
            return False
    return len(text) <= 200


@given(runs().filter(lambda run: len(str(run)) <= 200))
def test_format_then_parse_is_identity(run: Run) -> None:
    assert parse(str(run)) == run


@given(st.text("ab1_+@", max_size=12))
def test_only_the_grammar_is_accepted(text: str) -> None:
    if by_hand(text):
        assert str(parse(text)) == text
        assert re.fullmatch(names.RUN, text)
    else:
        with pytest.raises(ConfigError):
            parse(text)


@given(st.text(max_size=12))
def test_any_text_is_the_name_it_parses_to_or_an_error(text: str) -> None:
    try:
        assert str(parse(text)) == text
    except ConfigError:
        assert not by_hand(text)


def test_a_chain_by_hand() -> None:
    run = parse("ast_tiny+tau2@effnet_b0@ast_tiny")
    assert (run.model, run.variants, run.link, run.depth) == (
        *("ast_tiny", ("tau2",), "ast_tiny+tau2", 2),
    )
    assert str(run.teacher) == "effnet_b0@ast_tiny"
    assert [link.model for link in run.chain()] == ["ast_tiny", "effnet_b0", "ast_tiny"]
    assert parse("a").teacher is None
    assert parse("a").depth == 0


def test_variants_are_added_in_order_and_once() -> None:
    run = parse("a+m@b")
    assert str(run.with_variant("c")) == "a+c+m@b"
    assert run.with_variant("m") == run
    assert str(run.taught_by(parse("d"))) == "a+m@d"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is missing"),
        ("a@", "is missing"),
        ("@a", "is missing"),
        ("a++b", "is missing"),
        ("a@@b", "is missing"),
        ("Ast", "'Ast' must be words"),
        ("a b", "'a b' must be words"),
        ("a__b", "'a__b' must be words"),
        ("a/b", "'a/b' must be words"),
        ("a\n", "must be words"),
        ("-a", "'-a' must be words"),
        ("é", "'é' must be words"),
        ("x@m+b+a", "write 'm+a+b' instead of 'm+b+a'"),
        ("m+a+a", "write 'm+a' instead of 'm+a+a'"),
        ("a" * 201, "has 201 characters; at most 200"),
    ],
)
def test_wrong_names_say_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        parse(text)


def test_a_number_is_no_name() -> None:
    with pytest.raises(ConfigError, match="'3.5' must be words"):
        parse(3.5)  # type: ignore[arg-type]


def test_patterns_have_no_groups() -> None:
    for pattern in (names.WORD, names.LINK, names.RUN):
        assert re.compile(pattern).groups == 0
    assert not re.fullmatch(names.LINK, "a@b")
