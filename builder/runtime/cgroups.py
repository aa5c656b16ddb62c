"""Cgroups: where they are on this machine, and how a step gets into a leaf of its own.

The one idea: a spec's `linux.cgroupsPath` and `linux.resources` say all, as the OCI runtime-spec has it; who
becomes a step makes the leaf, writes its limits and joins it, before there is a cgroup namespace (so that
/proc/self/cgroup says "/" inside). A relative path lies below this process's own cgroup, an absolute one
below what is mounted. Who made the folder above the leaf reads and removes it (`leaves`).

Of v1 and v2 that one counts which carries the controllers (memory, cpu, pids): a machine where v2 holds but
some odd ones is v1. Rules for devices are not carried out here, but by mounts without devices (`rootfs`).

Part of what each step is forked with: it imports errno, os and a sibling only. See cgroups(7), and the
kernel's admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
"""

from __future__ import annotations

import errno
import os

from builder.runtime.failure import Failure, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

LIMITING = ("memory", "cpu", "pids")  # whoever has one of these is the version in use
STATISTICS = {1: ("memory", "cpu", "cpuacct", "pids", "blkio", "freezer"), 2: ("memory", "cpu", "pids", "io")}
PROCESSES = "cgroup.procs"
SWAP_FILES = ("memory.memsw.limit_in_bytes", "memory.swap.max")  # not there where swap is not counted

Setting = tuple[str, str, str]  # (controller, file, value)


class Hierarchy:
    """A mounted hierarchy. mount: where; own: this process's cgroup in it, "" where it is what is mounted.

    controllers: of v2 those that the mounted cgroup has.
    """

    __slots__ = ("controllers", "mount", "own", "version")

    def __init__(self, mount: str, own: str, version: int, controllers: frozenset[str]) -> None:
        self.mount = mount
        self.own = own
        self.version = version
        self.controllers = controllers

    def folder(self, path: str = "") -> str:
        """The folder of a cgroupsPath, or without one this process's own."""
        below = path.rstrip("/") if path.startswith("/") else f"{self.own}/{path}".rstrip("/")
        return f"{self.mount}{below}"


class Place:
    """A leaf in one hierarchy. settings: (file, value); without any it is for statistics alone."""

    __slots__ = ("folder", "hierarchy", "settings")

    def __init__(self, folder: str, hierarchy: Hierarchy, settings: list[tuple[str, str]]) -> None:
        self.folder = folder
        self.hierarchy = hierarchy
        self.settings = settings


def read_hierarchies() -> list[Hierarchy]:
    """The hierarchies of the version in use; none where nothing is mounted."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            mounts = file.read()
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            memberships = file.read()
    except OSError:
        return []
    return in_use([_with_controllers(found) for found in parse(mounts, memberships)])


def parse(mounts: str, memberships: str) -> list[Hierarchy]:
    """The hierarchies of a mountinfo and a cgroup of /proc/self, which do not tell v2's controllers."""
    paths: dict[str, str] = {}
    for line in memberships.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    found: dict[frozenset[str], Hierarchy] = {}
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.partition(" ")
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, mount = (_unescaped(field) for field in left.split(" ")[3:5])
        version = 1 if kind == "cgroup" else 2
        told = frozenset(options.rpartition(" ")[2].split(",")) if version == 1 else frozenset()
        controllers = told & paths.keys() - {""}
        name = min(controllers, default="" if version == 2 else "none")
        if name in paths:
            own = _below(paths[name], root)
            found.setdefault(controllers, Hierarchy(mount, own, version, controllers))
    return [*found.values()]


def in_use(hierarchies: Iterable[Hierarchy]) -> list[Hierarchy]:
    """Those of the version that carries the controllers."""
    unified = [h for h in hierarchies if h.version == 2 and h.controllers & {*LIMITING}]
    return unified or [h for h in hierarchies if h.version == 1]


def plan(hierarchies: Iterable[Hierarchy], path: str, resources: Mapping[str, Any]) -> list[Place]:
    """Where a leaf of that path has to be made, and what is set there. Raises Failure for a limit that
    nothing here can hold."""
    places: list[Place] = []
    missing = needed_controllers(resources)
    for hierarchy in hierarchies:
        wanted = settings(resources, hierarchy.version)
        own = [(file, value) for name, file, value in wanted if name in hierarchy.controllers]
        if own or hierarchy.controllers & {*STATISTICS[hierarchy.version]}:
            places.append(Place(hierarchy.folder(path), hierarchy, own))
        missing = missing - hierarchy.controllers
    if missing:
        raise Failure("cgroup", 0, f"this machine has no cgroup controller {' and '.join(sorted(missing))}")
    return places


def needed_controllers(resources: Mapping[str, Any]) -> frozenset[str]:
    """The controllers that these limits depend on."""
    return frozenset(controller for controller, _, _ in settings(resources, 2))


def settings(resources: Mapping[str, Any], version: int) -> list[Setting]:
    """What has to be written for OCI resources, in order; -1 is no limit."""
    memory, cpu, pids = (resources.get(name) or {} for name in ("memory", "cpu", "pids"))
    found = _memory_settings(memory, version) + _cpu_settings(cpu, version)
    found += [("cpuset", f"cpuset.{name}", cpu[name]) for name in ("cpus", "mems") if cpu.get(name)]
    if pids.get("limit"):
        found.append(("pids", "pids.max", _number(pids["limit"], "max")))
    return found


def _memory_settings(memory: Mapping[str, int], version: int) -> list[Setting]:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if version == 1:
        files = (("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap))
        return [("memory", file, str(value)) for file, value in files if value]
    found = [("memory", "memory.max", _number(limit, "max"))] if limit else []
    if swap:  # here memory and swap together, there swap alone
        found.append(("memory", "memory.swap.max", "max" if swap < 0 else str(max(swap - limit, 0))))
    return found


def _cpu_settings(cpu: Mapping[str, int], version: int) -> list[Setting]:
    shares, quota, period = cpu.get("shares", 0), cpu.get("quota", 0), cpu.get("period", 0)
    if version == 1:
        files = (("cpu.shares", shares), ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota))
        return [("cpu", file, str(value)) for file, value in files if value]
    found = [("cpu", "cpu.weight", str(weight_of(shares)))] if shares else []
    if quota or period:
        found.append(("cpu", "cpu.max", f"{_number(quota or -1, 'max')} {period or 100000}"))
    return found


def weight_of(shares: int) -> int:
    """v1's cpu.shares (2 to 262144) as v2's cpu.weight (1 to 10000), as runc does it."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def join(linux: Mapping[str, Any]) -> None:
    """Make the leaf of a spec's `linux` section, set its limits, and put this process there.

    Nothing happens where the spec names none. Raises Failure.
    """
    path = linux.get("cgroupsPath")
    if not path:
        return
    for place in plan(read_hierarchies(), path, linux.get("resources") or {}):
        try:
            make(place.folder, inherits=inherits(place.hierarchy))
            _limit(place)
            write(place.folder, PROCESSES, "0")
        except OSError as error:
            if place.settings:
                raise because("cgroup", f"cannot use the cgroup {place.folder}", error) from error


def make(folder: str, *, inherits: bool = False) -> None:
    """Make a cgroup, and those above it. inherits: it starts with nothing, and has to be given what they
    have. Raises OSError."""
    if not os.path.isdir(folder):
        make(os.path.dirname(folder), inherits=inherits)
        try:
            os.mkdir(folder, 0o755)
        except FileExistsError:  # another step was faster
            return
    if inherits:
        _inherit_cpuset(folder)


def inherits(hierarchy: Hierarchy) -> bool:
    """Whether cgroups start with nothing there: with v1's cpuset no process could be in one."""
    return hierarchy.version == 1 and "cpuset" in hierarchy.controllers


def _inherit_cpuset(folder: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(folder, name):
            above = read(os.path.dirname(folder), name)
            if above:
                write(folder, name, above)


def read(folder: str, name: str) -> str:
    """The text of a cgroup's file, without the last newline; "" where there is none."""
    try:
        with open(f"{folder}/{name}", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def write(folder: str, name: str, value: str) -> None:
    """Write to a cgroup's file, which must be there. Raises OSError."""
    descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _limit(place: Place) -> None:
    for name, value in place.settings:
        try:
            write(place.folder, name, value)
        except OSError as error:
            if name in SWAP_FILES and error.errno == errno.ENOENT:
                continue
            raise because("cgroup", f"cannot set {name} of {place.folder} to {value}", error) from error


def _with_controllers(hierarchy: Hierarchy) -> Hierarchy:
    if hierarchy.version == 2:
        hierarchy.controllers = frozenset(read(hierarchy.mount, "cgroup.controllers").split())
    return hierarchy


def _below(path: str, root: str) -> str:
    """A cgroup's path below what is mounted; one that is not below it counts as that itself: of a process
    outside of what its cgroup namespace shows, that begins with "/..".
    """
    root = root.rstrip("/")
    if path == root or not path.startswith(f"{root}/") or ".." in path.split("/"):
        return ""
    return path[len(root) :].rstrip("/")


def _unescaped(field: str) -> str:
    """A field of mountinfo, whose blanks are written \\040."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field


def _number(value: int, unlimited: str) -> str:
    return unlimited if value < 0 else str(value)
