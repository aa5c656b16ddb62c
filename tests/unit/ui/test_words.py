import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ui import words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2\x1b\\x", "x"),
        ("\x9d0;t\x9cx", "x"),
        ("\x1b", ""),
        ("\x1b\x1b[31mx", "x"),
        ("\x1b[31", ""),
        ("a\x1bcb", "ab"),
        ("1%\r2%", "2%"),
        ("done\r\n", "done"),
        ("a\tb", "a       b"),
        ("a\u00a0b", "a b"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("a\nb", "a b"),
        ("\u202ea", "\\u202ea"),
        ("\udcff", "\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
@pytest.mark.hostile("terminal escapes")
def test_foreign_text_loses_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert words.clean(text) == shown


@given(
    st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]P\\;0m\x07\r\x9b\x9c")), max_size=60)
)
@pytest.mark.hostile("terminal escapes")
def test_whatever_comes_is_printable_afterwards(text: str) -> None:
    assert words.clean(text).isprintable()
    assert words.one_line(text).isprintable()


def test_a_label_of_several_lines_becomes_one() -> None:
    assert words.one_line("RUN <<EOF\n\techo a\nEOF\x1b[2J") == "RUN <<EOF echo a EOF"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9994, "9.99 kB"), (9996, "10.0 kB"),
        (12_345_678, "12.3 MB"), (99_960_000, "100 MB"), (999_600_000, "1.00 GB"), (5 * 10**15, "5000 TB"),
    ],
)  # fmt: skip
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1.0, "0.0s"), (0.04, "0.0s"), (59.94, "59.9s"), (59.96, "1m00s"), (125.2, "2m05s"), (3725.0, "1h02m")],
)
def test_durations_grow_their_units(value: float, text: str) -> None:
    assert words.seconds(value) == text
