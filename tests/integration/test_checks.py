"""Checks, outlines and targets by the command: what goes where, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.contexts import events_of, lay
from tests.support.machine import Pybuild

UNTIDY = "FROM scratch AS One\nCOPY a /a\nLABEL b=$NO \\\n  c=d\n"


@pytest.fixture
def pybuild(tmp_path: Path) -> Pybuild:
    """The command over a store of its own, with nothing in it."""
    return Pybuild(tmp_path / "store")


def check(pybuild: Pybuild, context: Path, *flags: str, status: int = 1) -> dict[str, Any]:
    """The document that `--call=check,format=json` prints."""
    done = pybuild("--call=check,format=json", *flags, context, check=False)
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def found(document: dict[str, Any]) -> list[str]:
    return [f"{w['location']['ranges'][0]['start']['line']} {w['ruleName']}" for w in document["warnings"]]


def warned(stderr: str) -> list[str]:
    return re.findall(r"^- (\w+): ", stderr, re.MULTILINE)


# ── --check ──────────────────────────────────────────────────────────────────────────────────────────────


def test_findings_are_told_with_their_lines_and_the_status_is_1(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    done = pybuild("--check", context, check=False)

    assert done.returncode == 1
    assert done.stderr == ""
    assert "2 warnings in Dockerfile" in done.stdout
    assert "UndefinedVar: variable NO is not set here (line 3)" in done.stdout
    assert "     3 | LABEL b=$NO \\\n     4 |   c=d\n" in done.stdout
    assert "https://docs.docker.com/go/dockerfile/rule/undefined-var/" in done.stdout
    assert not list((pybuild.root / "builds").glob("*"))


def test_names_that_no_rule_has_are_told_to_people_alone(pybuild: Pybuild, context: Path) -> None:
    lay(context, "# check=skip=StageNameCase\nFROM scratch AS a\n", {})

    assert pybuild("--check", context).stdout == (
        "no warnings in Dockerfile\n"
        "note: check names StageNameCase, which is no rule; did you mean StageNameCasing?\n"
    )
    assert check(pybuild, context, status=0)["warnings"] == []


def test_one_finding_for_several_words_of_a_line_is_told_once_to_people_and_each_time_to_programs(
    pybuild: Pybuild, context: Path
) -> None:
    lay(context, "FROM scratch\nLABEL a=$NO b=x$NO c=$NO$NO\n", {})

    assert pybuild("--check", context, check=False).stdout.startswith("1 warning in Dockerfile\n")
    assert found(check(pybuild, context)) == ["2 UndefinedVar"] * 3
    several = check(pybuild, context, "--platform=linux/amd64,linux/arm64")
    assert found(several) == ["2 UndefinedVar"] * 3


def test_a_tidy_file_ends_with_0(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY a /a\n", {"a": "a"})

    assert pybuild("--check", context).stdout == "no warnings in Dockerfile\n"
    assert check(pybuild, context, status=0)["warnings"] == []


def test_the_status_can_be_ignored(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    assert "2 warnings" in pybuild("--call=check,ignorestatus=true", context).stdout


def test_json_is_alone_on_standard_output(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    document = check(pybuild, context)

    assert found(document) == ["1 StageNameCasing", "3 UndefinedVar"]
    assert document["sources"][0]["filename"] == "Dockerfile"


def test_sarif(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    done = pybuild("--call=check,format=sarif", context, check=False)

    (run,) = json.loads(done.stdout)["runs"]
    assert done.returncode == 1
    assert [result["ruleId"] for result in run["results"]] == ["StageNameCasing", "UndefinedVar"]


@pytest.mark.parametrize(
    ("text", "rules", "line"),
    [
        ("FROM scratch as One\nOOPS\nMAINTAINER me\n", "StageNameCasing FromAsCasing", 2),
        (
            "FROM scratch AS One\nENV A b\nLABEL a=${A!x}\nENV C d\n",
            "StageNameCasing LegacyKeyValueFormat",
            3,
        ),
        ("FROM localhost:1/x AS One\nENV A b\n", "StageNameCasing", 1),
    ],
)
def test_findings_are_told_in_spite_of_an_error(
    pybuild: Pybuild, context: Path, text: str, rules: str, line: int
) -> None:
    lay(context, text)

    done = pybuild("--call=check,format=json", context, check=False)

    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [warning["ruleName"] for warning in document["warnings"]] == rules.split()
    assert document["buildError"]["location"]["ranges"][0]["start"] == {"line": line}
    assert f"Dockerfile:{line}\n" in done.stderr


def test_the_ignore_file_counts(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY a /a\n", {"a": "a", ".dockerignore": "a\n"})

    assert found(check(pybuild, context)) == ["2 CopyIgnoredFile"]

    lay(context, None, {".dockerignore": "[\n"})
    assert check(pybuild, context)["buildError"]["location"] == {}


def test_only_what_the_target_needs_is_looked_at_where_there_is_one(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch AS one\nENV A b\nFROM scratch AS two\nENV C d\nFROM scratch AS three\n")

    assert len(check(pybuild, context)["warnings"]) == 2
    assert found(check(pybuild, context, "--target=two")) == ["4 LegacyKeyValueFormat"]


def test_a_build_argument_says_what_is_checked(pybuild: Pybuild, context: Path) -> None:
    lay(context, "# check=skip=all\n" + UNTIDY, {"a": "a"})

    assert check(pybuild, context, status=0)["warnings"] == []
    some = check(pybuild, context, "--build-arg=BUILDKIT_DOCKERFILE_CHECK=skip=UndefinedVar")
    assert found(some) == ["2 StageNameCasing"]
    wrong = check(pybuild, context, "--build-arg=BUILDKIT_DOCKERFILE_CHECK=nonsense")
    assert "BUILDKIT_DOCKERFILE_CHECK" in wrong["buildError"]["message"]


def test_a_dockerfile_on_standard_input_can_be_checked(pybuild: Pybuild) -> None:
    done = pybuild("--check", "-", stdin=UNTIDY.encode(), check=False)

    assert "2 warnings in Dockerfile" in done.stdout


def test_what_a_terminal_would_obey_is_not_shown(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nLABEL a=$NO b='\x1b]0;title\x07'\n")

    done = pybuild("--check", context, check=False)

    assert "UndefinedVar" in done.stdout
    assert "\x1b" not in done.stdout


# ── the end of a build ───────────────────────────────────────────────────────────────────────────────────


def test_a_build_tells_them_at_its_end_also_when_all_is_cached(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    first, second = pybuild.build(context), pybuild.build(context)

    assert "1 of 1 step cached" not in first.stderr
    assert "its 1 step cached" in second.stderr
    for done in (first, second):
        assert warned(done.stderr) == ["StageNameCasing", "UndefinedVar"]
        assert "     1 | FROM scratch AS One\n" in done.stderr
        assert "     4 |   c=d\n" in done.stderr
        assert done.stdout == ""


def test_events_hold_what_is_meant(pybuild: Pybuild, context: Path) -> None:
    lay(context, UNTIDY, {"a": "a"})

    events = events_of(pybuild("--progress=rawjson", context).stderr)

    (warning,) = [event for event in events if event.get("rule") == "UndefinedVar"]
    assert (warning["line"], warning["excerpt"]) == (3, ["LABEL b=$NO \\", "  c=d"])


def test_another_ignore_file_is_seen_by_a_build_that_was_cached(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch\nCOPY b* /\n", {"a": "a"})
    assert warned(pybuild.build(context).stderr) == []

    lay(context, None, {".dockerignore": "b*\n"})

    assert warned(pybuild.build(context).stderr) == ["CopyIgnoredFile"]


def test_findings_can_be_an_error(pybuild: Pybuild, context: Path) -> None:
    lay(context, "# check=error=true;skip=StageNameCasing\n" + UNTIDY, {"a": "a"})

    done = pybuild.build(context, check=False)

    assert done.returncode == 1
    assert warned(done.stderr) == ["UndefinedVar"]
    assert re.search(r"^error: .*check=error=true.*: UndefinedVar$", done.stderr, re.MULTILINE)
    assert "[1/1]" not in done.stderr
    assert "error=true" in check(pybuild, context)["buildError"]["message"]

    relaxed = pybuild.build(context, "--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=false")
    assert "built" in relaxed.stderr


def test_a_failed_build_tells_them_before_its_error(pybuild: Pybuild, context: Path) -> None:
    lay(context, "FROM scratch AS One\nOOPS\n")

    done = pybuild.build(context, check=False)

    assert done.returncode == 1
    assert done.stderr.index("StageNameCasing") < done.stderr.index("error: 'OOPS'")


# ── --call=outline, targets, ast ─────────────────────────────────────────────────────────────────────────

DESCRIBED = """\
# GO is the version of Go
ARG GO=1.2
# base is what the others stand on
FROM scratch AS base
ARG GO
RUN --mount=type=secret,id=token,required --mount=type=ssh true
FROM base
"""


def test_an_outline(pybuild: Pybuild, context: Path) -> None:
    lay(context, DESCRIBED)

    text = pybuild("--call=outline", "--target=base", context).stdout
    document = json.loads(pybuild("--call=outline,format=json", "--target=base", context).stdout)

    assert text == (
        "TARGET:      base\nDESCRIPTION: is what the others stand on\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nGO          1.2     is the version of Go\n\n"
        "SECRET   REQUIRED\ntoken    true\n\nSSH       REQUIRED\ndefault\n\n"
    )
    assert document["args"][0]["name"] == "GO"
    assert document["secrets"] == [
        {"name": "token", "required": True, "location": document["ssh"][0]["location"]}
    ]


def test_targets(pybuild: Pybuild, context: Path) -> None:
    lay(context, DESCRIBED)

    text = pybuild("--call=targets", context).stdout
    document = json.loads(pybuild("--call=targets,format=json", context).stdout)

    assert text.splitlines() == [
        "TARGET      DESCRIPTION",
        "base        is what the others stand on",
        "(default)",
    ]
    assert [target.get("base") for target in document["targets"]] == ["scratch", "base"]


def test_a_syntax_tree(pybuild: Pybuild, context: Path) -> None:
    lay(context, DESCRIBED)

    document = json.loads(pybuild("--call=ast,format=json", context).stdout)

    assert [step["keyword"] for step in document["instructions"]] == ["ARG", "FROM", "ARG", "RUN", "FROM"]
    assert document["instructions"][1]["comments"] == ["base is what the others stand on"]


def test_the_methods_can_be_listed(pybuild: Pybuild, context: Path) -> None:
    assert "outline" in pybuild("--call=subrequests.describe", context).stdout


@pytest.mark.parametrize("call", ["outline", "targets", "ast"])
def test_what_cannot_be_parsed_has_no_description(pybuild: Pybuild, context: Path, call: str) -> None:
    lay(context, "FROM scratch\nOOPS\n")

    done = pybuild(f"--call={call},format=json", context, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "Dockerfile:2" in done.stderr
