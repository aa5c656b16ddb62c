"""Text to tree to text to tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builder.dockerfile import parse, to_text
from builder.dockerfile.ast import Dockerfile
from builder.dockerfile.blanks import SPACE
from builder.errors import DockerfileError

CASES = Path(__file__).parents[2] / "golden" / "dockerfile"
PIECES = st.sampled_from([
    "FROM scratch\n", "FROM scratch", "\n", "RUN a", " \\\n", "\\\n", "\\", "# escape=`\n", "\r\n", " <<E",
    "# check=skip=A\n", "#!sh\n", "# words\n", "#\n", "  # inside\n", "`\n", "\ufeff", "\nx\nE\n", "ARG A",
    "ONBUILD RUN a", 'CMD ["a"]', "\v", "\xa0", "COPY <<-'E' /a", "ENV A=b", "label", "\udcff", "<<", " ",
])  # fmt: skip


def meaning(dockerfile: Dockerfile) -> Any:
    """All of a tree but places."""

    def plain(value: Any) -> Any:
        match value:
            case msgspec.Struct():
                names = [name for name in value.__struct_fields__ if name not in ("span", "gaps", "source")]
                return type(value).__name__, [plain(getattr(value, name)) for name in names]
            case tuple():
                return [plain(item) for item in value]
        return value

    return plain(dockerfile)


def order(dockerfile: Dockerfile) -> list[str]:
    """What stands above what: comments, and the instructions that are before, around or behind them."""
    items = [(step.span.line, step.keyword) for step in dockerfile.instructions]
    items += [(comment.span.line, comment.text) for comment in dockerfile.comments]
    return [text for _, text in sorted(items)]


def comment_lines(dockerfile: Dockerfile) -> Iterator[int]:
    """The lines of a source that begin with `#`, but for directives and what belongs to heredocs."""
    lines = dockerfile.source.text.removeprefix("\ufeff").split("\n")
    taken = {item.span.line for item in dockerfile.directives if not lines[0].startswith("#!")}
    for step in dockerfile.instructions:
        if step.heredocs:
            taken.update(range(step.heredocs[0].span.line, step.span.last_line + 1))
    for number, line in enumerate(lines, 1):
        if line.lstrip(SPACE).startswith("#") and number not in taken:
            yield number


def printed_comments(dockerfile: Dockerfile) -> Iterator[str]:
    """The comments that the printed text has."""
    printed = parse(to_text(dockerfile))
    lines = printed.source.text.split("\n")
    return (lines[number - 1] for number in comment_lines(printed))


@pytest.mark.parametrize("folder", sorted(CASES.iterdir()), ids=lambda folder: folder.name)
def test_golden_files_survive(folder: Path) -> None:
    text = (folder / "Dockerfile").read_text(encoding="utf-8", errors="surrogateescape")
    try:
        dockerfile = parse(text)
    except DockerfileError:
        return

    assert meaning(parse(to_text(dockerfile))) == meaning(dockerfile)


@given(st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_tree_survives(text: str) -> None:
    try:
        dockerfile = parse("FROM scratch\n" + text) if len(text) % 2 else parse(text)
    except DockerfileError as error:
        event(error.code)
        return

    again = parse(to_text(dockerfile))

    assert meaning(again) == meaning(dockerfile)
    assert order(again) == order(dockerfile)
    assert to_text(again) == to_text(dockerfile)


@given(st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=300, deadline=None)
def test_every_comment_of_a_text_is_in_the_tree(text: str) -> None:
    try:
        dockerfile = parse("FROM scratch\n" + text) if len(text) % 2 else parse(text)
    except DockerfileError as error:
        event(error.code)
        return

    lines = dockerfile.source.lines()
    spans = [comment.span for comment in dockerfile.comments]

    assert [span.line for span in spans] == list(comment_lines(dockerfile))
    assert [lines[span.line - 1][span.column : span.end_column] for span in spans] == [
        comment.text for comment in dockerfile.comments
    ]
    assert [item.strip(SPACE) for item in printed_comments(dockerfile)] == [
        comment.text for comment in dockerfile.comments
    ]


def test_text_as_it_is_printed() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n\n# an image\nFROM  scratch \\\n\n  AS a\n"
        "# x\n\n\nCOPY <<E /b\n c\nE\n#the end\t\n#\n"
    )

    assert to_text(parse(text)) == (
        "# syntax=docker/dockerfile:1\n\n# an image\nFROM  scratch   AS a\n"
        "# x\n\nCOPY <<E /b\n c\nE\n#the end\n#\n"
    )


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("RUN a \\\n# one\n\n  # two\n  b \\\n\\\n\n c", "RUN a \\\n# one\n  # two\n  b  c\n"),
        ("RUN a \\\n# one\n  \\\n# two\n  b", "RUN a \\\n# one\n  \\\n# two\n  b\n"),
        ("\\\n# one\n  RUN a", "\\\n# one\nRUN a\n"),
        ("RUN a \\\n  # one\n\n", "RUN a\\\n  # one\n"),
        ("RUN a\\ \\\n# one", "RUN a\\ \\\n# one\n"),
        ("ONBUILD RUN a \t\\\n# one\n  \\\n# two", "ONBUILD RUN a \t  \\\n# one\n# two\n"),
        ("COPY <<E \\\n# one\n /b\n# body\nE\n# two", "COPY <<E \\\n# one\n /b\n# body\nE\n# two\n"),
        ("# escape=`\n#\n  # x", "# escape=`\n#\n  # x\n"),
    ],
)
def test_comments_stay_in_their_places(text: str, printed: str) -> None:
    assert to_text(parse(f"FROM scratch\n{text}")) == f"FROM scratch\n{printed}"


@pytest.mark.parametrize(
    "text",
    [
        "\n# escape=`\nFROM scratch\nRUN a `\n",
        "# check=skip=A\n\n# escape=`\nFROM scratch\nRUN a `\n",
        " # escape=`\n# check=skip=all\nFROM scratch\nRUN a \\\nRUN b\n",
        "  # check=skip=all\n# words\nFROM scratch\n",
        "#!shebang\n# syntax=docker/dockerfile:1 and more\n\n# check=skip=all\nFROM scratch\n",
        "\ufeff# check=skip=A\n# words\nFROM scratch\n",
        "\ufeff# words\nFROM scratch\n",
    ],
)
def test_comments_and_directives_do_not_become_each_other(text: str) -> None:
    dockerfile = parse(text)

    again = parse(to_text(dockerfile))

    assert meaning(again) == meaning(dockerfile)
    assert to_text(dockerfile) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    "part", ["x" * 50_000, "# " * 20_000 + "y", "é#" * 20_000 + "z", "\\\\ " * 15_000 + "z"]
)
def test_a_line_that_was_joined_is_parted_where_it_may_be(part: str) -> None:
    dockerfile = parse("FROM scratch\nRUN a" + f" {part}\\\n" * 4 + "end\n")

    text = to_text(dockerfile)

    assert max(len(line.encode()) for line in text.split("\n")) < 65_536
    assert meaning(parse(text)) == meaning(dockerfile)
