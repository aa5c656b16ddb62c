"""A syntax tree back to text: what it gives parses to the same tree, but for places. Pure.

Every instruction stands on one line, unless that were longer than a line may be, or comments stand inside
it; its heredocs stand below. Comments stay as and where they are written, and of empty lines that part two
things one stays: so nothing becomes a directive, or a description of an instruction, that was none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from builder.dockerfile.ast import AnyInstruction, Comment, Directive, Dockerfile, Onbuild
from builder.dockerfile.blanks import SPACE
from builder.text import Span

LONGEST = 60_000  # characters; a line of 64 KiB is refused
WIDEST = 4  # bytes of a character in UTF-8


def to_text(dockerfile: Dockerfile) -> str:
    """The text of a syntax tree that a parser made."""
    lines: list[str] = []
    above = 0
    for span, written in sorted(_parts(dockerfile), key=lambda part: part[0].line):
        if span.line > above + 1:
            lines.append("")
        lines += written
        above = span.last_line
    return "".join(f"{line}\n" for line in lines)


def _parts(dockerfile: Dockerfile) -> Iterator[tuple[Span, list[str]]]:
    """All that stands on lines of its own, and how it is written."""
    inner: deque[Comment] = deque()
    outer: set[int] = set()
    marked = dockerfile.source.text.startswith("\ufeff")
    for comment in dockerfile.comments:
        if comment.inside is None:
            outer.add(comment.span.line)
            yield comment.span, [_indented(comment, comment.text, marked=marked)]
        else:
            inner.append(comment)
    for directive in dockerfile.directives:
        if directive.span.line not in outer:  # below a shebang they are comments as well
            text = f"# {directive.name}={directive.value}"
            yield directive.span, [_indented(directive, text, marked=marked)]
    for instruction in dockerfile.instructions:
        own = []
        while inner and inner[0].span.line <= instruction.span.last_line:
            own.append(inner.popleft())
        written = _joinable(instruction, own, dockerfile.escape)
        bodies = [heredoc.content + heredoc.name for heredoc in instruction.heredocs]
        yield instruction.span, [*written, *bodies]


def _indented(item: Comment | Directive, text: str, *, marked: bool) -> str:
    """A line where it stood: that it is indented has a meaning. A byte order mark is not printed."""
    return " " * (item.span.column - (marked and item.span.line == 1)) + text


def _line(instruction: AnyInstruction) -> str:
    """The instruction; of a trigger also the blanks behind it, which are kept."""
    line = instruction.original
    if isinstance(instruction, Onbuild):
        trigger = instruction.trigger.partition("\n")[0]
        line += trigger[len(trigger.rstrip(SPACE)) :]
    return line


def _joinable(instruction: AnyInstruction, comments: list[Comment], escape: str) -> list[str]:
    """The lines that join to an instruction, each short enough, with the comments between them."""
    line, start = _line(instruction), 0
    lines: list[str] = []
    for comment in comments:
        end = comment.inside or 0
        if end == len(instruction.original):
            end = len(line)
        if end > start or not lines:
            *parted, last = _parted(line[start:end], escape)
            lines += [*parted, last + " " * last.endswith(escape) + escape]
            start = end
        lines.append(" " * comment.span.column + comment.text)
    if start < len(line):
        *parted, last = _parted(line[start:], escape)
        lines += [*parted, last + _end(last, escape)]
    return lines


def _parted(line: str, escape: str) -> list[str]:
    """A line in lines that join to it, each short enough."""
    lines = []
    while len(line) * WIDEST >= LONGEST and (at := _cut(line, escape)):
        lines.append(line[:at] + escape)
        line = line[at:]
    return [*lines, line]


def _end(line: str, escape: str) -> str:
    """What keeps a lone escape character at the end from joining what follows: a blank that no line keeps,
    or, where blanks follow it, which only a trigger at the end of a file can have, one more to join them."""
    body = line.rstrip(" \t")
    if not body.endswith(escape) or body[-2:-1] == escape:
        return ""
    return "\v" if body == line else escape


def _cut(line: str, escape: str) -> int:
    """Where to part a line: not behind an escape character, nor before what would vanish; 0 for nowhere."""
    for at in range(min(len(line), LONGEST // WIDEST) - 1, 0, -1):
        if line[at - 1] != escape and line[at] not in SPACE and line[at] != "#":
            return at
    return 0
