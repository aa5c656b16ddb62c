"""Who may import whom is told in pyproject.toml; what a started process holds is told here.

What the processes of a RUN step import is held by tests/unit/runtime/test_imports.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import CHECKOUT, run

# What a process that has nothing to build must not pay for.
HEAVY = {
    "argparse", "asyncio", "cryptography", "ctypes", "dataclasses", "httpx", "isal", "lark", "logging",
    "msgspec", "networkx", "pathlib", "rich", "shutil", "socket", "subprocess", "tempfile", "typing",
    "zstandard",
    "builder.build", "builder.compiler", "builder.runtime", "builder.dockerfile.parser",
}  # fmt: skip


def loaded_by(*lines: str, cwd: Path) -> set[str]:
    """The modules of a bare interpreter (no site-packages at all) after these lines of Python."""
    report = cwd / "modules"
    program = [
        "import sys",
        f"sys.path.insert(0, {str(CHECKOUT)!r})",
        *lines,
        f"open({str(report)!r}, 'w').write(' '.join(sys.modules))",
    ]
    run([sys.executable, "-I", "-S", "-c", "\n".join(program)], cwd=cwd)
    return set(report.read_text().split())


def test_import_contracts_hold() -> None:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"

    done = run([sys.executable, "-c", command, "--no-cache"], cwd=CHECKOUT, check=False)

    assert done.returncode == 0, done.stdout


def test_the_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by("import builder.cli", cwd=tmp_path)

    assert not loaded & HEAVY
    assert len([name for name in loaded if name.startswith("builder.")]) < 12


@pytest.mark.parametrize(("edit", "output"), [
    ("nothing", ""),
    ("a file that no step selects", ""),
    ("two platforms", ""),
    ("nothing", "type=oci,dest=out.tar,name=host.x/app,compression=zstd"),
    ("nothing", "type=docker,dest=out.tar"),
])  # fmt: skip
def test_a_fully_cached_build_needs_no_package_and_loads_nothing_heavy(
    tmp_path: Path, edit: str, output: str
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nARG V=1\nCOPY app /app\nWORKDIR /srv\nLABEL v=$V\n")
    (context / "app").write_text("app")
    words = ["--root", str(tmp_path / "store"), "-t", "app:1", "--progress=plain", str(context)]
    if output:
        words = [f"--output={output}", "--metadata-file=told.json", "-q", *words[:4], str(context)]
    if edit == "two platforms":
        words = ["--platform=linux/amd64,linux/arm64", *words]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "builder", *words]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    if edit == "a file that no step selects":
        (context / "notes").write_text("new")
    if edit == "a cache elsewhere":
        words = ["--cache-from", "127.0.0.1:1/no/where", "--cache-from", "type=local,src=no", *words]

    call = f"status = main({words!r}); assert status == 0, status"
    loaded = loaded_by("from builder.cli import main", call, cwd=tmp_path)

    assert "builder.warm" in loaded
    assert not loaded & HEAVY
    assert output or not loaded & {"collections", "enum", "json", "re"}  # which one loads the other


# What a plain build has no use for, and what one has no use for of which only files have changed.
UNUSED = (
    "cryptography", "httpx", "networkx", "rich", "sqlite3", "yaml", "zstandard",
    "builder.attest", "builder.bench", "builder.debug", "builder.describe", "builder.explain", "builder.fsck",
    "builder.images", "builder.locking", "builder.oci.access", "builder.oci.connections",
    "builder.oci.estargz", "builder.oci.registry", "builder.oci.transport", "builder.oci.upload",
    "builder.pushing", "builder.remote", "builder.remotecache", "builder.session", "builder.sharing",
    "builder.sources.git", "builder.sources.http", "builder.unchanged", "builder.verify",
)  # fmt: skip
COMPILING = (
    "lark", "builder.attempt", "builder.checks", "builder.compiler.compile", "builder.dockerfile.parser",
    "builder.dockerfile.words", "builder.resolving",
)  # fmt: skip


def test_a_full_build_loads_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    context, report = tmp_path / "context", tmp_path / "modules"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nARG V=1\nCOPY app /app\nLABEL v=$V\n")
    words = ["--root", str(tmp_path / "store"), "-t", "app:1", "--progress=none", str(context)]
    program = (
        f"import sys; from builder.cli import main; assert main({words!r}) == 0; "
        f"open({str(report)!r}, 'w').write(' '.join(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    loaded = []
    for content in ("first", "second"):
        (context / "app").write_text(content)
        subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=True)
        loaded.append(report.read_text().split())

    first, touched = (set(names) for names in loaded)
    assert "builder.compiler.compile" in first
    assert "builder.build" in touched
    for unused in UNUSED:
        assert not {name for name in first | touched if name == unused or name.startswith(f"{unused}.")}
    for unused in COMPILING:
        assert not {name for name in touched if name == unused or name.startswith(f"{unused}.")}
