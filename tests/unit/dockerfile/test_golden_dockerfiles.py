"""Each folder of tests/golden/dockerfile: a Dockerfile, and the syntax tree or the refusal it gives.

A new case is a new folder with a Dockerfile in it; `UPDATE_GOLDEN=1 pytest` writes what is expected.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from builder.dockerfile.parser import parse
from builder.errors import DockerfileError
from builder.text import SourceText

CASES = Path(__file__).parents[2] / "golden" / "dockerfile"


def outcome(text: str) -> bytes:
    try:
        dockerfile = parse(SourceText("Dockerfile", text))
    except DockerfileError as error:
        found: object = {
            "refused": error.message,
            "code": error.code,
            "hint": error.hint,
            "place": error.location and error.location.span,
        }
    else:
        names = ("directives", "instructions", "comments")
        found = {name: getattr(dockerfile, name) for name in names}
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


@pytest.mark.parametrize("folder", sorted(CASES.iterdir()), ids=lambda folder: folder.name)
def test_a_dockerfile_gives_its_golden_tree(folder: Path) -> None:
    expected = folder / "ast.json"

    found = outcome((folder / "Dockerfile").read_text(encoding="utf-8", errors="surrogateescape"))

    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_bytes(found)
    assert found.decode() == expected.read_text(encoding="utf-8")
