"""Which rules apply."""

from __future__ import annotations

import pytest

from builder.checks.rules import RULES
from builder.checks.settings import Settings, doubts, parse, settings_of
from builder.dockerfile.parser import read
from builder.errors import BuildError
from builder.text import SourceText
from tests.support.checking import found


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", Settings()),
        ("skip=A", Settings(frozenset({"A"}))),
        (" skip = A , B ; error = T ", Settings(frozenset({"A", "B"}), error=True)),
        ("skip=all", Settings(frozenset({"all"}))),
        ("experimental=all;skip=A", Settings(frozenset({"A"}), frozenset({"all"}))),
        ("error=true;error=0", Settings()),
        ("skip=A;skip=B", Settings(frozenset({"B"}))),
        ("skip=all;skip=A", Settings(frozenset({"all", "A"}))),
        ("experimental=all;experimental=A", Settings(experimental=frozenset({"all", "A"}))),
    ],
)
def test_options(text: str, settings: Settings) -> None:
    assert parse(text) == settings


@pytest.mark.parametrize(
    "text", ["x", "skip", "skip=a;", "error=maybe", "what=ever", "skip=a;error=1;error=1;x"]
)
def test_what_is_no_option_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_experimental_rules_apply_only_where_asked_for() -> None:
    rule = RULES["InvalidDefinitionDescription"]

    assert rule.experimental
    assert not Settings().allows(rule)
    assert Settings(frozenset({"all"}), frozenset({rule.name})).allows(rule)
    assert not Settings(frozenset({"all"})).allows(RULES["UndefinedVar"])


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        (["check=skip=A"], {"A"}),
        (["words", "CHECK = skip=A and more", "check=skip=B"], {"A"}),
        (["check=nonsense", "check=skip=B"], set()),
        (["syntax=a", "check=skip=B"], {"B"}),
        (["my check=skip=B"], set()),
    ],
)
def test_the_first_comment_that_says_something_counts(comments: list[str], expected: set[str]) -> None:
    assert Settings(frozenset({"X"})).below(comments).skip == {"X", *expected}


def test_a_comment_does_not_make_findings_an_error() -> None:
    assert not Settings().below(["check=error=true"]).error


def test_a_build_argument_stands_in_for_the_directive() -> None:
    reading = read(SourceText("Dockerfile", "# check=skip=A;error=true\nFROM scratch\n"))

    assert settings_of(reading, {}) == Settings(frozenset({"A"}), error=True)
    assert settings_of(reading, {"BUILDKIT_DOCKERFILE_CHECK": "skip=B"}) == Settings(frozenset({"B"}))
    assert settings_of(reading, {"BUILDKIT_DOCKERFILE_CHECK": ""}) == Settings()


def test_wrong_settings_are_an_error_at_their_place() -> None:
    reading = read(SourceText("Dockerfile", "# escape=`\n# check=skip\nFROM scratch\n"))

    with pytest.raises(BuildError, match="'skip' is no option") as caught:
        settings_of(reading, {})
    assert str(caught.value.location) == "Dockerfile:2"
    with pytest.raises(BuildError, match="BUILDKIT_DOCKERFILE_CHECK"):
        settings_of(reading, {"BUILDKIT_DOCKERFILE_CHECK": "x"})


@pytest.mark.parametrize(
    ("above", "rules"),
    [
        ("", ["StageNameCasing", "MaintainerDeprecated", "LegacyKeyValueFormat"]),
        ("# check=skip=StageNameCasing", ["MaintainerDeprecated", "LegacyKeyValueFormat"]),
        ("# check=skip=stagenamecasing", ["StageNameCasing", "MaintainerDeprecated", "LegacyKeyValueFormat"]),
        ("# check=skip=StageNameCasing,LegacyKeyValueFormat", ["MaintainerDeprecated"]),
        ("# check=skip=all", []),
        ("#!/bin/x\n# check=skip=all", []),
        ("# words\n# check=skip=all", ["MaintainerDeprecated", "LegacyKeyValueFormat"]),
    ],
)
def test_a_directive_is_for_the_file_and_a_comment_for_one_instruction(above: str, rules: list[str]) -> None:
    text = f"{above}\nFROM scratch AS A\nMAINTAINER me\nENV A b\n".lstrip()

    assert [line.partition(" ")[2] for line in found(text)] == rules


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("UndefinedVar", "FROM scratch\n{}\nLABEL a=$NO\n"),
        ("UndefinedArgInFrom", "{}\nFROM ${{A:-scratch}}\n"),
        ("MaintainerDeprecated", "FROM scratch\n{}\nMAINTAINER me\n"),
        ("MultipleInstructionsDisallowed", 'FROM scratch\nCMD ["a"]\n{}\nCMD ["b"]\n'),
    ],
)
def test_a_comment_skips_a_rule_for_what_is_below_it(rule: str, text: str) -> None:
    text = "# a file\n#\n" + text

    assert [line.partition(" ")[2] for line in found(text.format("#"))] == [rule]
    assert found(text.format(f"# check=skip={rule}\n")) == []


def test_a_comment_cannot_skip_what_the_whole_file_is_looked_at_for() -> None:
    text = "FROM scratch AS a\n# check=skip=all\nfrom scratch AS a\n"

    assert found(text) == ["3 DuplicateStageName", "3 ConsistentInstructionCasing"]


def test_names_that_no_rule_has_are_told_with_what_was_meant() -> None:
    text = (
        "# check=skip=JSONArgRecommended,StageNameCasing,Foo\nFROM scratch\n"
        "# check=experimental=all;skip=WorkdirRelativPath,Foo\nWORKDIR x\n"
    )
    reading = read(SourceText("Dockerfile", text))

    assert doubts(reading, settings_of(reading, {})) == (
        "check names Foo, which is no rule",
        "check names JSONArgRecommended, which is no rule; did you mean JSONArgsRecommended?",
        "check names WorkdirRelativPath, which is no rule; did you mean WorkdirRelativePath? (above line 4)",
    )


def test_an_option_that_was_meant_is_told() -> None:
    with pytest.raises(ValueError, match="did you mean skip"):
        parse("skp=all")
