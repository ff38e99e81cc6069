"""Progress: a bar on a terminal, plain lines in a log."""

import io

from cmkd.progress import line, progress


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
