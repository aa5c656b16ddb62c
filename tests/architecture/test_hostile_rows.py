"""Every known weakness that what is built from can carry has a test.

What is built from: a Dockerfile, an ignore file, a context, a URL, a git reference, an image of a registry, a
layout or an archive; and what an image is pushed to.

A row is an advisory, or a kind of harm that has none. Its tests are marked `@pytest.mark.hostile("ROW")`.
"""

from __future__ import annotations

import ast

from tests.support.machine import CHECKOUT

ARCHIVES = """
    CVE-2007-4559 CVE-2025-4517 CVE-2025-4330 CVE-2025-4138 CVE-2025-4435 CVE-2024-12718 CVE-2026-11940
    CVE-2025-8194 CVE-2026-11972 CVE-2024-6232 gh-151498 CVE-2026-4360 CVE-2025-58183 CVE-2021-29136
    CVE-2021-32760 CVE-2025-47290 CVE-2019-14271 CVE-2018-15664 CVE-2020-10696 CVE-2026-42574 CVE-2026-50163
    CVE-2026-28406 CVE-2025-61728 CVE-2014-9357 CVE-2023-25153
"""
NAMES = """
    CVE-2014-9356 CVE-2014-9358 CVE-2024-3727 CVE-2025-62725 CVE-2026-33747 CVE-2024-24557 CVE-2021-41190
    CVE-2021-21285 CVE-2026-53488
"""
USERS_AND_FOLDERS = """
    CVE-2024-21626 CVE-2024-40635 CVE-2026-46680 CVE-2026-47262 GHSA-mjcv-p78q-w5fw CVE-2026-41579
    CVE-2026-42306 CVE-2022-36109 CVE-2022-2990 CVE-2023-25173 CVE-2022-24769 CVE-2022-27651
"""
MOUNTS_AND_FLAGS = """
    CVE-2024-23651 CVE-2024-11218 CVE-2024-23652 CVE-2024-23653 CVE-2024-23650 CVE-2024-1753 CVE-2024-9407
    CVE-2024-9675 CVE-2024-9676 CVE-2021-3602 CVE-2026-44517 CVE-2021-30465 CVE-2019-19921 CVE-2024-45310
    CVE-2019-5736 CVE-2020-15257 CVE-2021-41103 CVE-2024-25621 CVE-2025-64329
"""
PROCESSES = """
    CVE-2025-52881 CVE-2025-62596 CVE-2025-54867 CVE-2025-62161 CVE-2023-27561 CVE-2023-28642 CVE-2025-31133
    CVE-2025-52565 CVE-2023-25809 CVE-2022-0185 CVE-2022-0492 AF_ALG
"""
ADDRESSES = """
    CVE-2020-15157
    CVE-2018-18074 CVE-2023-32681 CVE-2023-43804 CVE-2025-66418 CVE-2025-66471 CVE-2023-26054 DoS
    CVE-2017-1000117 CVE-2019-13139 CVE-2022-39253 CVE-2022-24765 CVE-2026-33748 CVE-2024-52005
"""
KINDS = [
    "containerd whiteout check", "overlay xattrs", "Python traps", "dotnet #54225", "BuildKit f83dedd8d",
    "BuildKit 4ed7a2ff3", "BuildKit 64bbec89c", "BuildKit 408266e4b", "containerd 2.2.3",
    "go-containerregistry #2227", "terminal escapes", ".dockerignore/patterns", "Dockerfile", "bombs",
    "layouts", "duplicate entries", "device nodes", "PAX overrides", "truncation",
]  # fmt: skip
ADVISORIES = f"{ARCHIVES} {NAMES} {USERS_AND_FOLDERS} {MOUNTS_AND_FLAGS} {PROCESSES} {ADDRESSES}"
ROWS = {*ADVISORIES.split(), *KINDS}


def marked(tree: ast.AST) -> set[str]:
    """The rows that the tests of a module are marked with."""
    return {
        argument.value
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for mark in function.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.hostile"
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def test_every_row_has_a_test_and_no_test_a_row_of_its_own() -> None:
    found: set[str] = set()
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        found |= marked(ast.parse(path.read_text(encoding="utf-8")))

    assert sorted(ROWS - found) == [], "rows without a test"
    assert sorted(found - ROWS) == [], "marks that are no row"
