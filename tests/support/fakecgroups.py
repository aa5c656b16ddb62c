"""A kernel's cgroup v2 in a plain folder: what it makes of mkdir, rmdir and writes to its files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from builder.isolation import cgroups as sites
from builder.runtime import cgroups
from builder.runtime.cgroups import Hierarchy

FILES = {
    "memory": ("memory.max", "memory.swap.max", "memory.peak", "memory.events"),
    "cpu": ("cpu.max", "cpu.weight", "cpu.stat"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "pids": ("pids.max", "pids.events"),
    "io": ("io.stat",),
}


class FakeUnified:
    """A cgroup2 mount. own: this process's cgroup; refused: cgroups that this user may not write to."""

    def __init__(self, mount: Path, monkeypatch: pytest.MonkeyPatch, *, machine: bool = True) -> None:
        self.mount = mount
        self.refused: set[str] = set()
        self.delegated: set[str] = set()
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        mount.mkdir()
        self._fill(mount, [*FILES], machine=machine)
        monkeypatch.setattr(os, "mkdir", self._make)
        monkeypatch.setattr(os, "rmdir", self._remove)
        for module in (cgroups, sites):
            monkeypatch.setattr(module, "write", self.write)
        monkeypatch.setattr(os, "access", self._access)
        monkeypatch.setattr(os, "getxattr", self._xattr)

    def hierarchy(self, own: str) -> Hierarchy:
        controllers = frozenset((self.mount / "cgroup.controllers").read_text().split())
        return Hierarchy(str(self.mount), own, 2, controllers)

    def add(self, path: str, *processes: int, given: str = "") -> None:
        """A cgroup with these processes, which gives controllers to its children."""
        folder = self.mount / path.strip("/")
        if not folder.exists():
            os.mkdir(folder)
        self._set(folder, "cgroup.procs", [str(pid) for pid in processes])
        self._set(folder, "cgroup.subtree_control", given.split())

    def text(self, path: str) -> str:
        return (self.mount / path.strip("/")).read_text().strip()

    def write(self, folder: str, name: str, value: str) -> None:
        place = Path(folder)
        self._check(place)
        if name == "cgroup.procs":
            if self._list(place, "cgroup.subtree_control") and (place / "cgroup.type").exists():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            for other in self.mount.rglob("cgroup.procs"):
                self._set(other.parent, name, [pid for pid in self._list(other.parent, name) if pid != value])
            self._set(place, name, [*self._list(place, name), value])
        elif name == "cgroup.subtree_control":
            if value[1:] not in self._list(place, "cgroup.controllers"):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self._list(place, "cgroup.procs") and (place / "cgroup.type").exists():
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self._set(place, name, [*self._list(place, name), value[1:]])
            for child in (path for path in place.iterdir() if path.is_dir()):
                self._fill(child, self._list(place, name))
        else:
            if not (place / name).exists():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            (place / name).write_text(value)

    def _fill(self, folder: Path, controllers: list[str], *, machine: bool = False) -> None:
        names = ["cgroup.procs", "cgroup.subtree_control"] + ([] if machine else ["cgroup.type"])
        for name in [*names, *(file for controller in controllers for file in FILES[controller])]:
            (folder / name).touch()
        self._set(folder, "cgroup.controllers", controllers)

    def _make(self, path: str | Path, mode: int = 0o777) -> None:
        folder = Path(path)
        inside = self.mount in folder.parents
        if inside:
            self._check(folder.parent)
        self._mkdir(path, mode)
        if inside:
            self._fill(folder, self._list(folder.parent, "cgroup.subtree_control"))

    def _remove(self, path: str | Path, **options: int) -> None:
        folder = Path(path)
        if self.mount in folder.parents:
            if any(child.is_dir() for child in folder.iterdir()) or self._list(folder, "cgroup.procs"):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            for file in folder.iterdir():
                file.unlink()
        self._rmdir(path, **options)

    def _check(self, folder: Path) -> None:
        if not self._access(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _access(self, path: str | Path, mode: int = os.W_OK) -> bool:
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        return str(folder)[len(str(self.mount)) :] not in self.refused

    def _xattr(self, path: str, name: str) -> bytes:
        if path[len(str(self.mount)) :] in self.delegated and name == "user.delegate":
            return b"1"
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))

    def _list(self, folder: Path, name: str) -> list[str]:
        return (folder / name).read_text().split()

    def _set(self, folder: Path, name: str, words: list[str]) -> None:
        (folder / name).write_text("\n".join(words))
