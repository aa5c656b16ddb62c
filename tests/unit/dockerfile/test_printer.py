"""Text to tree to text to tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from builder.dockerfile import parse, to_text
from builder.dockerfile.ast import Dockerfile
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
    assert to_text(again) == to_text(dockerfile)


def test_text_as_it_is_printed() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n\n# an image\nFROM  scratch \\\n\n  AS a\n"
        "# x\nCOPY <<E /b\n c\nE\n# lost\n"
    )

    assert to_text(parse(text)) == (
        "# syntax=docker/dockerfile:1\n\n# an image\nFROM  scratch   AS a\n# x\nCOPY <<E /b\n c\nE\n"
    )


@pytest.mark.parametrize(
    "part", ["x" * 50_000, "# " * 20_000 + "y", "é#" * 20_000 + "z", "\\\\ " * 15_000 + "z"]
)
def test_a_line_that_was_joined_is_parted_where_it_may_be(part: str) -> None:
    dockerfile = parse("FROM scratch\nRUN a" + f" {part}\\\n" * 4 + "end\n")

    text = to_text(dockerfile)

    assert max(len(line.encode()) for line in text.split("\n")) < 65_536
    assert meaning(parse(text)) == meaning(dockerfile)
