"""Physical lines to logical ones: directives, comments, continuations, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.heredocs import find_markers
from builder.dockerfile.lines import LogicalLine, Reader
from builder.errors import DockerfileError
from builder.text import SourceText


def read(text: str) -> list[LogicalLine]:
    reader = Reader(SourceText("Dockerfile", text))
    lines = []
    while (line := reader.next_line()) is not None:
        lines.append(line)
    return lines


def texts(text: str) -> list[str]:
    return [line.text for line in read(text)]


def directives(text: str) -> dict[str, str]:
    return {directive.name: directive.value for directive in Reader(SourceText("d", text)).directives}


def test_lines_join_with_their_indent_and_nothing_between() -> None:
    assert texts("  RUN a \\\n    b\\ \t\n\tc\nRU\\\nN d") == ["RUN a     b\tc", "RUN d"]


def test_comments_and_empty_lines_vanish_inside_a_continuation() -> None:
    (line,) = read('RUN "a \\\n# no \\\n\n   # no\n  b" \\\n\n')

    assert line.text == 'RUN "a   b" '
    assert (line.first, line.last) == (1, 6)
    assert line.gaps == (3, 6)


@pytest.mark.parametrize("end", ["\\\\", "\\\\\\", "`", "\\ x"])
def test_an_escaped_escape_does_not_continue(end: str) -> None:
    assert texts(f"RUN a{end}\nRUN b\n") == [f"RUN a{end}", "RUN b"]


def test_the_escape_directive_changes_what_continues() -> None:
    assert texts("# escape=`\nRUN a\\\nRUN b`\nc\n") == ["RUN a\\", "RUN bc"]


def test_a_continuation_at_the_end_of_the_text_is_fine() -> None:
    assert texts("RUN a \\") == ["RUN a "]
    assert texts("RUN a \\\n") == ["RUN a "]


def test_carriage_returns_go_with_the_newline() -> None:
    assert texts("RUN a \\\r\n  b\r\nRUN c\r\r\n") == ["RUN a   b", "RUN c"]


def test_comments_belong_to_the_instruction_below_them() -> None:
    first, second = read("# one\n\n  # two\nRUN a\n# gone\n#\n# three\nRUN b\n")

    assert first.comments == ("one", "# two")
    assert second.comments == ("three",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# escape=`\n# syntax = docker/dockerfile:1 x\n", {"escape": "`", "syntax": "docker/dockerfile:1"}),
        ("\ufeff#EsCaPe = ` \r\n", {"escape": "`"}),
        ("# check=skip=A;error=true more\n", {"check": "skip=A;error=true"}),
        ("\n# escape=`\n", {}),
        ("# words\n# escape=`\n", {}),
        ("# flavour=x\n# escape=`\n", {}),
        ("RUN a\n# escape=`\n", {}),
        ("#!/bin/x\n# escape=`\n# check=skip=all\n", {"check": "skip=all"}),
        ("  # escape=`\n# check=skip=all\n", {"escape": "`"}),
        ("", {}),
    ],
)
def test_directives_stand_at_the_very_top(text: str, expected: dict[str, str]) -> None:
    assert directives(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# escape=x\n", 1),
        ("\t# check=skip=all\n# check=skip=all\n", 2),
        ("# escape=`\n # check=skip=all\n # CHECK=skip=all\n", 3),
        ("# check=a\n# CHECK=b\n", 2),
        ("# syntax=a\n# escape=``\n", 2),
        ("#!x\n# syntax=example.com/a\n", 2),
    ],
)
def test_bad_directives_are_refused_where_they_stand(text: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        Reader(SourceText("d", text))

    assert caught.value.location is not None
    assert caught.value.location.span.line == line


@pytest.mark.parametrize(
    "name",
    [
        "docker/dockerfile",
        "docker/dockerfile:1.7-labs",
        "mirror.example.com/x/docker/dockerfile-upstream@sha256:1",
    ],
)
def test_docker_s_own_frontend_is_this_language(name: str) -> None:
    assert directives(f"# syntax={name}\n") == {"syntax": name}


def test_a_line_of_64_kib_is_refused_and_a_joined_one_is_not() -> None:
    assert len(texts("RUN " + "x" * 65_531 + "\n")[0]) == 65_535
    assert len(texts("RUN " + ("x" * 60_000 + "\\\n") * 3)[0]) == 180_004
    with pytest.raises(DockerfileError, match="64 KiB"):
        read("FROM a\nRUN " + "é" * 32_766 + "\n")


def test_spans_lead_back_to_the_text() -> None:
    text = "  RUN one \\\n# comment\n\n   two three\n"
    (line,) = read(text)

    def back(word: str) -> str:
        span = line.span(line.text.index(word), line.text.index(word) + len(word))
        return text.split("\n")[span.line - 1][span.column : span.end_column]

    assert [back(word) for word in ("RUN", "one", "two", "three")] == ["RUN", "one", "two", "three"]


def heredoc(text: str) -> list[tuple[str, str]]:
    reader = Reader(SourceText("Dockerfile", text))
    line = reader.next_line()
    assert line is not None
    return [(found.name, found.text) for found in reader.read_heredocs(line, find_markers(line.text))]


def test_bodies_are_raw_up_to_their_end() -> None:
    text = "RUN <<A cat <<-'B c'\n# x \\\n\n A\nA\r\n\tone\r\n\t\ttwo\n\tB c\nRUN next\n"
    assert heredoc(text) == [("A", "# x \\\n\n A\n"), ("B c", "one\r\ntwo\n")]


def test_a_body_can_be_empty_and_end_the_text() -> None:
    assert heredoc("RUN <<A\nA") == [("A", "")]


def test_a_body_without_its_end_is_refused_at_its_line() -> None:
    with pytest.raises(DockerfileError) as caught:
        heredoc("\nRUN \\\n <<A\nx\nA b\n")

    assert caught.value.location is not None
    assert caught.value.location.span.line == 2
    assert "<<A" in caught.value.message


@given(st.text(st.sampled_from("ab \t#\\`\n\r<'\"")))
def test_every_character_of_a_line_leads_back_to_itself(text: str) -> None:
    physical = text.split("\n")
    for line in read(text):
        for at, char in enumerate(line.text):
            span = line.span(at, at + 1)
            assert physical[span.line - 1][span.column] == char
