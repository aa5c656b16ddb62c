"""Which words open heredocs."""

from __future__ import annotations

import pytest

from builder.dockerfile import ast
from builder.dockerfile.heredocs import InlineFile, find_markers, is_marker, split_sources
from builder.dockerfile.parser import parse
from builder.dockerfile.words import WordError
from builder.text import SourceText


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
        ("RUN ${X:e} <<Y", ["Y"]),
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


@pytest.mark.parametrize(
    ("line", "paths", "files"),
    [
        ("COPY << A <<B /d/\n1\nA\n2\nB", ("<<", "A"), [("B", "2\n", True)]),
        ("COPY <<A <<-A /d/\n1\nA\n\t2\n\tA", (), [("A", "\t2\n", True), ("A", "2\n", True)]),
        ("ADD <<'A' p /d/\n1\nA", ("p",), [("A", "1\n", False)]),
        ('COPY ["<<A", "/d/"]', (), [("A", "", True)]),
        ('COPY "p <<A q" /d/', ('"p', 'q"'), [("A", "", True)]),
    ],
)
def test_each_source_finds_the_body_of_its_name(
    line: str, paths: tuple[str, ...], files: list[tuple[str, str, bool]]
) -> None:
    step = parse(SourceText("Dockerfile", f"FROM a\n{line}\n")).instructions[1]

    assert isinstance(step, ast.Copy | ast.Add)
    assert split_sources(step) == (paths, tuple(InlineFile(*file) for file in files))


def test_empty_quotes_behind_a_name_are_another_word() -> None:
    assert is_marker("<<E")
    assert is_marker("<<E''")
    assert not is_marker("<<E ''")
