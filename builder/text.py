"""Places in a text: what an error or a warning points at.

Lines count from 1 and columns from 0, in characters of the file as it was read. No I/O.
"""

from __future__ import annotations

import msgspec


class Span(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of text; `end_line` is inclusive, `end_column` exclusive (-1: to the line's end)."""

    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = -1

    @property
    def last_line(self) -> int:
        """The last line of the span, also where only the first was given."""
        return self.end_line or self.line


class SourceText(msgspec.Struct, frozen=True):
    """A text file that was read: the name as people know it, and the text."""

    name: str
    text: str

    def lines(self) -> list[str]:
        """The physical lines, without their ends."""
        return self.text.replace("\r\n", "\n").split("\n")


class Location(msgspec.Struct, frozen=True):
    """A span in a named text. `begins`: the line at which what holds it begins, 0 for that of the span."""

    source: SourceText
    span: Span
    begins: int = 0

    def __str__(self) -> str:
        place = f"{self.source.name}:{self.span.line}"
        return f"{place} (begins at line {self.begins})" if 0 < self.begins < self.span.line else place


def excerpt(location: Location, around: int = 2) -> str:
    """The span's lines with their numbers, `>>>` before those meant, `around` lines on each side."""
    lines = location.source.lines()
    first, last = location.span.line, location.span.last_line
    if not lines[-1] and last < len(lines):  # what comes after the text's last newline is no line
        lines.pop()
    rows = []
    for number in range(max(1, first - around), min(len(lines), last + around) + 1):
        marker = ">>>" if first <= number <= last else "   "
        rows.append(f"{number:4} | {marker} {lines[number - 1]}".rstrip())
        column, end = location.span.column, location.span.end_column
        if number == first == last and end > column:
            # Tabs stay, so that the markers are under what they mean however wide those are.
            before = "".join(char if char == "\t" else " " for char in lines[number - 1][:column])
            rows.append("     |     " + before.ljust(column) + "^" * (end - column))
    return "\n".join(rows)
