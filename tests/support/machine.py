"""What this machine can do, as reasons to skip; and running programs with their output kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
FIXTURES = CHECKOUT / "fixtures" / "dockerfiles"


def needs_root() -> pytest.MarkDecorator:
    return pytest.mark.skipif(os.geteuid() != 0, reason="needs root: RUN steps make namespaces and mounts")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    check: bool = True,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a program; with `check`, its output is in the failure's message."""
    done = subprocess.run(
        [os.fspath(word) for word in command],
        input=stdin.decode() if stdin is not None else None,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


class Pybuild:
    """The command, with a store of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self,
        *words: str | os.PathLike[str],
        check: bool = True,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "builder", *words]
        merged = {"PYTHONPATH": str(CHECKOUT), "PYBUILD_ROOT": str(self.root), **(env or {})}
        done = run(command, check=check, stdin=stdin, env=merged, cwd=cwd)
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        return done

    def build(
        self,
        context: str | os.PathLike[str],
        *flags: str,
        check: bool = True,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return self("build", "--progress=plain", *flags, context, check=check, stdin=stdin, env=env)
