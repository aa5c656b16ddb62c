"""Which words open heredocs."""

from __future__ import annotations

import pytest

from builder.dockerfile.heredocs import find_markers, is_marker
from builder.dockerfile.words import WordError


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN cat <<EOF > /out", ["EOF"]),
        ("RUN <<EOF;", ["EOF;"]),
        ("RUN cat 3<<A <<-B << C", ["A", "B", "C"]),
        ("RUN cat <<'E F' <<\"G\"H <<\\I", ["E F", "GH", "I"]),
        ("RUN echo $(( 1 << 3 ))", ["3"]),
        ("RUN cat <<$X", ["$X"]),
        ("RUN cat <<${X:-e}", ["${X:-e}"]),
    ],
)
def test_a_whole_word_with_arrows_opens_one(line: str, names: list[str]) -> None:
    assert [marker.name for marker in find_markers(line)] == names


@pytest.mark.parametrize(
    "line",
    [
        "RUN cat <<<EOF",
        "RUN echo $((1<<3))",
        "RUN echo '<<EOF'",
        "RUN echo \\<\\<EOF",
        "RUN echo a<<EOF",
        "RUN cat <<''",
        "RUN cat <<",
        "RUN it's <<EOF",
    ],
)
def test_other_arrows_are_text(line: str) -> None:
    assert find_markers(line) == []


def test_a_marker_knows_how_it_was_written() -> None:
    (marker,) = find_markers("RUN cat 4<<-'EOF'")

    assert marker == ("4<<-'EOF'", "EOF", "4", True, True)


def test_an_escape_is_no_quote() -> None:
    (marker,) = find_markers("COPY <<\\EOF /x")

    assert (marker.name, marker.quoted) == ("EOF", False)


def test_a_name_that_cannot_be_read_is_refused_in_a_line_and_no_marker_alone() -> None:
    with pytest.raises(WordError):
        find_markers("RUN cat <<${X:-a b}")
    assert not is_marker("<<'EOF")
    assert is_marker("<<'EOF'")
