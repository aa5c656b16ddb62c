"""What a step's process may load: each RUN would pay for more, and less code is less to get wrong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import builder

PACKAGE = Path(builder.__file__).parent
OF_A_STEP = ["cgroups", "failure", "init", "mounts", "process", "rootfs", "sealed", "seccomp", "syscalls"]
STANDARD = {"__future__", "ctypes", "errno", "fcntl", "json", "os", "signal", "stat", "sys"}
OWN = {"builder", "builder.libc", "builder.runtime", *(f"builder.runtime.{name}" for name in OF_A_STEP)}


def imports(path: Path) -> set[str]:
    """The modules that importing it loads; what stands under `if TYPE_CHECKING` does not count."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", OF_A_STEP)
def test_a_steps_modules_import_a_handful(name: str) -> None:
    assert imports(PACKAGE / f"runtime/{name}.py") <= STANDARD | OWN


def test_libc_imports_ctypes_and_os() -> None:
    assert imports(PACKAGE / "libc.py") == {"__future__", "ctypes", "os"}


def test_the_zygote_loads_nothing_heavy() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import builder.runtime.zygote; "
        "print(*sorted(sys.modules))"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"asyncio", "msgspec", "dataclasses", "typing", "pathlib", "subprocess", "tempfile", "logging"}
    assert not heavy & set(loaded)
