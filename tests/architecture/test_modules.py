"""Habits that hold for every module of the project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import CHECKOUT

MODULES = sorted((CHECKOUT / "builder").rglob("*.py"))
VAGUE_NAMES = {"base", "common", "core", "helper", "helpers", "manager", "misc", "util", "utils"}
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not {
        name_of(path) for path in MODULES if path.stem in VAGUE_NAMES or path.parent.name in VAGUE_NAMES
    }


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in MODULES
        for node in functions(ast.parse(path.read_text()))
        if (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]

    assert not long


def test_no_module_changes_another_state_by_global() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Global)
    ]

    assert not found


def test_no_error_is_swallowed_unnamed() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]

    assert not found


def test_grammar_files_are_data_only() -> None:
    files = [path for path in (CHECKOUT / "grammar").rglob("*") if path.is_file()]

    assert files
    assert {path.suffix for path in files} == {".lark"}
