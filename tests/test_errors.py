"""The exception tree and the nearest right word."""

import pytest

from cmkd import errors


def test_nearest_word_or_the_list() -> None:
    assert errors.nearest("efnet_b0", ["effnet_b0", "ast_tiny"]) == ", did you mean 'effnet_b0'?"
    assert errors.nearest("zzz", ["b", "a"]) == "; known: a, b"
    assert errors.nearest("zzz", []) == "; known: none"


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.DataError, errors.RunError])
def test_wrong_input_is_exit_code_2(kind: type[errors.CmkdError]) -> None:
    assert issubclass(kind, errors.InputError)
    assert kind.exit_code == 2


def test_stopped_in_time_is_exit_code_75() -> None:
    assert errors.Stopped.exit_code == 75
