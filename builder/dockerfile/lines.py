"""Text to logical lines: what must be known before any grammar can be asked.

A logical line is an instruction as one string, with a map from each of its characters back to the text, the
comments above it, and what opens or fills a gap in it. The order of things, none of it context-free:

    1. a byte order mark is dropped;
    2. directives (`# escape=…`, `# check=…`, `# syntax=…`) stand at the very top and nowhere else; anything
       that is none ends them. `check` and `syntax` alone are read below a shebang, too;
    3. white space in front of an instruction is dropped, that of its continued lines is kept;
    4. a line goes on in the next if it ends in the escape character (blanks may follow) and that is not
       escaped itself; two or three of them at a line's end do not continue it. Nothing goes between lines;
    5. comments and empty lines vanish from it, inside a continued line too, even between its quotes; the
       reader keeps every comment aside;
    6. the bodies of heredocs follow the joined line, raw, each up to a line that is its delimiter. Which
       words open one is known only when the line is parsed, so the caller asks for the bodies.

Pure. It never knows what an instruction means.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import msgspec

from builder.dockerfile.ast import Comment, Directive, Heredoc
from builder.dockerfile.blanks import SPACE
from builder.dockerfile.heredocs import Marker
from builder.errors import DockerfileError
from builder.text import Location, SourceText, Span

MAX_LINE = 64 * 1024  # bytes; a line of that many is refused
DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
KNOWN_DIRECTIVES = frozenset({"syntax", "check", "escape"})
# The frontends that stand for this very language, wherever they are mirrored; none is ever fetched.
OWN_FRONTEND = re.compile(r"(?:[^/]+/)*docker/dockerfile(?:-upstream)?(?:[:@].*)?")


def is_own_frontend(name: str) -> bool:
    """Whether a frontend is one for this very language."""
    return OWN_FRONTEND.fullmatch(name) is not None


class Piece(msgspec.Struct, frozen=True):
    """A stretch of a logical line: where it starts in there, and where in the text."""

    offset: int
    line: int
    column: int


class LogicalLine(msgspec.Struct, frozen=True):
    """An instruction on one line. `last` is its last physical line, heredocs left out.

    `comments` are those above it, back to the instruction before, to an empty `#` or the directives; `gaps`
    are the numbers of the empty lines inside it.
    """

    text: str
    first: int
    last: int
    pieces: tuple[Piece, ...]
    comments: tuple[str, ...] = ()
    gaps: tuple[int, ...] = ()

    def span(self, start: int, end: int) -> Span:
        """The place of the characters from `start` up to `end`."""
        line, column = self._place(start)
        end_line, end_column = self._place(max(start, end - 1))
        return Span(line, column, end_line, end_column + 1)

    def _place(self, offset: int) -> tuple[int, int]:
        piece = self.pieces[bisect_right(self.pieces, offset, key=lambda piece: piece.offset) - 1]
        return piece.line, piece.column + offset - piece.offset


class Reader:
    """Reads one text, from top to bottom. Raises DockerfileError, placed."""

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self.directives: tuple[Directive, ...] = ()
        self.comments: list[Comment] = []
        self.escape = "\\"
        self._lines = source.text.removeprefix("\ufeff").split("\n")
        self._marked = len(source.text) - len(source.text.removeprefix("\ufeff"))
        self._at = 0
        self._above: list[str] = []
        self._read_directives()

    def next_line(self) -> LogicalLine | None:
        """The next instruction, None at the end of the text."""
        while self._at < len(self._lines):
            raw = self._physical()
            text = raw.rstrip("\r\n").lstrip(SPACE)
            if text.startswith("#"):
                self.comments.append(self._comment(self._at))
                self._describe(raw)
                continue
            start = len(raw.rstrip("\r\n")) - len(text) + (self._marked if self._at == 1 else 0)
            text, goes_on = self._cut_continuation(text)
            if text or goes_on:
                return self._join(text, start, goes_on=goes_on)
        return None

    def read_heredocs(self, line: LogicalLine, markers: list[Marker]) -> tuple[Heredoc, ...]:
        """The bodies that follow a line which opens these."""
        return tuple(self._read_heredoc(line, marker) for marker in markers)

    @property
    def line(self) -> int:
        """The number of the physical line that was read last."""
        return min(self._at, len(self._lines) - (not self._lines[-1]))

    def _physical(self) -> str:
        raw = self._lines[self._at]
        self._at += 1
        if len(raw) * 3 >= MAX_LINE and len(raw.encode("utf-8", "surrogatepass")) >= MAX_LINE:
            self._refuse(self._at, f"a line of {MAX_LINE // 1024} KiB or more", "line-too-long")
        return raw

    def _comment(self, number: int, inside: int | None = None) -> Comment:
        """The comment that stands on a line."""
        line = self._lines[number - 1].rstrip(SPACE)
        text = line.lstrip(SPACE)
        column = len(line) - len(text) + (self._marked if number == 1 else 0)
        return Comment(text, Span(number, column, number, column + len(text)), inside)

    def _describe(self, raw: str) -> None:
        # Of an indented comment the hash stays, so it is not the empty one that ends a block.
        comment = raw[1:].strip(SPACE)
        if comment:
            self._above.append(comment)
        else:
            self._above.clear()

    def _cut_continuation(self, text: str) -> tuple[str, bool]:
        body = text.rstrip(" \t")
        if body.endswith(self.escape) and body[-2:-1] != self.escape:
            return body[:-1], True
        return text, False

    def _join(self, text: str, column: int, *, goes_on: bool) -> LogicalLine:
        first, parts, pieces, gaps = self._at, [text], [Piece(0, self._at, column)], []
        length, last, noted = len(text), self._at, len(self.comments)
        while goes_on and self._at < len(self._lines) - (not self._lines[-1]):
            text = self._physical().rstrip("\r\n")
            last = self._at
            bare = text.lstrip(SPACE)
            if not bare:
                gaps.append(self._at)
                continue
            if bare.startswith("#"):
                self.comments.append(self._comment(self._at, length))
                continue
            text, goes_on = self._cut_continuation(text)
            pieces.append(Piece(length, self._at, 0))
            parts.append(text)
            length += len(text)
        comments, self._above = tuple(self._above), []
        text = "".join(parts)
        if noted < len(self.comments):
            self._settle_comments(noted, text)
        return LogicalLine(text, first, last, tuple(pieces), comments, tuple(gaps))

    def _settle_comments(self, noted: int, text: str) -> None:
        """Count what stands before the comments inside a line without the blanks around the instruction."""
        lead, length = len(text) - len(text.lstrip(SPACE)), len(text.strip(SPACE))
        for at, comment in enumerate(self.comments[noted:], noted):
            inside = min(max((comment.inside or 0) - lead, 0), length)
            self.comments[at] = Comment(comment.text, comment.span, inside)

    def _read_heredoc(self, line: LogicalLine, marker: Marker) -> Heredoc:
        body: list[str] = []
        first = self._at + 1
        while self._at < len(self._lines):
            raw = self._physical()
            end = raw.rstrip("\r\n")
            if (end.lstrip("\t") if marker.strip_tabs else end) == marker.name:
                return Heredoc(
                    name=marker.name,
                    content="".join(part + "\n" for part in body),
                    expand=not marker.quoted,
                    strip_tabs=marker.strip_tabs,
                    descriptor=marker.descriptor,
                    span=Span(first, 0, max(first, self._at - 1)),
                    marker=marker.text,
                )
            body.append(raw)
        raise DockerfileError(
            f"the heredoc {marker.text} is not ended",
            code="unterminated-heredoc",
            location=Location(self.source, Span(line.first, 0, line.last)),
            hint=f"it ends at a line that is {marker.name!r} and nothing else",
        )

    def _read_directives(self) -> None:
        shebang = self._lines[0].startswith("#!")
        found: dict[str, Directive] = {}
        seen: set[str] = set()
        indented = False
        for number, raw in enumerate(self._lines[shebang:], 1 + shebang):
            text = raw.lstrip(SPACE)
            indented = indented or text != raw
            match = DIRECTIVE.fullmatch(text[1:].strip(SPACE)) if text.startswith("#") else None
            name = match[1].lower() if match else ""
            if match is None or name not in KNOWN_DIRECTIVES:
                break
            column = len(raw) - len(text) + (self._marked if number == 1 else 0)
            if name in seen and not shebang:
                self._refuse(number, f"the directive {name} is given twice", "duplicate-directive")
            seen.add(name)
            # The two that tools look for are read up to a space, and in the first column only.
            if name == "escape" or not indented:
                value = match[2] if name == "escape" else match[2].split(" ", 1)[0]
                found.setdefault(name, Directive(name, value, Span(number, column)))
            elif not shebang:
                self.comments.append(self._comment(number))
            if not shebang:
                self._at = number
        if shebang:
            found.pop("escape", None)
        self.directives = tuple(found.values())
        if "escape" in found:
            self._set_escape(found["escape"])
        if "syntax" in found:
            self._check_frontend(found["syntax"])

    def _set_escape(self, directive: Directive) -> None:
        if directive.value not in ("\\", "`"):
            message = f"the escape character is a backslash or a backtick, not {directive.value!r}"
            self._refuse(directive.span.line, message, "bad-escape-directive")
        self.escape = directive.value

    def _check_frontend(self, directive: Directive) -> None:
        if not is_own_frontend(directive.value):
            message = (
                f"the frontend {directive.value} is not available: Dockerfiles are read by pybuild itself"
            )
            hint = "leave the line out, or write # syntax=docker/dockerfile:1"
            self._refuse(directive.span.line, message, "unknown-frontend", hint)

    def _refuse(self, line: int, message: str, code: str, hint: str | None = None) -> None:
        raise DockerfileError(message, code=code, location=Location(self.source, Span(line)), hint=hint)
