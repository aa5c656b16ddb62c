"""Reading on behind what is wrong, and the function for other programs."""

from __future__ import annotations

import doctest

import pytest

import builder.dockerfile
from builder.dockerfile import parse
from builder.dockerfile.parser import MAX_ERRORS, Reading, read
from builder.errors import DockerfileError
from builder.text import SourceText, Span


def reading(text: str) -> Reading:
    return read(SourceText("Dockerfile", text))


def errors_of(text: str) -> list[tuple[int, str]]:
    errors = reading(text).errors
    assert all(error.location for error in errors)
    return [(error.location.span.line, error.code) for error in errors if error.location]


def test_what_is_right_is_read_and_what_is_wrong_is_told() -> None:
    found = reading("FROM scratch\nOOPS\nRUN a\nCOPY a\nCMD b\n")

    assert [line.instruction and line.instruction.keyword for line in found.lines] == [
        "FROM",
        None,
        "RUN",
        None,
        "CMD",
    ]
    assert [line.line.first for line in found.lines] == [1, 2, 3, 4, 5]
    assert errors_of("FROM scratch\nOOPS\nRUN a\nCOPY a\nCMD b\n") == [
        (2, "unknown-instruction"),
        (4, "incomplete"),
    ]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("FROM a\nRUN --no=1 <<E\nOOPS\nE\nCMD a\n", [(2, "unknown-flag")]),
        ("FROM a\nCOPY <<E\nOOPS\nE\nCMD a\n", [(2, "incomplete")]),
        ("FROM a\nCOPY <<E\nOOPS\n", [(2, "incomplete"), (2, "unterminated-heredoc")]),
        ("FROM a\nOOPS <<E\nE\n", [(2, "unknown-instruction"), (3, "unknown-instruction")]),
        ("OOPS\nRUN a\nFROM a\n", [(1, "unknown-instruction"), (2, "no-stage")]),
        ("FROM\nRUN a\n", [(1, "incomplete")]),
        ("ARG A\n", [(1, "no-stage")]),
        ("", [(1, "no-stage")]),
        ("# escape=x\nFROM a\n", [(1, "bad-escape-directive")]),
        ("FROM a\nOOPS\nRUN " + "x" * 70_000 + "\nNO\n", [(2, "unknown-instruction"), (3, "line-too-long")]),
    ],
)
def test_one_error_does_not_make_others(text: str, errors: list[tuple[int, str]]) -> None:
    assert errors_of(text) == errors


def test_there_is_an_end_to_errors() -> None:
    assert len(errors_of("FROM a\n" + "OOPS\n" * 1000)) == MAX_ERRORS


def test_the_first_error_tells_of_the_others() -> None:
    with pytest.raises(DockerfileError, match="'OOPS' is no instruction") as caught:
        parse("FROM a\nOOPS\nCOPY a\n", "my.Dockerfile")

    assert str(caught.value.location) == "my.Dockerfile:2"
    assert caught.value.notes == ("my.Dockerfile:3: COPY is not complete",)


def test_the_function_for_other_programs_does_as_it_says() -> None:
    assert doctest.testmod(builder.dockerfile).failed == 0
    assert doctest.testmod(builder.dockerfile).attempted > 2


def test_a_comment_is_kept_wherever_it_stands() -> None:
    text = "# above\n#\nFROM a\nRUN b \\\n  # inside\n\n c <<E\n# body\nE\n# end"

    dockerfile = parse(text)

    assert [(comment.text, comment.span.line, comment.inside) for comment in dockerfile.comments] == [
        ("# above", 1, None),
        ("#", 2, None),
        ("# inside", 5, len("RUN b ")),
        ("# end", 10, None),
    ]
    assert dockerfile.comments[2].span == Span(5, 2, 5, 10)
    assert [step.comments for step in dockerfile.instructions] == [(), ()]


def test_comments_beside_what_is_wrong_are_kept() -> None:
    found = builder.dockerfile.read("FROM a\nOOPS \\\n# one\n x\n# two\n")

    assert [error.code for error in found.errors] == ["unknown-instruction"]
    assert [comment.text for comment in found.comments] == ["# one", "# two"]


def test_a_directive_that_counts_for_nothing_is_a_comment_but_no_description() -> None:
    dockerfile = parse("  # check=skip=all\n# base is first\nFROM a AS base\n")

    assert not dockerfile.directives
    assert [comment.text for comment in dockerfile.comments] == ["# check=skip=all", "# base is first"]
    assert dockerfile.instructions[0].comments == ("base is first",)
