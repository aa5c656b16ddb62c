"""The Dockerfile language: text to frozen values. Pure.

`parse` and `to_text` are for other programs: editors, formatters, whatever wants to know what is in a
Dockerfile.

    >>> from builder.dockerfile import parse, to_text
    >>> dockerfile = parse("FROM alpine:3.20 AS base\\nRUN --network=none make\\n")
    >>> [instruction.keyword for instruction in dockerfile.instructions]
    ['FROM', 'RUN']
    >>> dockerfile.instructions[1].flag("network"), dockerfile.instructions[1].span.line
    ('none', 2)
    >>> to_text(dockerfile) == dockerfile.source.text
    True

The values are those of `builder.dockerfile.ast`: words are as written, with their quotes and variables, and
every instruction has its span and the comments above it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import Dockerfile


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """The syntax tree of a Dockerfile's text.

    `name` is what errors call the file. Raises DockerfileError for the first thing that is wrong: its
    `message` says what, its `location` where (lines count from 1, columns from 0).
    """
    # Imported here: modules of this package are used where loading the grammar's parser would be too dear.
    from builder.dockerfile.parser import parse as parse_source
    from builder.text import SourceText

    return parse_source(SourceText(name, text))


def to_text(dockerfile: Dockerfile) -> str:
    """A text that parses to the same tree, but for places: every instruction on one line, where it fits."""
    from builder.dockerfile.printer import to_text as print_tree

    return print_tree(dockerfile)
