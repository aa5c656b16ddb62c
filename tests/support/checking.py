"""Checking texts in tests: a dict of known images, the real parser and compiler, nothing else."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from builder.checks.find import Subject, find
from builder.checks.settings import settings_of
from builder.compiler.compile import Visit
from builder.compiler.compile import compile as compile_dockerfile
from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, NamedContext, Program, Warning
from builder.dockerfile.ignore import parse as parse_ignore
from builder.dockerfile.parser import read
from builder.errors import BuildError
from builder.text import SourceText
from tests.support.compiling import BASES, MACHINE


def look_at(
    text: str,
    *,
    ignore: str = "",
    bases: dict[str, BaseImage] | None = None,
    contexts: dict[str, NamedContext] | None = None,
    **options: Any,
) -> tuple[Subject, BuildError | None]:
    """What is known of a Dockerfile once it is compiled, all of its stages by default, and what was wrong."""
    images = BASES | (bases or {})
    everything = {"all_stages": not options.get("target"), **options}
    asked = replace(CompileOptions(MACHINE, MACHINE), contexts=contexts or {}, **everything)
    reading = read(SourceText("Dockerfile", text))
    known: dict[ImageRequest, BaseImage] = {}
    visits: list[Visit] = []
    error: BuildError | None = None
    try:
        dockerfile = reading.dockerfile()
        while not isinstance(outcome := compile_dockerfile(dockerfile, asked, known, visits), Program):
            if missing := [request for request in outcome.images if request.locator not in images]:
                raise BuildError(f"there is no {missing[0].locator}", location=missing[0].location)
            known |= {request: images[request.locator] for request in outcome.images}
    except BuildError as raised:
        error = raised
    patterns = parse_ignore(ignore, ".dockerignore") if ignore else None
    return Subject(reading, asked, known, visits, patterns), error


def findings(text: str, **given: Any) -> tuple[Warning, ...]:
    """What is found in a Dockerfile, by its own settings or a build argument's."""
    subject, _ = look_at(text, **given)
    return find(subject, settings_of(subject.reading, subject.options.build_args))


def found(text: str, **given: Any) -> list[str]:
    """The findings as `line Rule`."""
    return [f"{finding.span.line} {finding.rule}" for finding in findings(text, **given)]


def lines_of(rule: str, text: str, **given: Any) -> list[int]:
    """The lines at which one rule finds something."""
    return [finding.span.line for finding in findings(text, **given) if finding.rule == rule]
