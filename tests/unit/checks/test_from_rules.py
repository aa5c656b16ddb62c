"""Rules about FROM lines."""

from __future__ import annotations

import pytest

from builder.compiler.program import NamedContext
from builder.oci.spec import Platform
from tests.support.checking import findings, found, lines_of
from tests.support.compiling import image

ARM = {"docker.io/library/busybox:latest": image("busybox", architecture="arm64")}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("FROM ${A:-scratch}\n", [1]),
        ("ARG A\nFROM ${A:-scratch}\n", []),
        ("ARG A=scratch\nFROM $A\n", []),
        ("FROM scratch${A}${B}\n", [1, 1]),
        ("FROM --platform=${P:-linux/amd64} scratch\n", [1]),
        ("FROM --platform=$BUILDPLATFORM scratch\n", []),
        ("FROM scratch AS a\nARG N=a\nFROM ${N:-a}\n", [3]),
        ("FROM \\${A}\n", []),
    ],
)
def test_variables_that_no_arg_declares(text: str, lines: list[int]) -> None:
    assert lines_of("UndefinedArgInFrom", text) == lines


def test_a_name_that_was_meant_is_told() -> None:
    message = findings("ARG VERSION=1\nFROM scratch AS a\nFROM ${VERSON:-a}\n")[0].message

    assert "VERSON" in message
    assert "did you mean VERSION?" in message


@pytest.mark.parametrize(
    ("flag", "is_found"),
    [
        ("$TARGETPLATFORM", True),
        ("${TARGETPLATFORM}", True),
        ("${TARGETPLATFORM:-linux/amd64}", True),
        ("$BUILDPLATFORM", False),
        ("$TARGETOS/$TARGETARCH", False),
        ("linux/${TARGETARCH}", False),
    ],
)
def test_asking_for_the_targets_platform(flag: str, is_found: bool) -> None:
    assert bool(lines_of("RedundantTargetPlatform", f"FROM --platform={flag} scratch\n")) is is_found


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("FROM --platform=linux/arm64 scratch", True),
        ("FROM --platform=arm64 scratch AS build", True),
        ("FROM --platform=linux/arm64 scratch AS arm64-build", False),
        ("FROM --platform=linux/arm64 scratch AS for-linux", False),
        ("FROM --platform=$BUILDPLATFORM scratch", False),
    ],
)
def test_a_constant_platform(line: str, is_found: bool) -> None:
    assert bool(lines_of("FromPlatformFlagConstDisallowed", line + "\n")) is is_found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("ARG BASE\nFROM $BASE\n", [2]),
        ("ARG TAG\nFROM busybox:$TAG\n", [2]),
        ("ARG TAG=latest\nFROM busybox:$TAG\n", []),
        ("ARG A=busy\nARG B=${A}box\nFROM $B\n", []),
        ("ARG BASE\nFROM ${BASE:-busybox}\n", []),
    ],
)
def test_a_base_that_is_none_without_build_arguments(text: str, lines: list[int]) -> None:
    args = {"BASE": "busybox", "TAG": "latest", "B": "busybox"}

    assert lines_of("InvalidDefaultArgInFrom", text, build_args=args) == lines


def test_a_base_for_another_platform() -> None:
    assert found('FROM busybox\nCMD ["a"]\n', bases=ARM) == ["1 InvalidBaseImagePlatform"]
    assert found("FROM busybox\n", bases=ARM, platform=Platform("arm64", "linux")) == []


def test_an_image_for_another_platform_is_told_of_at_each_instruction_that_takes_from_it() -> None:
    text = (
        "FROM scratch\nCOPY --from=busybox /a /a\nCOPY --from=busybox /b /b\nCOPY --from=debian:12 /c /c\n"
        "FROM debian:12\nRUN --mount=from=busybox,target=/m true\n"
    )

    assert found(text, bases=ARM) == [f"{line} InvalidBaseImagePlatform" for line in (2, 3, 6)]
    named = {"base": NamedContext("image", "busybox")}
    assert found(text.replace("from=busybox", "from=base"), bases=ARM, contexts=named) == []


def test_a_base_for_another_platform_of_a_stage_that_nothing_needs_is_fine() -> None:
    text = "FROM busybox AS a\nFROM busybox AS b\nFROM scratch AS c\nCOPY --from=b / /\n"

    assert found(text, bases=ARM, target="c") == ["2 InvalidBaseImagePlatform"]
    assert found(text, bases=ARM, target="a") == ["1 InvalidBaseImagePlatform"]
    assert found(text, bases=ARM) == ["1 InvalidBaseImagePlatform", "2 InvalidBaseImagePlatform"]


def test_a_base_that_the_machine_can_run_is_fine_unless_a_platform_was_asked_for() -> None:
    bases = {"docker.io/library/busybox:latest": image("busybox", architecture="386")}

    assert found("FROM busybox\n", bases=bases) == []
    assert found("FROM busybox\n", bases=bases, platform_given=True) == ["1 InvalidBaseImagePlatform"]


def test_an_image_that_was_named_as_a_context_is_taken_as_it_is() -> None:
    contexts = {"base": NamedContext("image", "busybox")}

    assert found("FROM base\n", contexts=contexts, bases=ARM) == []


def test_the_base_of_a_stage_that_a_context_stands_in_for_may_be_no_image() -> None:
    contexts = {"foo": NamedContext("image", "busybox")}
    text = "FROM No!Name AS foo\nFROM busybox\nCOPY --from=foo / /\n"

    assert found(text, contexts=contexts, bases=ARM)[-1] == "2 InvalidBaseImagePlatform"


def test_a_from_line_that_is_wrong_ends_the_looking() -> None:
    text = "FROM ${A:-scratch}\nFROM --platform=x/y/z/w scratch\nFROM ${B:-scratch}\nCMD a\n"

    assert found(text) == ["1 UndefinedArgInFrom"]
    assert found("FROM ${A}\nFROM ${B:-scratch}\n") == ["1 InvalidDefaultArgInFrom", "1 UndefinedArgInFrom"]
