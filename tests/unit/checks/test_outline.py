"""What a target can be given."""

from __future__ import annotations

import pytest

from builder.checks.outline import Outline, describe, read_outline
from tests.support.checking import look_at

TEXT = """\
# GO is the version of Go
ARG GO=1.2
ARG BASE=scratch-$GO
ARG UNUSED=1
# build makes it
# build again
FROM ${BASE#*-1.2}scratch AS build
# MODE of the compiler
# QUICK or not
ARG MODE=slow QUICK
ARG GO
RUN --mount=type=secret,id=token,required --mount=type=ssh,id=key true
RUN --mount=type=secret,id=token --mount=type=secret,target=/run/secrets/other true
FROM scratch AS apart
ARG ALONE=1
FROM scratch
COPY --from=build /a /a
ARG LAST
"""


def outline(text: str, **options: object) -> Outline:
    subject, error = look_at(text, all_stages=False, **options)  # type: ignore[arg-type]
    assert error is None
    return read_outline(subject.reading.dockerfile(), subject.options, subject.visits)


def test_arguments_of_all_that_the_target_needs_in_the_order_of_the_file() -> None:
    found = outline(TEXT, build_args={"LAST": "given"})

    assert [(one.name, one.value, one.span.line) for one in found.arguments] == [
        ("GO", "1.2", 2),
        ("BASE", "scratch-1.2", 3),
        ("MODE", "slow", 10),
        ("QUICK", "", 10),
        ("LAST", "given", 18),
    ]


def test_descriptions_begin_with_the_name() -> None:
    found = outline(TEXT, target="build")

    assert {one.name: one.description for one in found.arguments if one.description} == {
        "GO": "is the version of Go",
        "MODE": "of the compiler",
        "QUICK": "or not",
    }
    assert (found.name, found.description) == ("build", "makes it")
    assert describe(["a b", "bc d"], "b") == ""


def test_secrets_and_agents_are_those_of_the_first_step_that_has_them() -> None:
    found = outline(TEXT)

    assert [(one.name, one.required, one.span.line) for one in found.secrets] == [
        ("token", True, 12),
        ("other", False, 13),
    ]
    assert [(one.name, one.required) for one in found.agents] == [("key", False)]


def test_what_the_target_does_not_need_is_left_out() -> None:
    assert [one.name for one in outline(TEXT, target="apart").arguments] == ["ALONE"]
    assert outline("FROM scratch\n") == Outline("", "", (), (), ())


def test_an_argument_that_takes_up_a_global_one_is_declared_up_there() -> None:
    text = "ARG A=1\nARG B=2\nFROM scratch\nARG A\nARG B=3\n"

    assert [(one.name, one.value, one.span.line) for one in outline(text).arguments] == [
        ("A", "1", 1),
        ("B", "3", 5),
    ]
    assert [
        (one.name, one.value, one.span.line) for one in outline(text, build_args={"A": "4"}).arguments
    ] == [
        ("A", "4", 4),
        ("B", "3", 5),
    ]


def test_what_only_the_builder_knows_is_no_value_of_an_argument() -> None:
    text = "ARG TARGETARCH\nFROM busybox\nARG TARGETARCH PATH\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n"

    assert [(one.name, one.value, one.span.line) for one in outline(text).arguments] == [
        ("TARGETARCH", "", 1),
        ("PATH", "", 3),
        ("BUILDKIT_SBOM_SCAN_STAGE", "true", 4),
    ]


def names_and_lines(text: str, **options: object) -> list[tuple[str, int]]:
    return [(one.name, one.span.line) for one in outline(text, **options).arguments]


def test_an_argument_of_the_stages_own_does_not_bring_what_the_global_one_is_made_from() -> None:
    assert names_and_lines("ARG A=1\nARG B=$A\nFROM scratch\nARG B=2\n") == [("B", 4)]
    assert names_and_lines("ARG A=1\nARG B=$A\nFROM scratch\nARG B\n") == [("A", 1), ("B", 2)]


@pytest.mark.parametrize(
    ("again", "behind"),
    [("ARG B=$C", ["C", "B"]), ("ARG B=x$B", ["A", "B"]), ("ARG B", ["B"]), ("ARG B=1", ["B"])],
)
def test_what_an_argument_is_made_from_is_what_its_last_default_uses(again: str, behind: list[str]) -> None:
    found = names_and_lines(f"ARG A=1\nARG C=1\nARG B=$A\n{again}\nFROM scratch\nARG B\n")

    assert [name for name, _ in found] == behind


def test_a_default_is_made_only_from_what_is_above_it() -> None:
    assert names_and_lines("ARG A=x$B\nARG B=1\nFROM scratch\nARG A\n") == [("A", 1)]


def test_what_the_base_takes_its_name_from_is_the_global_argument_for_who_stands_on_it() -> None:
    text = "ARG A=scratch\nFROM $A AS low\nARG A=own\nFROM low AS high\nARG LAST\n"

    assert names_and_lines(text, target="low") == [("A", 3)]
    assert names_and_lines(text) == [("A", 1), ("LAST", 5)]
