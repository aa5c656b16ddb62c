import pytest

from builder.errors import BuildError, MissingPath, StepFailed, UsageError
from builder.text import Location, SourceText, Span
from builder.ui.diagnostics import render

DOCKERFILE = SourceText("Dockerfile", "FROM debian\n\nRUN make \\\n  && make install\nCOPY a /b\nCMD a\n")


def test_a_usage_error_is_a_line_and_a_hint() -> None:
    error = UsageError("unknown flag --tgs", hint="did you mean --tag?")

    assert render(error) == "pybuild: unknown flag --tgs\nhint: did you mean --tag?\n"


def test_a_failed_step_shows_its_place_its_last_output_and_its_exit_code() -> None:
    error = StepFailed("`make && make install` ended with exit code 2", status=2, tail=("cc main.c", "oh no"))
    error.at(Location(DOCKERFILE, Span(3, end_line=4)))

    assert render(error) == (
        "error: `make && make install` ended with exit code 2\n"
        "\n"
        "Dockerfile:3\n"
        "   1 |     FROM debian\n"
        "   2 |\n"
        "   3 | >>> RUN make \\\n"
        "   4 | >>>   && make install\n"
        "   5 |     COPY a /b\n"
        "   6 |     CMD a\n"
        "\n"
        "the last 2 lines it wrote:\n"
        "  | cc main.c\n"
        "  | oh no\n"
    )


def test_a_place_within_a_line_has_a_marker_notes_and_hint_follow() -> None:
    error = MissingPath(
        "a is not in the build context",
        hint="did you mean ab?",
        notes=("the context is .", "it is left out by .dockerignore:3"),
        location=Location(DOCKERFILE, Span(5, 5, 5, 6)),
    )

    assert render(error) == (
        "error: a is not in the build context\n"
        "\n"
        "Dockerfile:5\n"
        "   3 |     RUN make \\\n"
        "   4 |       && make install\n"
        "   5 | >>> COPY a /b\n"
        "     |          ^\n"
        "   6 |     CMD a\n"
        "\n"
        "note: the context is .\n"
        "note: it is left out by .dockerignore:3\n"
        "\n"
        "hint: did you mean ab?\n"
    )


def test_only_the_last_lines_of_a_long_output_are_shown() -> None:
    error = StepFailed("it failed", status=1, tail=tuple(f"line {number}" for number in range(100)))

    shown = render(error).splitlines()

    assert shown[2] == "the last 20 lines it wrote:"
    assert (shown[3], shown[-1]) == ("  | line 80", "  | line 99")


def test_of_a_line_without_end_the_two_ends_are_shown() -> None:
    error = StepFailed("it failed", status=1, tail=("begun " + 60_000 * "." + " FAILED", "short"))

    shown = render(error).splitlines()

    assert (shown[3][:10], shown[3][-10:], shown[4]) == ("  | begun ", "... FAILED", "  | short")
    assert " … " in shown[3]
    assert len(shown[3]) < 1100


def test_of_a_script_of_many_lines_message_and_excerpt_show_the_two_ends() -> None:
    script = [f"echo {number}" for number in range(200)]
    text = "FROM debian\nRUN <<EOF\n" + "\n".join(script) + "\nEOF\nCMD a\n"
    command = 'process "/bin/sh -c ' + "\n".join(script) + '" did not complete successfully: exit code: 3'
    error = StepFailed(command, status=3).at(Location(SourceText("Dockerfile", text), Span(2, end_line=203)))

    heading, excerpt = render(error).rstrip("\n").split("\n\n")

    message = heading.splitlines()
    assert message[:2] == ['error: process "/bin/sh -c echo 0', "  echo 1"]
    assert message[-3:] == [
        "  … 180 more lines",
        "  echo 198",
        '  echo 199" did not complete successfully: exit code: 3',
    ]
    rows = excerpt.splitlines()
    assert rows[:4] == ["Dockerfile:2", "   1 |     FROM debian", "   2 | >>> RUN <<EOF", "   3 | >>> echo 0"]
    assert rows[-3:] == ["… 184 more lines", " 203 | >>> EOF", " 204 |     CMD a"]


def test_of_a_line_that_is_cut_no_place_is_marked() -> None:
    source = SourceText("Dockerfile", f"FROM debian\nENV A={5_000 * 'x'} =b\n")
    error = BuildError("no name", location=Location(source, Span(2, 5007, 2, 5009)))

    shown = render(error).splitlines()

    assert shown[-1].startswith("   2 | >>> ENV A=xxx")
    assert shown[-1].endswith("xxx =b")
    assert len(shown[-1]) < 1100


@pytest.mark.hostile("terminal escapes")
def test_nothing_hostile_gets_through() -> None:
    source = SourceText("Dock\x1b[31merfile", "RUN \x1b]0;x\x07a\n")
    error = StepFailed("`\x1b[2J`\nsecond", status=1, tail=("\x1b[1A\rx", "\u202ey"))
    error.at(Location(source, Span(1)))

    shown = render(error, color=False)

    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\u202ey" in shown


def test_colors_come_only_when_allowed() -> None:
    error = BuildError("no", location=Location(DOCKERFILE, Span(5)), hint="yes")

    assert "\x1b[" in render(error, color=True)
    assert "\x1b[" not in render(error)
