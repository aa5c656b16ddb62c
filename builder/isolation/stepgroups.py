"""The cgroups of one build's steps, where it asks for limits; and what dead builds left.

    ROOT/cgroups/<name>     the folders that a build made (one a line), until it has removed them

Where they go is found out, and the build's folders are made, when the first step wants its leaf; a build
without limits makes none, as joining a cgroup costs more than all else of a small step. The record is for
the next build on this store, limits or not; who uses the same parent sweeps that without any.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from builder.errors import SandboxError, reason_of
from builder.fs.whole import write_whole
from builder.runtime.cgroups import SWAP_FILES, needed_controllers

if TYPE_CHECKING:
    from typing import Any

    from builder.request import StepLimits
    from builder.runtime.leaves import BuildFolders, Leaf

FOLDER = "cgroups"


class StepGroups:
    """Gives each step its leaf, as long as there are limits; `store`: the store's folder."""

    def __init__(self, store: str, limits: StepLimits) -> None:
        self.resources = resources_of(limits)
        self.wanted = bool(self.resources or limits.cgroup_parent)
        self._record = os.path.join(store, FOLDER)
        self._parent = limits.cgroup_parent
        self._counts_swap = bool(limits.memory_swap)  # it was asked for, and is not a default
        self._lock = threading.Lock()
        self._folders: BuildFolders | None = None
        self._path = ""
        self._last = 0

    def leaf(self) -> tuple[str, Leaf]:
        """A new leaf: its cgroupsPath, and what to read and remove. Blocking.

        Raises SandboxError where the limits cannot be held here, with what to do.
        """
        with self._lock:
            if self._folders is None:
                self._folders = self._make()
            self._last += 1
            name = str(self._last)
            return f"{self._path}{self._folders.name}/{name}", self._folders.leaf(name)

    def check(self) -> None:
        """Raise what `leaf` would, before any work is done in vain. Blocking."""
        with self._lock:
            if self.wanted and self._folders is None:
                self._folders = self._make()

    def close(self) -> None:
        """Remove all of it."""
        if self._folders is not None:
            self._folders.remove()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._record, self._folders.name))
                os.rmdir(self._record)

    def _make(self) -> BuildFolders:
        from builder.isolation.cgroups import find_site, give_down
        from builder.runtime.leaves import BuildFolders, sweep

        needed = needed_controllers(self.resources)
        site = find_site(needed, self._parent)
        sweep(site.parents)
        try:
            folders = BuildFolders.make(site.parents, inherits=site.inherits)
        except OSError as error:
            raise SandboxError(
                f"no cgroup can be made in {site.parents[0]}: {reason_of(error)}", code="cgroup"
            ) from error
        try:
            for folder in folders.folders:
                give_down(folder, needed)
            if self._counts_swap and not _counts_swap(folders):
                raise SandboxError(
                    "RUN steps cannot have --memory-swap here: this kernel does not count swap", code="cgroup"
                )
            self._remember(folders)
        except (SandboxError, OSError):
            folders.remove()
            raise
        self._path = site.path
        return folders

    def _remember(self, folders: BuildFolders) -> None:
        data = "".join(f"{folder}\n" for folder in folders.folders).encode("utf-8", "surrogateescape")
        while True:
            os.makedirs(self._record, mode=0o700, exist_ok=True)
            try:
                write_whole(os.path.join(self._record, folders.name), data)
            except FileNotFoundError:  # others remove the folder where it is empty, and what has no name yet
                continue
            except OSError:
                with contextlib.suppress(OSError):
                    os.rmdir(self._record)
                raise
            return


def _counts_swap(folders: BuildFolders) -> bool:
    return any(os.path.exists(f"{folder}/{name}") for folder in folders.folders for name in SWAP_FILES)


def sweep_groups(store: str) -> None:
    """Remove the cgroups of dead builds that used this store."""
    folder = os.path.join(store, FOLDER)
    try:
        names = os.listdir(folder)
    except OSError:
        return
    from builder.runtime.leaves import sweep_folder

    for name in names:
        record = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            with open(record, encoding="utf-8", errors="surrogateescape") as file:
                listed = file.read().splitlines()
            gone = [sweep_folder(path) for path in listed]
            if all(gone):
                os.unlink(record)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def resources_of(limits: StepLimits) -> dict[str, Any]:
    """The limits that a cgroup holds, as the runtime-spec has them (linux.resources); {} without any.

    With memory alone, as much again may be swapped, as docker has it.
    """
    found: dict[str, Any] = {}
    if limits.memory:
        found["memory"] = {"limit": limits.memory, "swap": limits.memory_swap or 2 * limits.memory}
    cpu = {
        "shares": limits.cpu_shares,
        "quota": limits.cpu_quota,
        "period": limits.cpu_period,
        "cpus": limits.cpuset_cpus,
        "mems": limits.cpuset_mems,
    }
    if any(cpu.values()):
        found["cpu"] = {name: value for name, value in cpu.items() if value}
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    return found
