"""A syntax tree back to text: what it gives parses to the same tree, but for places. Pure.

Every instruction stands on one line, unless that were longer than a line may be; its comments stand above it,
its heredocs below. An empty line, or an empty comment, goes where comments could be taken for directives.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.dockerfile.ast import AnyInstruction, Dockerfile, Onbuild
from builder.dockerfile.blanks import SPACE

LONGEST = 60_000  # characters; a line of 64 KiB is refused
WIDEST = 4  # bytes of a character in UTF-8


def to_text(dockerfile: Dockerfile) -> str:
    """The text of a syntax tree that a parser made."""
    lines = list(_heading(dockerfile))
    for instruction in dockerfile.instructions:
        lines += (_comment(comment) for comment in instruction.comments)
        lines += _joinable(_line(instruction), dockerfile.escape)
        for heredoc in instruction.heredocs:
            lines.append(heredoc.content + heredoc.name)
    return "".join(f"{line}\n" for line in lines)


def _heading(dockerfile: Dockerfile) -> Iterator[str]:
    """The directives, and what parts them from comments; a shebang stays, as below it only some count."""
    has_shebang = dockerfile.source.text.removeprefix("\ufeff").startswith("#!")
    if has_shebang:
        yield "#!"
    for directive in dockerfile.directives:
        yield f"# {directive.name}={directive.value}"
    if has_shebang:
        yield "#"  # or what is above would be the first instruction's comments
    elif dockerfile.instructions and dockerfile.instructions[0].comments:
        yield ""


def _comment(text: str) -> str:
    return f"# {text}" if len(text) * WIDEST < LONGEST else f"#{text}"


def _line(instruction: AnyInstruction) -> str:
    """The instruction; of a trigger also the blanks behind it, which are kept."""
    line = instruction.original
    if isinstance(instruction, Onbuild):
        trigger = instruction.trigger.partition("\n")[0]
        line += trigger[len(trigger.rstrip(SPACE)) :]
    return line


def _joinable(line: str, escape: str) -> list[str]:
    """The lines that join to this one, each short enough."""
    lines = []
    while len(line) * WIDEST >= LONGEST and (at := _cut(line, escape)):
        lines.append(line[:at] + escape)
        line = line[at:]
    return [*lines, line + _end(line, escape)]


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
