"""A user without rights who can run the builder: where it is read from, and as whom.

The checkout and this Python may lie where only root can read; so there is a copy of the one, and any Python
of the same version will do in place of the other.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.support.machine import CHECKOUT
from tests.support.namespaces import has_user_namespaces

NOBODY = 65534


class PlainUser:
    """uid, gid: whose; folder: its home, which it owns; may_map: whether it has a range of ids."""

    def __init__(self, folder: Path) -> None:
        name = ranged_user()
        self.may_map = name is not None and shutil.which("newuidmap") is not None
        entry = pwd.getpwnam(name) if name is not None and self.may_map else None
        self.uid, self.gid = (entry.pw_uid, entry.pw_gid) if entry else (NOBODY, NOBODY)
        self.folder = folder
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", self.uid, self.gid)
        self._packages = folder / "packages"
        for package in ("builder", "grammar"):
            shutil.copytree(
                CHECKOUT / package, self._packages / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        for path in (self._packages, *self._packages.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._python = next((python for python in self._pythons() if self._runs(python)), None)

    def missing(self, rung: str) -> str | None:
        """Why the builder cannot be run so, on that rung."""
        if self._python is None:
            return "no Python with the builder's packages that a plain user can read"
        if rung == "userns" and not self.may_map:
            return "no user with a range of ids in /etc/subuid, or no newuidmap"
        if not has_user_namespaces():
            return "user namespaces are refused here"
        return None

    def run(self, *words: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        """`pybuild WORDS`, to its end."""
        assert self._python is not None
        return self._call([self._python, "-m", "builder", *map(os.fspath, words)])

    def _pythons(self) -> Sequence[str]:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return [sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"]

    def _runs(self, python: str) -> bool:
        if not os.path.exists(python):
            return False
        return self._call([python, "-c", "import builder.cli, msgspec"]).returncode == 0

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        path = f"{self._packages}:{sysconfig.get_path('purelib')}"
        try:
            return subprocess.run(
                command,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                env={"HOME": f"{self.folder}/home", "PYTHONPATH": path, "PATH": os.environ["PATH"]},
                timeout=120,
                check=False,
            )
        except PermissionError as error:
            return subprocess.CompletedProcess(command, 126, "", str(error))


def ranged_user() -> str | None:
    """A user who has a range of ids in /etc/subuid, and is none of the machine's own."""
    try:
        lines = Path("/etc/subuid").read_text().splitlines()
    except OSError:
        return None
    names = [line.split(":")[0] for line in lines if line.count(":") == 2]
    known = {entry.pw_name for entry in pwd.getpwall() if entry.pw_uid}
    return next((name for name in names if name in known), None)
