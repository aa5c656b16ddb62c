"""`--call=…` of anything but a build: what is asked of the Dockerfile goes to standard output, alone."""

from __future__ import annotations

import json
import sys

from builder.checks import documents
from builder.checks.documents import Document, Report
from builder.checks.outline import Grant, Outline
from builder.checks.rules import RULES
from builder.commands.build_calls import METHODS, Call
from builder.commands.tables import print_table
from builder.request import BuildRequest
from builder.ui.report import excerpt_lines
from builder.ui.words import one_line, plural


def show(request: BuildRequest, call: Call) -> int:
    """Do what the call asks for. Raises BuildError; returns the exit status."""
    match call.name:
        case "check":
            return _show_findings(request, call)
        case "outline":
            _show_outline(request, call.format)
        case "targets":
            _show_targets(request, call.format)
        case "ast":
            from builder.describe import syntax

            _print_json(documents.syntax_document(syntax(request)))
        case "graph":
            from builder.commands.graph import show as show_graph

            show_graph(request, call.format)
        case _:
            _show_methods(call.format)
    return 0


def _show_findings(request: BuildRequest, call: Call) -> int:
    """1 where something was found, as buildx has it; an error of the Dockerfile is raised behind it."""
    from builder.describe import check

    report = check(request)
    match call.format:
        case "json":
            _print_json(documents.findings_document(report))
        case "sarif":
            from builder import __version__

            _print_json(documents.sarif_document(report, __version__))
        case _:
            sys.stdout.write("".join(f"{line}\n" for line in _finding_lines(report)))
    if report.error is not None:
        sys.stdout.flush()
        raise report.error
    return int(bool(report.findings) and not call.ignore_status)


def _finding_lines(report: Report) -> list[str]:
    name = one_line(report.source.name)
    notes = [f"note: {one_line(note)}" for note in report.notes]
    if not report.findings:
        return notes if report.error else [f"no warnings in {name}", *notes]
    told = list(dict.fromkeys(report.findings))  # equal ones once
    lines = [f"{plural(len(told), 'warning')} in {name}"]
    for found in told:
        lines += ["", f"{found.rule}: {one_line(found.message)} (line {found.span.line})"]
        lines += excerpt_lines(found.span.line, found.excerpt)
        if url := RULES[found.rule].url:
            lines.append(f"       = {url}")
    return [*lines, *([""] if notes else []), *notes]


def _show_outline(request: BuildRequest, form: str) -> None:
    from builder.describe import outline

    found, source = outline(request)
    if form == "json":
        _print_json(documents.outline_document(found, source))
    else:
        _print_outline(found)


def _print_outline(found: Outline) -> None:
    """Tables, with an empty line behind each."""
    if found.name or found.description:
        print(f"TARGET:      {one_line(found.name)}")
        if found.description:
            print(f"DESCRIPTION: {one_line(found.description)}")
        print()
    if found.arguments:
        rows = [(argument.name, argument.value, argument.description) for argument in found.arguments]
        print_table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows)
        print()
    for heading, grants in (("SECRET", found.secrets), ("SSH", found.agents)):
        _print_grants(heading, grants)


def _print_grants(heading: str, grants: tuple[Grant, ...]) -> None:
    if grants:
        print_table((heading, "REQUIRED"), [(grant.name, "true" * grant.required) for grant in grants])
        print()


def _show_targets(request: BuildRequest, form: str) -> None:
    from builder.describe import syntax

    document = documents.targets_document(syntax(request))
    if form == "json":
        _print_json(document)
    else:
        print_table(("TARGET", "DESCRIPTION"), documents.target_rows(document))


def _show_methods(form: str) -> None:
    rows = [(method.name, method.about) for method in METHODS.values()]
    if form == "json":
        sys.stdout.write(json.dumps([{"name": name, "description": about} for name, about in rows]) + "\n")
    else:
        print_table(("NAME", "DESCRIPTION"), rows)


def _print_json(document: Document) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
