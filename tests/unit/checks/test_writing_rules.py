"""Rules about how a Dockerfile is written."""

from __future__ import annotations

import pytest

from tests.support.checking import findings, found, lines_of


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("FROM scratch AS one", []),
        ("FROM scratch AS One", ["StageNameCasing"]),
        ("FROM scratch as One", ["StageNameCasing", "FromAsCasing"]),
        ("FROM scratch aS one", ["FromAsCasing"]),
        ("from scratch as one", ["ConsistentInstructionCasing"]),
        ("from scratch AS one", ["FromAsCasing", "ConsistentInstructionCasing"]),
        ("From scratch aS one", ["ConsistentInstructionCasing"]),
        ("FROM --platform=$BUILDPLATFORM \\\n scratch as one", ["FromAsCasing"]),
    ],
)
def test_the_case_of_a_stage_line(line: str, rules: list[str]) -> None:
    assert [text.partition(" ")[2] for text in found(f"{line}\nLABEL a=b\n")] == rules


def test_an_instruction_follows_the_majority() -> None:
    text = "from scratch\nlabel a=b\nLABEL c=d\nExpose 80\n"

    assert lines_of("ConsistentInstructionCasing", text) == [3, 4]
    assert "lower case" in findings(text)[0].message


def test_arguments_above_the_first_stage_do_not_count_for_the_majority() -> None:
    assert found("arg A\narg B\nFROM scratch\n") == []


def test_each_line_with_a_gap_is_told_of_once_at_its_end() -> None:
    text = "FROM scratch\nLABEL a=b \\\n\n# words\n\n c=d\nLABEL e=f \\\n# words\n g=h\n"

    assert lines_of("NoEmptyContinuation", text) == [6]


def test_names_that_mean_something_else_and_names_given_twice() -> None:
    text = "FROM scratch AS context\nFROM scratch AS a\nFROM scratch AS b\nFROM scratch AS a\n"

    assert found(text) == ["1 ReservedStageName", "4 DuplicateStageName"]
    assert "line 2" in findings(text)[1].message


def test_maintainer() -> None:
    assert found("FROM scratch\nmaintainer me\nMAINTAINER me\n") == [
        "2 MaintainerDeprecated",
        "2 ConsistentInstructionCasing",
        "3 MaintainerDeprecated",
    ]


@pytest.mark.parametrize(
    ("comment", "line", "is_found"),
    [
        ("# A is something", "ARG A=1", False),
        ("# B is something", "ARG A=1 B=2", False),
        ("# something is A", "ARG A=1", True),
        ("# something is A\n# A is that", "ARG A=1", False),
        ("# words\n#", "ARG A=1", False),
        ("  # A", "ARG A=1", True),
        ("# a stage", "FROM scratch AS b", True),
        ("# b stage", "FROM scratch AS B", False),
        ("# no name", "FROM scratch", False),
        ("# words", "LABEL a=b", False),
    ],
)
def test_a_description_begins_with_a_name(comment: str, line: str, is_found: bool) -> None:
    text = f"FROM scratch\n{comment}\n{line}\n"

    assert bool(lines_of("InvalidDefinitionDescription", "# check=experimental=all\n" + text)) is is_found
    assert not lines_of("InvalidDefinitionDescription", text)


def test_a_file_that_cannot_be_parsed_is_looked_at_down_to_its_first_error() -> None:
    text = "FROM scratch as a\nMAINTAINER me\nNO such\nMAINTAINER me\nLABEL a=b \\\n\n c=d\n"

    assert found(text) == ["1 FromAsCasing", "2 MaintainerDeprecated", "7 NoEmptyContinuation"]


def test_the_line_that_cannot_be_parsed_is_looked_at_too() -> None:
    assert found("FROM scratch as 1Up\nMAINTAINER me\n") == ["1 StageNameCasing", "1 FromAsCasing"]


@pytest.mark.parametrize("line", ["LABEL a=b c", "ENV a", "RUN <<EOF", "CMD [1]"])
def test_nothing_is_found_in_a_file_that_cannot_be_cut_into_instructions(line: str) -> None:
    assert found(f"FROM scratch as a\nMAINTAINER me\n{line}\n") == []
