"""A Dockerfile to its syntax tree.

`lines` finds the instructions, the grammar (grammar/*.lark) reads each on its own, from the start symbol
that its keyword names, and `instructions` makes values of the trees.

Every text gives a Dockerfile or a DockerfileError with a place; nothing else comes out.
"""

from __future__ import annotations

import contextlib
import re
from typing import NamedTuple

from msgspec.structs import replace

from builder.dockerfile import arrays, ast
from builder.dockerfile.automaton import Misfit, Token
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.flags import check_flags, meant, read_flag
from builder.dockerfile.grammar import Analyses, grammar
from builder.dockerfile.heredocs import Marker, find_markers
from builder.dockerfile.instructions import Form, build, check_trigger
from builder.dockerfile.lines import LogicalLine, Reader
from builder.dockerfile.words import WordError
from builder.errors import DockerfileError
from builder.text import Location, SourceText, Span

USAGE = {
    "FROM": "FROM [--platform=PLATFORM] IMAGE [AS NAME]",
    "RUN": 'RUN [FLAGS] COMMAND, or RUN [FLAGS] ["PROGRAM", "ARGUMENT", ...]',
    "CMD": 'CMD COMMAND, or CMD ["PROGRAM", "ARGUMENT", ...]',
    "ENTRYPOINT": 'ENTRYPOINT COMMAND, or ENTRYPOINT ["PROGRAM", "ARGUMENT", ...]',
    "SHELL": 'SHELL ["PROGRAM", "ARGUMENT", ...]',
    "HEALTHCHECK": "HEALTHCHECK [FLAGS] CMD COMMAND, or HEALTHCHECK NONE",
    "COPY": "COPY [FLAGS] SOURCE... DESTINATION",
    "ADD": "ADD [FLAGS] SOURCE... DESTINATION",
    "VOLUME": "VOLUME PATH...",
    "EXPOSE": "EXPOSE PORT[/PROTOCOL]...",
    "ENV": "ENV NAME=VALUE...",
    "LABEL": "LABEL NAME=VALUE...",
    "ARG": "ARG NAME[=DEFAULT]...",
    "USER": "USER NAME[:GROUP]",
    "WORKDIR": "WORKDIR PATH",
    "STOPSIGNAL": "STOPSIGNAL SIGNAL",
    "MAINTAINER": "MAINTAINER NAME",
    "ONBUILD": "ONBUILD INSTRUCTION",
}
KEYWORDS = tuple(USAGE)
WITH_ARRAY = frozenset({"RUN", "CMD", "ENTRYPOINT", "SHELL", "HEALTHCHECK", "COPY", "ADD", "VOLUME"})
WITH_HEREDOCS = frozenset({"RUN", "COPY", "ADD"})
# What is wrong with the text of a trigger already where it is written, not only where it is used.
EAGER = frozenset({"mixed-array", "no-equals", "no-value"})
FIRST_WORD = re.compile(r"[^\t\v\f\r ]*")
# A keyword and flags, with the white space behind them, which alone may be any that Unicode knows.
LEAD = re.compile(rf"[{SPACE}]*[^\t\v\f\r ]+[\t\v\f\r ]+[{SPACE}]*(?:--[^\t\v\f\r ]*[\t\v\f\r ]+[{SPACE}]*)*")
GAP = re.compile(rf"\A[{SPACE}]+|[\t\v\f\r ][{SPACE}]*")
MAX_ERRORS = 20
MAX_NOTES = 5


class ReadLine(NamedTuple):
    """A logical line, and the instruction that it is; None where it has an error."""

    line: LogicalLine
    instruction: ast.AnyInstruction | None


class Reading(NamedTuple):
    """All that could be read of a Dockerfile, and what is wrong with the rest, in the order of the file.

    The lines are all there are, unless something is wrong that ends the reading: a directive, an endless line
    or heredoc, or MAX_ERRORS errors.
    """

    source: SourceText
    directives: tuple[ast.Directive, ...]
    escape: str
    lines: tuple[ReadLine, ...]
    errors: tuple[DockerfileError, ...]
    comments: tuple[ast.Comment, ...] = ()

    def dockerfile(self) -> ast.Dockerfile:
        """The syntax tree. Raises the first error, which tells of those behind it."""
        if self.errors:
            first, *others = self.errors
            first.notes = tuple(f"{error.location}: {error.message}" for error in others[:MAX_NOTES])
            raise first
        instructions = tuple(line.instruction for line in self.lines if line.instruction)
        return ast.Dockerfile(self.source, self.directives, self.escape, instructions, self.comments)


def parse(source: SourceText, kept: Analyses | None = None) -> ast.Dockerfile:
    """The syntax tree of a Dockerfile. Raises DockerfileError with a location.

    Bytes that are not UTF-8 are expected as `surrogateescape` leaves them. `kept`: where the grammar's
    analysis is kept from one process to the next.
    """
    return read(source, kept).dockerfile()


def read(source: SourceText, kept: Analyses | None = None) -> Reading:
    """As `parse`, but going on behind a line that is wrong. Every error has a location; none is raised."""
    try:
        reader = Reader(source)
    except DockerfileError as error:
        return Reading(source, (), "\\", (), (error,))
    grammar(reader.escape, KEYWORDS, kept)
    lines: list[ReadLine] = []
    errors: list[DockerfileError] = []
    try:
        while len(errors) < MAX_ERRORS and (line := reader.next_line()) is not None:
            lines.append(ReadLine(line, _read_line(reader, line, errors)))
    except DockerfileError as error:
        errors.append(error)
    errors += _check_stages(source, lines, None if errors else reader.line)
    errors.sort(key=lambda error: error.location.span.line if error.location else 0)
    comments = tuple(reader.comments)
    return Reading(source, reader.directives, reader.escape, tuple(lines), tuple(errors), comments)


def _read_line(reader: Reader, line: LogicalLine, errors: list[DockerfileError]) -> ast.AnyInstruction | None:
    """The instruction that a line is. Raises DockerfileError only where the reading cannot go on."""
    parser = _LineParser(reader, line)
    try:
        return parser.instruction()
    except DockerfileError as error:
        errors.append(error)
    parser.pass_over_heredocs()
    return None


def parse_trigger(trigger: str, escape: str, location: Location) -> ast.AnyInstruction:
    """The instruction that an ONBUILD text stands for; all of it is placed where it is used.

    Raises DockerfileError at that location.
    """
    reader = Reader(SourceText("ONBUILD", trigger))
    reader.escape = escape
    try:
        line = reader.next_line()
        if line is None:
            raise DockerfileError("the ONBUILD trigger holds no instruction", code="bad-trigger")
        parser = _LineParser(reader, line, location)
        if parser.keyword == "FROM":
            raise DockerfileError("the ONBUILD trigger holds a FROM", code="bad-trigger")
        instruction = parser.instruction()
        if reader.next_line() is not None:
            raise DockerfileError("the ONBUILD trigger holds several instructions", code="bad-trigger")
    except DockerfileError as error:
        hint = error.hint or f"the trigger is: {trigger}"
        raise DockerfileError(error.message, code=error.code, location=location, hint=hint) from error
    return instruction


def _check_stages(source: SourceText, lines: list[ReadLine], last: int | None) -> list[DockerfileError]:
    """What stands before the first FROM and may not; `last` is the last line of a file that may lack one."""
    for line, instruction in lines:
        if _first_word(line.text) == "FROM":
            return []
        if instruction is not None and not isinstance(instruction, ast.Arg):
            return [
                DockerfileError(
                    f"{instruction.keyword} stands before the first FROM",
                    code="no-stage",
                    location=Location(source, instruction.span),
                    hint="only ARG may stand there",
                )
            ]
    if last is None:
        return []
    message = "the Dockerfile has no FROM" if lines else "the Dockerfile has no instructions"
    return [DockerfileError(message, code="no-stage", location=Location(source, Span(max(1, last))))]


class _LineParser:
    """Parses one logical line; with a `location`, everything in it is placed there."""

    def __init__(self, reader: Reader, line: LogicalLine, location: Location | None = None) -> None:
        self.reader = reader
        self.line = line
        self.location = location
        self.text = line.text.rstrip(SPACE)
        self.keyword = _first_word(self.text)
        self.has_bodies = False

    def instruction(self) -> ast.AnyInstruction:
        """The instruction, with its heredocs read off the text."""
        try:
            form = self._parse(self.keyword, self.text)
            heredocs = self._heredocs(form)
            flags = tuple(self._flag(token) for token in form.flags)
            common = {
                "keyword": self.keyword,
                "original": self.text.lstrip(SPACE),
                "span": self._whole(),
                "flags": flags,
                "heredocs": heredocs,
                "comments": self.line.comments,
                "gaps": self.line.gaps,
            }
            instruction = build(form, self.reader.escape, self.line.text, common)
            if flags and not (form.words and form.words[0].kind == "NO_CHECK"):
                check_flags(self.keyword, flags, self._locate)
            return instruction
        except DockerfileError as error:
            error.at(self._locate(self._whole()))
            raise

    def pass_over_heredocs(self) -> None:
        """Read what follows a line that is wrong, so that a heredoc is not taken for instructions.

        Raises DockerfileError for one that is not ended.
        """
        if self.keyword in WITH_HEREDOCS and not self.has_bodies:
            with contextlib.suppress(WordError):
                self.reader.read_heredocs(self.line, find_markers(self.line.text))

    def _whole(self) -> Span:
        if self.location:
            return self.location.span
        return Span(self.line.first, 0, max(self.line.last, self.reader.line))

    def _span_of(self, keyword: str) -> Span:
        """The place of the keyword; of the whole line where that has none."""
        start = len(self.text) - len(self.text.lstrip(SPACE))
        return self.line.span(start, start + len(keyword)) if keyword else self._whole()

    def _locate(self, span: Span) -> Location:
        return self.location or Location(self.reader.source, span, self.line.first)

    def _flag(self, token: Token) -> ast.Flag:
        span = self.line.span(token.start, token.end)
        return read_flag(token.text, self.location.span if self.location else span, self.reader.escape)

    def _heredocs(self, form: Form) -> tuple[ast.Heredoc, ...]:
        markers = self._markers(form)
        self.has_bodies = True
        if not markers:
            return ()
        found = self.reader.read_heredocs(self.line, markers)
        if self.location is None:
            return found
        return tuple(replace(heredoc, span=self.location.span) for heredoc in found)

    def _markers(self, form: Form) -> list[Marker]:
        """The heredocs that the line opens; for ONBUILD those that its trigger would."""
        keyword, is_array = form.keyword, form.is_array
        if keyword == "ONBUILD":
            keyword, is_array = self._read_trigger(form.words[0].text)
        if keyword not in WITH_HEREDOCS or is_array or "<<" not in self.line.text:
            return []
        try:
            return find_markers(self.line.text)
        except WordError as error:
            raise DockerfileError(f"the name of a heredoc: {error}", code="bad-heredoc") from error

    def _read_trigger(self, text: str) -> tuple[str, bool]:
        """The keyword of a trigger, and whether its words are an array. Most faults wait for its use."""
        keyword = _first_word(text)
        check_trigger(keyword)
        if keyword not in USAGE:
            return keyword, False
        try:
            form = self._parse(keyword, text)
            if keyword in ("ENV", "LABEL"):
                build(form, self.reader.escape, "", {"keyword": keyword, "original": "", "span": Span(1)})
        except DockerfileError as error:
            if error.code in EAGER:
                raise DockerfileError(error.message, code=error.code, hint=error.hint) from error
            return keyword, False
        return keyword, form.is_array

    def _parse(self, keyword: str, text: str) -> Form:
        if keyword not in USAGE:
            raise DockerfileError(
                f"{_first_word(text, fold=False)!r} is no instruction",
                code="unknown-instruction",
                location=self._locate(self._span_of(keyword)),
                hint=meant(keyword, KEYWORDS),
            )
        try:
            tokens = grammar(self.reader.escape, KEYWORDS).read(with_plain_lead(text), keyword.lower())
        except Misfit as error:
            raise self._misfit(keyword, text, error) from error
        form = Form(keyword, tokens)
        if form.words and not form.is_array and keyword in WITH_ARRAY:
            self._refuse_mixed(keyword, text[form.words[0].start :])
        return form

    def _refuse_mixed(self, keyword: str, rest: str) -> None:
        if arrays.holds_others(rest):
            raise DockerfileError(f"the array of {keyword} may hold strings only", code="mixed-array")

    def _misfit(self, keyword: str, text: str, error: Misfit) -> DockerfileError:
        """What to say of a line that the grammar refuses."""
        usage, at = f"usage: {USAGE[keyword]}", error.at
        if at == len(text):
            if keyword in WITH_ARRAY and (lead := LEAD.match(text)):
                self._refuse_mixed(keyword, text[lead.end() :])
            if keyword in ("ENV", "LABEL") and error.expected == {"TEXT"}:
                return DockerfileError(f"{keyword} has a name but no value", code="no-value", hint=usage)
            return DockerfileError(f"{keyword} is not complete", code="incomplete", hint=usage)
        if keyword in WITH_ARRAY:
            self._refuse_mixed(keyword, text[at:])
        rest = text[at:] if len(text) - at <= 40 else text[at : at + 40] + "…"
        if keyword == "HEALTHCHECK" and (near := meant(_first_word(rest), ("CMD", "NONE"))):
            usage = f"{near} {usage}"
        # The text of a trigger does not begin where the line does.
        location = self._locate(self.line.span(at, len(text))) if text == self.text else None
        message = f"{keyword} cannot take {rest!r} here"
        return DockerfileError(message, code="syntax", location=location, hint=usage)


def with_plain_lead(text: str) -> str:
    """The text, as long as it was, with spaces that the grammar knows before the first word."""
    if text.isascii() or (lead := LEAD.match(text)) is None or lead[0].isascii():
        return text
    return GAP.sub(lambda gap: " " * len(gap[0]), lead[0]) + text[lead.end() :]


def _first_word(text: str, *, fold: bool = True) -> str:
    match = FIRST_WORD.match(text.lstrip(SPACE))
    word = match[0] if match else ""
    return word.upper() if fold else word
