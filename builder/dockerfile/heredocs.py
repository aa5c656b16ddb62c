"""Which words of a joined line open heredocs, and what their delimiters are. Pure.

The line is parted as a shell would, always with the backslash as the escape character; a whole word must be
`<<NAME`, with a descriptor in front and a dash behind the arrows where wanted. Whether the instruction can
have heredocs at all is not known here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from builder.dockerfile import words
from builder.dockerfile.ast import Add, Copy, without_tabs

OPENING = re.compile(r"(\d*)<<(-?)[\t\n\f\r ]*([^<]*)", re.ASCII)


class Marker(NamedTuple):
    """A word that opens a heredoc: as written, and what is in it. `quoted`: the delimiter was, in part."""

    text: str
    name: str
    descriptor: str
    strip_tabs: bool
    quoted: bool


class InlineFile(NamedTuple):
    """A file that COPY or ADD make from a heredoc: its name, and its text before variables are filled in."""

    name: str
    text: str
    expand: bool


def find_markers(line: str) -> list[Marker]:
    """The heredocs that a line opens, in order; none if a quote stays open. Raises WordError."""
    if "<<" not in line:
        return []
    found = [_read(word) for word in words.split_raw(line)]
    return [marker for marker in found if marker is not None]


def is_marker(word: str) -> bool:
    """Whether a word, as COPY and ADD part them, opens a heredoc."""
    return _read_source(word) is not None


def split_sources(step: Copy | Add) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
    """The sources that are paths, and those that are heredocs.

    A word counts by itself: one that opens no heredoc of the line, as in an array, is an empty file. Of two
    bodies under one name the last counts for both.
    """
    bodies = {heredoc.name: heredoc.content for heredoc in step.heredocs}
    paths: list[str] = []
    files: list[InlineFile] = []
    for word in step.sources:
        if (marker := _read_source(word)) is None:
            paths.append(word)
            continue
        content = bodies.get(marker.name, "")
        if marker.strip_tabs:
            content = without_tabs(content)
        files.append(InlineFile(marker.name, content, expand=not marker.quoted))
    return tuple(paths), tuple(files)


def _read_source(word: str) -> Marker | None:
    try:
        return _read(word)
    except words.WordError:
        return None


def _read(word: str) -> Marker | None:
    match = OPENING.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = words.unquote(match[3])
    # Quotes with nothing in them vanish when they are taken off, but are a word of their own all the same.
    if len(names) != 1 or len(words.split_raw(match[3])) != 1:
        return None
    name = names[0]
    quoted = _quotes(match[3]) != _quotes(name)
    return Marker(word, name, match[1], strip_tabs=match[2] == "-", quoted=quoted)


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
