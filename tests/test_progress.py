"""Progress: a bar on a terminal, plain lines in a log."""

import io

import pytest

import cmkd.progress as module
from cmkd.progress import bytes_line, line, progress, transfer


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_items_pass_through_and_a_log_gets_plain_lines() -> None:
    out = io.StringIO()
    assert list(progress(range(3), 3, "clips", out)) == [0, 1, 2]
    assert out.getvalue().startswith("clips: 3 of 3 in ")
    assert "\r" not in out.getvalue()


def test_a_terminal_gets_a_full_bar_at_the_end() -> None:
    out = Terminal()
    list(progress(range(3), 3, "clips", out))
    assert "\rclips" not in out.getvalue().split("\r")[0]
    assert "[##############################] 3/3" in out.getvalue()


def test_time_left_is_worked_by_hand() -> None:
    assert line("clips", 25, 100, 10.0).endswith("25/100 30 s left")
    assert line("clips", 0, 0, 0.0).endswith("0/0 0 s left")


def test_bytes_pass_through_with_what_was_there_before_in_a_bar() -> None:
    out = Terminal()
    assert list(transfer([b"ab", b"c"], 6, "f.zip", 3, out)) == [b"ab", b"c"]
    assert "f.zip [##############################] 0.0/0.0 MB" in out.getvalue()
    assert out.getvalue().endswith("left\n")


def test_bytes_in_a_log_are_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    out, clock = io.StringIO(), iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    list(transfer([bytes(500_000)] * 6, 4_000_000, "f.zip", 1_000_000, out))
    assert out.getvalue().splitlines() == [
        "f.zip [###############               ] 2.0/4.0 MB, 0.1 MB/s, 40 s left",
        "f.zip [######################        ] 3.0/4.0 MB, 0.1 MB/s, 20 s left",
        "f.zip [##############################] 4.0/4.0 MB, 0.1 MB/s, 0 s left",
    ]


def test_bytes_of_an_unknown_whole_have_no_bar() -> None:
    assert bytes_line("f.zip", 0, 3_000_000, None, 2.0) == "f.zip 3.0 MB, 1.5 MB/s"
