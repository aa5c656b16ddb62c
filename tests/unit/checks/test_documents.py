"""Documents for other programs."""

from __future__ import annotations

import base64
import json

from builder.checks import documents
from builder.checks.documents import Report
from builder.checks.find import find
from builder.checks.outline import read_outline
from builder.checks.rules import RULES
from builder.dockerfile import parse
from builder.errors import DockerfileError
from builder.text import Location, SourceText, Span
from tests.support.checking import look_at

TEXT = "FROM scratch AS One\nLABEL a=b \\\n  c=$NO\n"


def report(text: str = TEXT) -> Report:
    subject, error = look_at(text)
    return Report(subject.reading.source, find(subject), error)


def test_findings_have_the_reference_s_shape() -> None:
    document = documents.findings_document(report())

    assert document.keys() == {"warnings", "sources"}
    assert [warning["ruleName"] for warning in document["warnings"]] == ["StageNameCasing", "UndefinedVar"]
    warning = document["warnings"][1]
    assert warning.keys() == {"ruleName", "description", "url", "detail", "location"}
    assert warning["url"] == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    assert warning["location"]["ranges"] == [
        {"start": {"line": 2}, "end": {"line": 2}},
        {"start": {"line": 3}, "end": {"line": 3}},
    ]
    source = document["sources"][0]
    assert (source["filename"], source["language"]) == ("Dockerfile", "Dockerfile")
    assert base64.b64decode(source["data"]).decode() == TEXT


def test_an_error_of_the_file_is_told_with_its_place_and_another_without() -> None:
    document = documents.findings_document(report("FROM scratch AS One\nOOPS\n"))

    assert document["buildError"] == {
        "message": "'OOPS' is no instruction",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }
    elsewhere = DockerfileError("no", location=Location(SourceText(".dockerignore", "["), Span(1)))
    other = documents.findings_document(Report(SourceText("Dockerfile", ""), (), elsewhere))
    assert other["buildError"] == {"message": "no", "location": {}}


def test_sarif_names_every_rule_and_points_at_lines() -> None:
    document = documents.sarif_document(report(), "1.2")

    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert document["version"] == "2.1.0"
    assert [rule["id"] for rule in rules] == list(RULES)
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
        "StageNameCasing",
        "UndefinedVar",
    ]
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "Dockerfile"}, "region": {"startLine": 2, "endLine": 3}}
    assert run["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]


def test_sarif_tells_an_error_and_quotes_names() -> None:
    source = SourceText("a b/D\udcffc", "FROM scratch\nOOPS\n")
    error = DockerfileError("no", location=Location(source, Span(2)))

    (run,) = documents.sarif_document(Report(source, (), error), "1")["runs"]

    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert not run["invocations"][0]["executionSuccessful"]
    assert note["message"] == {"text": "no"}
    assert note["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "a%20b/D%FFc"}


def test_an_outline_leaves_out_what_is_empty() -> None:
    text = "# A is one\nARG A=1\nFROM scratch AS x\nARG A\nARG B\n"
    subject, _ = look_at(text)
    outline = read_outline(subject.reading.dockerfile(), subject.options, subject.visits)

    document = documents.outline_document(outline, subject.reading.source)

    assert document.keys() == {"name", "args", "sources"}
    assert document["args"][0]["description"] == "is one"
    assert document["args"][1] == {
        "name": "B",
        "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]},
    }
    assert base64.b64decode(document["sources"][0]).decode() == text


def test_targets_are_as_written() -> None:
    text = "ARG V\n# one is first\nFROM --platform=$BUILDPLATFORM a:$V AS One\nFROM one\n"

    document = documents.targets_document(parse(text))

    first, last = document["targets"]
    assert first == {
        "name": "one",
        "description": "is first",
        "base": "a:$V",
        "platform": "$BUILDPLATFORM",
        "location": {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]},
    }
    assert last["default"]
    assert documents.target_rows(document) == [("one", "is first"), ("(default)", "")]


def test_a_syntax_tree_has_spans_and_comments() -> None:
    text = "# escape=`\n# words\nFROM scratch\nRUN --network=none a `\n  b <<E\n\udcff\nE\n # end\n"

    document = documents.syntax_document(parse(text))

    assert document["escape"] == "`"
    assert document["directives"][0]["name"] == "escape"
    start, step = document["instructions"]
    assert start["comments"] == ["words"]
    assert step["span"] == {"start": {"line": 4, "character": 0}, "end": {"line": 7}}
    assert step["flags"][0]["span"] == {
        "start": {"line": 4, "character": 4},
        "end": {"line": 4, "character": 18},
    }
    assert step["command"] == {"words": ["a   b <<E"], "shell": True}
    assert step["heredocs"][0]["content"] == "\ufffd\n"
    place = {"start": {"line": 8, "character": 1}, "end": {"line": 8, "character": 6}}
    assert document["comments"][1] == {"text": "# end", "span": place, "inside": None}
    json.dumps(document).encode("ascii")
