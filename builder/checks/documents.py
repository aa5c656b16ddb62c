"""Findings, outlines, targets and syntax trees as documents for other programs: plain data for JSON. Pure.

The first three have the shapes of the reference builder's (its subrequests `lint`, `outline` and `targets`),
findings also that of SARIF 2.1.0 (OASIS). Bytes that were no UTF-8 become U+FFFD.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from builder.checks.outline import Grant, Outline, describe
from builder.checks.rules import RULES
from builder.compiler.created_by import valid
from builder.compiler.program import Warning
from builder.compiler.stages import read_stages
from builder.dockerfile.ast import Dockerfile
from builder.errors import BuildError
from builder.text import SourceText, Span

Document = dict[str, Any]
SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FROM_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates but those of surrogateescape
MAX_RANGES = 200  # of one location; an instruction of many lines may have as many findings


class Report(msgspec.Struct, frozen=True):
    """What checking a file gave: the findings, the error that ended it, if one did, and notes for people."""

    source: SourceText
    findings: tuple[Warning, ...]
    error: BuildError | None = None
    notes: tuple[str, ...] = ()


def findings_document(report: Report) -> Document:
    """As the reference's `lint`."""
    document: Document = {
        "warnings": [_finding(found) for found in report.findings],
        "sources": [{"filename": report.source.name, "data": _data(report.source), "language": "Dockerfile"}],
    }
    if report.error is not None:
        document["buildError"] = {"message": report.error.message, "location": _error_place(report)}
    return _valid(document)


def _finding(found: Warning) -> Document:
    rule = RULES[found.rule]
    return {
        "ruleName": rule.name,
        "description": rule.description,
        **({"url": rule.url} if rule.url else {}),
        "detail": found.message,
        "location": _place(found.span),
    }


def sarif_document(report: Report, version: str) -> Document:
    """As SARIF: every rule that there is, the findings as results, the error as a notification."""
    names = list(RULES)
    rules = [_sarif_rule(name) for name in names]
    results = [
        {
            "ruleId": found.rule,
            "ruleIndex": names.index(found.rule),
            "level": "warning",
            "message": {"text": found.message},
            "locations": [_sarif_place(report.source, found.span)],
        }
        for found in report.findings
    ]
    notes = [_sarif_note(report)] if report.error is not None else []
    run = {
        "tool": {"driver": {"name": "pybuild", "version": version, "rules": rules}},
        "invocations": [{"executionSuccessful": report.error is None, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return _valid({"$schema": SARIF, "version": "2.1.0", "runs": [run]})


def _sarif_rule(name: str) -> Document:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.description},
        **({"helpUri": rule.url} if rule.url else {}),
        "defaultConfiguration": {"enabled": not rule.experimental, "level": "warning"},
    }


def _sarif_note(report: Report) -> Document:
    assert report.error is not None
    note: Document = {"level": "error", "message": {"text": report.error.message}}
    place = report.error.location
    if place is not None and place.source == report.source:
        note["locations"] = [_sarif_place(report.source, place.span)]
    return note


def _sarif_place(source: SourceText, span: Span) -> Document:
    uri = quote(source.name.encode("utf-8", "surrogateescape"))
    region = {"startLine": span.line, "endLine": span.last_line}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def outline_document(outline: Outline, source: SourceText) -> Document:
    """As the reference's `outline`; what is empty is left out."""
    arguments = [
        _filled(name=a.name, description=a.description, value=a.value, location=_place(a.span))
        for a in outline.arguments
    ]
    document = _filled(
        name=outline.name,
        description=outline.description,
        args=arguments,
        secrets=[_grant(secret) for secret in outline.secrets],
        ssh=[_grant(agent) for agent in outline.agents],
        sources=[_data(source)],
    )
    return _valid(document)


def _grant(grant: Grant) -> Document:
    return _filled(name=grant.name, required=grant.required, location=_place(grant.span))


def targets_document(dockerfile: Dockerfile) -> Document:
    """As the reference's `targets`: the stages, with their bases and platforms as written."""
    stages = read_stages(dockerfile).stages
    targets = [
        _filled(
            name=stage.name,
            default=stage.number == len(stages) - 1,
            description=describe(stage.start.comments, stage.name),
            base=stage.start.image,
            platform=stage.start.flag("platform"),
            location=_place(stage.start.span),
        )
        for stage in stages
    ]
    return _valid({"targets": targets, "sources": [_data(dockerfile.source)]})


def syntax_document(dockerfile: Dockerfile) -> Document:
    """The syntax tree. Words are as written; lines count from 1, characters from 0, ends are exclusive.

    An end without a `character` is that of its line. The fields are those of `dockerfile.ast`.
    """
    return _valid(
        {
            "name": dockerfile.source.name,
            "escape": dockerfile.escape,
            "directives": [_tree(item) for item in dockerfile.directives],
            "instructions": [_tree(item) for item in dockerfile.instructions],
            "comments": [_tree(item) for item in dockerfile.comments],
        }
    )


def _tree(value: Any) -> Any:
    match value:
        case Span():
            end = {"character": value.end_column} if value.end_column >= 0 else {}
            start = {"line": value.line, "character": value.column}
            return {"start": start, "end": {"line": value.last_line, **end}}
        case msgspec.Struct():
            return {name: _tree(getattr(value, name)) for name in value.__struct_fields__}
        case tuple():
            return [_tree(item) for item in value]
    return value


def _place(span: Span) -> Document:
    """A location in the reference's shape: one range for each line, or one for very many."""
    lines = range(span.line, span.last_line + 1)
    if len(lines) > MAX_RANGES:
        return {"ranges": [{"start": {"line": span.line}, "end": {"line": span.last_line}}]}
    return {"ranges": [{"start": {"line": line}, "end": {"line": line}} for line in lines]}


def _error_place(report: Report) -> Document:
    place = report.error.location if report.error else None
    return _place(place.span) if place is not None and place.source == report.source else {}


def _data(source: SourceText) -> str:
    """The file's bytes; what can have come from none becomes U+FFFD."""
    text = FROM_NO_BYTES.sub("\ufffd", source.text)
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")


def _filled(**fields: Any) -> Document:
    return {name: value for name, value in fields.items() if value}


def _valid(document: Document) -> Document:
    """The same without what JSON cannot hold."""
    return {key: _valid_value(value) for key, value in document.items()}


def _valid_value(value: Any) -> Any:
    match value:
        case str():
            return valid(value)
        case dict():
            return _valid(value)
        case list():
            return [_valid_value(item) for item in value]
    return value


def target_rows(document: Document) -> Sequence[tuple[str, str]]:
    """The targets of such a document for a table: names, the default one marked, and descriptions."""
    rows = []
    for target in document["targets"]:
        default = "(default)" if target.get("default") else ""
        shown = " ".join(part for part in (target.get("name", ""), default) if part)
        rows.append((shown, target.get("description", "")))
    return rows
