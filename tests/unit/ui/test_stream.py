import io

import pytest

from builder.ui.stream import Stream, allows_color, paint


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError(32, "Broken pipe")


def test_nothing_more_is_written_after_the_first_failure() -> None:
    target = Broken()
    stream = Stream(target)

    stream.write("a")
    stream.write("b")

    assert stream.gone
    assert target.tries == 1


def test_a_closed_stream_is_a_stream_that_is_gone() -> None:
    target = io.StringIO()
    target.close()
    stream = Stream(target)

    stream.write("a")

    assert stream.gone


def test_characters_that_the_encoding_lacks_are_spelled_out() -> None:
    raw = io.BytesIO()
    stream = Stream(io.TextIOWrapper(raw, encoding="ascii"))

    stream.write("✔ \udcff\n")

    assert raw.getvalue() == b"\\u2714 \\udcff\n"
    assert not stream.speaks("✔")


@pytest.mark.parametrize(
    ("environ", "terminal", "allowed"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colors_need_a_terminal_or_a_wish(environ: dict[str, str], terminal: bool, allowed: bool) -> None:
    assert allows_color(Terminal() if terminal else io.StringIO(), environ) is allowed


def test_paint_leaves_plain_what_has_no_style() -> None:
    assert paint("a", "bad", color=True) == "\x1b[31ma\x1b[0m"
    assert paint("a", "bad", color=False) == "a"
    assert paint("a", "", color=True) == "a"
