"""Errors of compiling point at the flag that is wrong, and tell what was meant."""

from __future__ import annotations

import pytest

from builder.compiler.program import NamedContext
from builder.errors import BuildError
from builder.text import excerpt
from tests.support.compiling import compile_once, compile_text


def refusal(text: str) -> BuildError:
    with pytest.raises(BuildError) as caught:
        compile_text(text)
    return caught.value


def marked(error: BuildError) -> str:
    """What the markers of an error's excerpt stand under."""
    assert error.location is not None
    rows = excerpt(error.location).split("\n")
    number = next(n for n, row in enumerate(rows) if row.lstrip(" |").startswith("^"))
    start, end = rows[number].index("^"), rows[number].rindex("^") + 1
    return rows[number - 1][start:end]


@pytest.mark.parametrize(
    ("line", "flag", "meant"),
    [
        ("RUN --network=none --mount=type=cache,taget=/c x", "--mount=type=cache,taget=/c", "target"),
        ("RUN --mount=type=tmpfs,target=/a --mount=type=tmfps x", "--mount=type=tmfps", "tmpfs"),
        ("RUN --mount=type=cache,sharing=lokced x", "--mount=type=cache,sharing=lokced", "locked"),
        ("COPY --chmod=u+q --link a b", "--chmod=u+q", None),
        ("COPY --exclude=b --exclude=a[ d x", "--exclude=a[", None),
        ("COPY --from=9 a b", "--from=9", None),
        ("ADD --checksum=sha256:00 a b", "--checksum=sha256:00", None),
        ("RUN --security=insecure x", "--security=insecure", None),
        ("RUN --mount=from=$A,target=/x x", "--mount=from=$A,target=/x", None),
    ],
)  # fmt: skip
def test_the_flag_is_marked(line: str, flag: str, meant: str | None) -> None:
    error = refusal(f"FROM busybox\n{line}\n")

    assert marked(error) == flag
    assert meant is None or error.hint == f"did you mean {meant}?"


def test_a_flag_of_a_continued_line_is_marked_where_it_stands() -> None:
    error = refusal("FROM busybox\nCOPY --link \\\n  --chmod=u+q \\\n  a b\n")

    assert marked(error) == "--chmod=u+q"
    assert str(error.location) == "Dockerfile:3 (begins at line 2)"


def test_markers_are_under_what_they_mean_behind_tabs() -> None:
    error = refusal("FROM busybox\n\tCOPY\t--chmod=u+q\ta b\n")

    assert error.location is not None
    assert excerpt(error.location).split("\n")[-1].expandtabs().index("^") == (
        excerpt(error.location).split("\n")[-2].expandtabs().index("--chmod")
    )


def test_what_a_trigger_does_wrong_is_told_of_the_whole_from() -> None:
    error = refusal("FROM busybox AS a\nONBUILD COPY --chmod=u+q a b\n\nFROM a\n")

    assert str(error.location) == "Dockerfile:4"


def test_a_circle_is_told_from_line_to_line() -> None:
    error = refusal(
        "FROM busybox AS a\nCOPY --from=c / /\nFROM busybox AS b\nCOPY --from=a / /\n"
        "FROM busybox AS c\nCOPY --from=b / /\n"
    )

    assert error.notes == ("Dockerfile:2: a needs c", "Dockerfile:6: c needs b", "Dockerfile:4: b needs a")


def test_of_several_instructions_that_close_a_circle_the_last_is_told() -> None:
    error = refusal("FROM busybox AS a\nCOPY --from=a /x /\nRUN true\nCOPY --from=a /y /\nRUN true\n")

    assert str(error.location) == "Dockerfile:4"


@pytest.mark.parametrize(
    "text",
    [
        "FROM No!Name\nFROM $NOTHING\n",
        "FROM No!Name\nFROM --platform=$NOTHING busybox\n",
        "FROM No!Name AS a\nCOPY --from=a / /\n",
    ],
)
def test_a_name_that_no_image_has_is_told_of_last(text: str) -> None:
    error = refusal(text)

    assert error.location is not None
    assert error.location.span.line == 2


def test_a_target_that_is_not_there_is_told_of_before_a_name_that_no_image_has() -> None:
    with pytest.raises(BuildError, match="target 'b'"):
        compile_once("FROM No!Name AS a\n", target="b")


def test_a_context_that_was_meant_is_told() -> None:
    missing = compile_once(
        "FROM scratch\nCOPY --from=asets / /\n", contexts={"assets": NamedContext("local", "/a")}
    )

    (image,) = missing.images  # type: ignore[union-attr]
    assert image.hint == "no stage or context is named asets; did you mean assets?"


def test_a_signal_that_was_meant_is_told_whole() -> None:
    assert refusal("FROM scratch\nSTOPSIGNAL SIGTRM\n").hint == "did you mean SIGTERM?"
