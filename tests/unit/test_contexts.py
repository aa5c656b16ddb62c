"""A context that was read a moment ago is read once, if it is asked for in the same way again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.contexts import Context, open_context
from builder.graph.selection import Selection
from tests.support.layers import open_layers

ALL = Selection(("/",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "a").write_text("a")
    (folder / "b.log").write_text("b")
    return folder


def opened(
    tmp_path: Path,
    *,
    asked: Selection | None = ALL,
    ignore: str = "",
    seen: dict[str, Context] | None = None,
    folder: str = "context",
) -> Context:
    texts: Any = SimpleNamespace(context=str(tmp_path / folder), ignore=(".dockerignore", ignore))
    request: Any = SimpleNamespace(contexts={})
    return open_context("context", [asked], request, str(tmp_path / "store"), texts, seen)


def test_it_is_taken_as_it_was_read(tmp_path: Path, folder: Path) -> None:
    first = opened(tmp_path)
    first.read(open_layers(tmp_path))
    (folder / "new").write_text("new")

    again = opened(tmp_path, seen={"context": first})
    layers = open_layers(tmp_path)
    layer = again.read(layers)

    assert again is first
    assert again.layer == layer
    assert [entry.path for entry in layers.entries(layer)] == [".", "a", "b.log"]


@pytest.mark.parametrize(
    "other",
    [
        {"ignore": "*.log"},
        {"asked": Selection(("a",))},
        {"asked": None},
        {"folder": "other"},
    ],
)
def test_what_is_asked_for_in_another_way_is_read(
    tmp_path: Path, folder: Path, other: dict[str, Any]
) -> None:
    os.rename(folder, tmp_path / "other") if "folder" in other else None
    (tmp_path / "context").mkdir(exist_ok=True)
    first = opened(tmp_path)
    first.read(open_layers(tmp_path))

    again = opened(tmp_path, seen={"context": first}, **other)

    assert again is not first
    again.read(open_layers(tmp_path))


def test_a_context_of_another_name_is_another(tmp_path: Path, folder: Path) -> None:
    first = opened(tmp_path)

    assert opened(tmp_path, seen={"other": first}) is not first


def test_what_was_selected_of_it_is_known_with_what_it_was_made_of(tmp_path: Path, folder: Path) -> None:
    context = opened(tmp_path)
    layers = open_layers(tmp_path)
    tree = layers.tree((context.read(layers),))
    first = context.digest(tree, ALL)
    (folder / "a").write_text("another")
    told: list[tuple[str, bool, str]] = []

    again = context.digest(tree, Selection(("/",)), told)

    assert again == first
    assert [path for path, _, _ in told] == ["."]
    assert "b.log" in told[0][2]
    assert context.digest(tree, Selection(("b.log",))) != first
