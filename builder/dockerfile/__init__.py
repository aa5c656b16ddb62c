"""The Dockerfile language: text to frozen values. Pure.

`parse`, `read` and `to_text` are for other programs: editors, formatters, whatever wants to know what is in a
Dockerfile.

    >>> from builder.dockerfile import parse, read, to_text
    >>> dockerfile = parse("FROM alpine:3.20 AS base\\nRUN --network=none make # all\\n# the end\\n")
    >>> [instruction.keyword for instruction in dockerfile.instructions]
    ['FROM', 'RUN']
    >>> dockerfile.instructions[1].flag("network"), dockerfile.instructions[1].span.line
    ('none', 2)
    >>> [(comment.text, comment.span.line) for comment in dockerfile.comments]
    [('# the end', 3)]
    >>> to_text(dockerfile) == dockerfile.source.text
    True

What is wrong is raised by `parse`, and gathered by `read`, which goes on behind it:

    >>> reading = read("FROM alpine\\nCOPPY a /a\\nCOPY --chwon=1 a /b\\nRUN make\\n")
    >>> [(error.location.span.line, error.message, error.hint) for error in reading.errors]
    [(2, "'COPPY' is no instruction", 'did you mean COPY?'), \
(3, 'COPY has no flag --chwon', 'did you mean --chown?')]
    >>> [line.line.first for line in reading.lines if line.instruction]
    [1, 4]

The values are those of `builder.dockerfile.ast`: words are as written, with their quotes and variables;
instructions, flags, heredocs, directives and comments have their spans.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.dockerfile.ast import Dockerfile
    from builder.dockerfile.parser import Reading


def parse(text: str, name: str = "Dockerfile") -> Dockerfile:
    """The syntax tree of a Dockerfile's text.

    `name` is what errors call the file. Raises DockerfileError for the first thing that is wrong: its
    `message` says what, its `location` where (lines count from 1, columns from 0).
    """
    return read(text, name).dockerfile()


def read(text: str, name: str = "Dockerfile") -> Reading:
    """All that can be read of a Dockerfile's text, and every error in it; raises none of them.

    `lines` are the instructions, None for one that is wrong; `errors` are in the order of the file, each
    with its `message`, `location` and, where one is near, a `hint`.
    """
    # Imported here: modules of this package are used where loading the grammar's parser would be too dear.
    from builder.dockerfile.parser import read as read_source
    from builder.text import SourceText

    return read_source(SourceText(name, text))


def to_text(dockerfile: Dockerfile) -> str:
    """A text that parses to the same tree, but for places, all comments kept.

    Every instruction stands on one line, where it fits and no comment parts it.
    """
    from builder.dockerfile.printer import to_text as print_tree

    return print_tree(dockerfile)
