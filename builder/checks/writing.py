"""Rules about how a Dockerfile is written: they need its lines, and nothing of what they mean. Pure.

Line rules look at one instruction, also at one that cannot be parsed; file rules at all of them, once all can
be. A comment above an instruction can switch the former off for it, but not the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

from builder.checks import rules
from builder.checks.rules import Rule
from builder.checks.settings import Settings
from builder.dockerfile.ast import AnyInstruction, Arg, From
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.parser import ReadLine, with_plain_lead
from builder.text import Span

Found = tuple[Rule, str, Span]
BLANKS = re.compile(r"[\t\v\f\r ]+")
RESERVED = frozenset({"scratch", "context"})


class Line(msgspec.Struct, frozen=True):
    """An instruction as it is written.

    keyword: in the case it has there; words: of a FROM, what follows its flags; instruction: None for one
    that is wrong; gaps: whether there are empty lines in it; last: its last line, heredocs left out.
    """

    keyword: str
    words: tuple[str, ...]
    comments: tuple[str, ...]
    span: Span
    instruction: AnyInstruction | None
    gaps: bool
    last: int


def line_of(read: ReadLine) -> Line:
    """What the rules look at of a line that was read."""
    line, instruction = read
    keyword, *rest = BLANKS.split(with_plain_lead(line.text.strip(SPACE)), maxsplit=1)
    words = BLANKS.split(rest[0]) if rest and keyword.upper() == "FROM" else []
    flags = next((number for number, word in enumerate(words) if not word.startswith("--")), len(words))
    span = instruction.span if instruction else Span(line.first, 0, line.last)
    return Line(keyword, tuple(words[flags:]), line.comments, span, instruction, bool(line.gaps), line.last)


def maintainer_deprecated(line: Line) -> Iterator[str]:
    """MAINTAINER at all."""
    if line.keyword.upper() == "MAINTAINER":
        yield "MAINTAINER is outdated: name the author with LABEL org.opencontainers.image.authors"


def stage_name_casing(line: Line) -> Iterator[str]:
    """The name of a stage."""
    if len(line.words) == 3 and line.words[2] != line.words[2].lower():
        yield f"stage name {line.words[2]!r} should be in lower case"


def from_as_casing(line: Line) -> Iterator[str]:
    """AS, where FROM itself is in one case."""
    if len(line.words) < 3:
        return
    written = line.words[1]
    for fold in (str.lower, str.upper):
        if line.keyword == fold(line.keyword):
            if written != fold(written):
                yield f"{written!r} should be written in the case of {line.keyword!r}"
            return


def invalid_definition_description(line: Line) -> Iterator[str]:
    """The last comment above an ARG or a named stage."""
    match line.instruction:
        case From(name=str(name)):
            names = [name]
        case Arg(pairs=pairs):
            names = [pair.name for pair in pairs]
        case _:
            return
    if line.comments and line.comments[-1].partition(" ")[0] not in names:
        wanted = names[0] if len(names) == 1 else "<name>"
        keyword = line.keyword.upper()
        yield f"the comment above {keyword} should have the form `# {wanted} <description>`"


LINE_RULES: tuple[tuple[Rule, Callable[[Line], Iterator[str]]], ...] = (
    (rules.MAINTAINER_DEPRECATED, maintainer_deprecated),
    (rules.STAGE_NAME_CASING, stage_name_casing),
    (rules.FROM_AS_CASING, from_as_casing),
    (rules.INVALID_DEFINITION_DESCRIPTION, invalid_definition_description),
)


def no_empty_continuation(lines: tuple[Line, ...]) -> Iterator[tuple[str, Span]]:
    """Empty lines inside an instruction; told of its last line."""
    for line in lines:
        if line.gaps:
            yield "an empty line inside a continued instruction", Span(line.last)


def reserved_stage_name(lines: tuple[Line, ...]) -> Iterator[tuple[str, Span]]:
    """Stages that are called like something else that FROM and --from know."""
    for stage in _stages(lines):
        if stage.name in RESERVED:
            yield (
                f"stage name {stage.name!r} is taken: it means something else after FROM or --from=",
                stage.span,
            )


def duplicate_stage_name(lines: tuple[Line, ...]) -> Iterator[tuple[str, Span]]:
    """The later stages of one name."""
    first: dict[str, int] = {}
    for stage in _stages(lines):
        if stage.name in first:
            yield f"stage name {stage.name!r} is taken by the stage of line {first[stage.name]}", stage.span
        elif stage.name:
            first[stage.name] = stage.span.line


def consistent_instruction_casing(lines: tuple[Line, ...]) -> Iterator[tuple[str, Span]]:
    """Keywords that are not in the case that most are in; upper case, if there is no majority."""
    counted = lines[_first_stage(lines) :]
    upper = sum(line.keyword == line.keyword.upper() for line in counted)
    lower = sum(line.keyword == line.keyword.lower() for line in counted)
    fold, case = (str.lower, "lower") if lower > upper else (str.upper, "upper")
    for line in counted:
        if line.keyword != fold(line.keyword):
            yield f"{line.keyword!r} should be in {case} case, as most instructions are", line.span


FILE_RULES: tuple[tuple[Rule, Callable[[tuple[Line, ...]], Iterator[tuple[str, Span]]]], ...] = (
    (rules.RESERVED_STAGE_NAME, reserved_stage_name),
    (rules.DUPLICATE_STAGE_NAME, duplicate_stage_name),
    (rules.CONSISTENT_INSTRUCTION_CASING, consistent_instruction_casing),
)


def find_in_lines(lines: tuple[Line, ...], settings: Settings) -> Iterator[Found]:
    """What the line rules find, instruction by instruction."""
    for line in lines:
        own = settings.below(line.comments)
        for rule, look in LINE_RULES:
            if own.allows(rule):
                yield from ((rule, message, line.span) for message in look(line))


def find_in_file(lines: tuple[Line, ...], settings: Settings) -> Iterator[Found]:
    """What the file rules find."""
    for rule, look in FILE_RULES:
        if settings.allows(rule):
            yield from ((rule, message, span) for message, span in look(lines))


def find_gaps(lines: tuple[Line, ...], settings: Settings) -> Iterator[Found]:
    """What is found of empty lines, which no comment can switch off."""
    if settings.allows(rules.NO_EMPTY_CONTINUATION):
        for message, span in no_empty_continuation(lines):
            yield rules.NO_EMPTY_CONTINUATION, message, span


def _stages(lines: tuple[Line, ...]) -> Iterator[From]:
    return (line.instruction for line in lines if isinstance(line.instruction, From))


def _first_stage(lines: tuple[Line, ...]) -> int:
    starts = (number for number, line in enumerate(lines) if isinstance(line.instruction, From))
    return next(starts, len(lines))
