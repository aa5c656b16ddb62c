"""What is found in a Dockerfile, in the order of its lines. Pure.

Rules are applied in three rounds, as the reference builder does: to the lines, to the FROM lines, to the
instructions. A file that cannot be parsed, or compiled, is looked at as far as that goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from builder.checks import froms, steps, writing
from builder.checks.settings import Settings, settings_of
from builder.checks.writing import Found
from builder.compiler.compile import Visit
from builder.compiler.platforms import normalise
from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, Warning
from builder.compiler.remotes import redact
from builder.compiler.sources import FromStage
from builder.compiler.stages import read_stages
from builder.dockerfile.ignore import Ignore
from builder.dockerfile.parser import Reading
from builder.errors import BuildError
from builder.text import Span

# What is wrong with a text before its instructions are looked at: nothing is found in such a file.
UNREADABLE = frozenset({
    "line-too-long", "duplicate-directive", "bad-escape-directive", "unknown-frontend",
    "unterminated-heredoc", "bad-heredoc", "mixed-array", "no-equals", "no-value",
})  # fmt: skip
EXCERPT_LINES = 3
MAX_WIDTH = 160
MAX_MESSAGE = 400


class Subject(msgspec.Struct, frozen=True):
    """What is looked at: a reading, and what is known from compiling it, which may have failed on the way.

    known: the bases; visits: the instructions that the compiler came to; ignore: the context's ignore file.
    """

    reading: Reading
    options: CompileOptions
    known: Mapping[ImageRequest, BaseImage] = msgspec.field(default_factory=dict)
    visits: Sequence[Visit] = ()
    ignore: Ignore | None = None


def find(subject: Subject, settings: Settings | None = None) -> tuple[Warning, ...]:
    """The findings, by line; settings: None for the file's own. Raises BuildError where those are wrong."""
    if settings is None:
        settings = settings_of(subject.reading, subject.options.build_args)
    found = sorted(_find(subject, settings), key=lambda item: item[2].line)
    text = subject.reading.source.lines()
    return tuple(
        Warning(rule.name, _shortened(message, MAX_MESSAGE), span, _excerpt(text, span))
        for rule, message, span in found
    )


def _find(subject: Subject, settings: Settings) -> Iterator[Found]:
    reading = subject.reading
    if any(error.code in UNREADABLE for error in reading.errors):
        return
    lines = tuple(map(writing.line_of, reading.lines))
    yield from writing.find_gaps(lines, settings)
    if reading.errors:
        yield from writing.find_in_lines(_up_to_error(reading, lines), settings)
        return
    yield from writing.find_in_lines(lines, settings)
    yield from writing.find_in_file(lines, settings)
    options = replace(
        subject.options,
        build_platform=normalise(subject.options.build_platform),
        platform=normalise(subject.options.platform),
    )
    dockerfile = reading.dockerfile()
    parts = read_stages(dockerfile)
    yield from froms.find_bad_defaults(dockerfile, parts, options, settings)
    yield from froms.find_in_froms(dockerfile, parts, options, settings)
    try:
        bases = froms.bases_of(dockerfile, parts, options)
    except BuildError:
        return
    yield from froms.find_foreign_bases(dockerfile, parts, options, settings, subject.known, subject.visits)
    parents = {n: base.source.number for n, base in enumerate(bases) if isinstance(base.source, FromStage)}
    yield from steps.find_in_steps(subject.visits, parents, subject.ignore, settings)


def _up_to_error(reading: Reading, lines: tuple[writing.Line, ...]) -> tuple[writing.Line, ...]:
    """The lines down to the one with the first error."""
    place = reading.errors[0].location
    last = place.span.line if place else 0
    return tuple(line for line in lines if line.span.line <= last)


def _excerpt(text: list[str], span: Span) -> tuple[str, ...]:
    """The first lines of what is meant, and a mark where there are more."""
    lines = [
        _shortened(line, MAX_WIDTH) for line in text[span.line - 1 : span.last_line][: EXCERPT_LINES + 1]
    ]
    return (*lines[:EXCERPT_LINES], *(["…"] if len(lines) > EXCERPT_LINES else []))


def _shortened(text: str, length: int) -> str:
    """The text as it may be recorded: not endless, and without the passwords of addresses."""
    text = redact(text) if "@" in text else text
    return text if len(text) <= length else text[: length - 1] + "…"
