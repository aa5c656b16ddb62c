"""Where a build may make cgroups for its steps, and which limits can be held there.

v1: below this process's own cgroup in each hierarchy. v2 lets no cgroup have both processes and children
with controllers, so there it is, the first that works of
- this process's own cgroup, if that is the whole machine's;
- the same, if it was given to this user (systemd's Delegate=yes, marked by an xattr) or is all that this
  container sees: the processes in it move to a child, `pybuild.host`, and so does this one;
- the nearest cgroup above it where controllers are given to children and this user may write.
With --cgroup-parent it is that one, made where it is missing: from the mounted root if it is absolute, else
below the cgroup above.

Asked by builds with limits, and by the doctor. Builds without limits never come here.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from builder.errors import SandboxError, reason_of
from builder.runtime.cgroups import (
    PROCESSES,
    STATISTICS,
    Hierarchy,
    inherits,
    make,
    read,
    read_hierarchies,
    write,
)
from builder.value import Value

HOST = "pybuild.host"  # where the processes of a delegated cgroup of v2 move
REMEDIES = {
    2: "run pybuild as root, or with cgroups of its own: "
    "systemd-run --user --scope -p Delegate=yes pybuild …",
    1: "run pybuild as root; or let root make a cgroup that belongs to this user in each hierarchy, and name "
    "it with --cgroup-parent",
}
READ_ONLY = (
    "in a container: start that with its cgroups writable (--privileged, or a mount of /sys/fs/cgroup)"
)
MOUNT = "mount them: mount -t cgroup2 none /sys/fs/cgroup"
FLAGS = {"memory": "--memory", "cpu": "--cpus", "pids": "--pids-limit", "cpuset": "--cpuset-cpus"}
_CONTROL = "cgroup.subtree_control"
_MARKS = ("user.delegate", "trusted.delegate")


class Site(Value):
    """Where a build's folders go. parents: their absolute folders; path: what a cgroupsPath begins with, ""
    or with / at its end; inherits: the parents of cgroups that start with nothing."""

    parents: tuple[str, ...]
    path: str
    inherits: tuple[str, ...] = ()


class _Refused(Exception):
    """Why limits cannot be held; `remedy`: what would change that, or ""."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def find_site(needed: frozenset[str], parent: str, found: Sequence[Hierarchy] | None = None) -> Site:
    """The site for limits that need these controllers; `parent`: the --cgroup-parent, or "".

    What has to be made or moved for it, is. Raises SandboxError, with what to do.
    """
    hierarchies = read_hierarchies() if found is None else list(found)
    try:
        if not hierarchies:
            raise _Refused("no cgroups are mounted", MOUNT)
        missing = needed.difference(*(hierarchy.controllers for hierarchy in hierarchies))
        if missing:
            raise _Refused(f"this machine has no cgroup controller {' and '.join(sorted(missing))}")
        if hierarchies[0].version == 2:
            return _unified_site(hierarchies[0], needed, parent)
        return _divided_site(hierarchies, needed, parent)
    except _Refused as reason:
        flags = " and ".join(FLAGS[name] for name in FLAGS if name in needed) or "--cgroup-parent"
        raise SandboxError(
            f"RUN steps cannot have {flags} here: {reason}", code="cgroup", hint=reason.remedy or None
        ) from reason


def _divided_site(hierarchies: Sequence[Hierarchy], needed: frozenset[str], parent: str) -> Site:
    """The site under v1."""
    used, refused = [], None
    for hierarchy in hierarchies:
        if hierarchy.controllers & (needed | {*STATISTICS[1]}):
            try:
                used.append(_usable(hierarchy, parent))
            except OSError as error:
                refused = _not_writable(hierarchy.folder(parent), error, 1)
                if hierarchy.controllers & needed:
                    raise refused from error
    if not used:
        raise refused or _Refused("no cgroup controller is mounted", MOUNT)
    return Site(
        parents=tuple(hierarchy.folder(parent) for hierarchy in used),
        path=f"{parent.rstrip('/')}/" if parent else "",
        inherits=tuple(hierarchy.folder(parent) for hierarchy in used if inherits(hierarchy)),
    )


def controllers_here() -> tuple[int, tuple[str, ...]]:
    """For the doctor: (2, 1, or 0 where nothing is mounted; controllers whose limits can be held here).

    Nothing is made or moved.
    """
    hierarchies = read_hierarchies()
    if not hierarchies:
        return 0, ()
    version = hierarchies[0].version
    if version == 1:
        usable = [h.controllers for h in hierarchies if os.access(h.folder(), os.W_OK)]
        held: frozenset[str] = frozenset().union(*usable)
    else:
        top = hierarchies[0]
        held = frozenset()
        for folder in _candidates(top):
            if _may_use(top, folder):
                held = _given(folder)
                break
    return version, tuple(name for name in FLAGS if name in held)


def _usable(hierarchy: Hierarchy, parent: str) -> Hierarchy:
    """The hierarchy, once its parent folder is there and may be written to. Raises OSError."""
    folder = hierarchy.folder(parent)
    make(folder, inherits=inherits(hierarchy))
    _check_writable(folder)
    return hierarchy


def _check_writable(folder: str) -> None:
    """Raise OSError where nothing can be made in a cgroup."""
    if not os.access(folder, os.W_OK):
        number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number))


def _unified_site(top: Hierarchy, needed: frozenset[str], parent: str) -> Site:
    """The site under v2."""
    if parent.startswith("/"):
        folder = top.folder(parent)
    else:
        folder = "/".join((_own_place(top, needed), *filter(None, [parent])))
    try:
        make(folder)
        _give_down(top.mount, folder, needed)
        _check_writable(folder)
    except OSError as error:
        raise _not_writable(folder, error, 2) from error
    return Site(parents=(folder,), path=f"{folder[len(top.mount) :]}/")


def _own_place(top: Hierarchy, needed: frozenset[str]) -> str:
    """The first candidate that can be used. Raises _Refused."""
    reason: _Refused | None = None
    for folder in _candidates(top):
        if not _may_use(top, folder):
            continue
        lacking = needed - _given(folder)
        if lacking:
            told = " and ".join(sorted(lacking))
            reason = _Refused(f"{folder} was not given the cgroup controller {told}", REMEDIES[2])
            continue
        try:
            if folder == top.folder() and not _is_machine(folder):
                _empty(folder)
        except OSError as error:
            reason = _not_writable(folder, error, 2)
            continue
        return folder
    if reason is None:
        try:
            _check_writable(top.folder())
        except OSError as error:
            raise _not_writable(top.folder(), error, 2) from error
    raise reason or _Refused(f"nothing at or above {top.folder()} is given to this user", REMEDIES[2])


def _candidates(top: Hierarchy) -> list[str]:
    """Where a build's folder could be, best first."""
    own = top.folder()
    if os.path.basename(own) == HOST:
        return [os.path.dirname(own)]
    first = [own] if _is_machine(own) or own == top.mount or _is_delegated(own) else []
    above = []
    while own != top.mount and len(own) > len(top.mount):
        own = os.path.dirname(own)
        above.append(own)
    return [*first, *above]


def _may_use(top: Hierarchy, folder: str) -> bool:
    """Whether children can be made in this cgroup, and this process's children moved there."""
    if not os.access(folder, os.W_OK):
        return False
    # who moves a process must be allowed to do so in the lowest cgroup that has both places
    return os.access(f"{folder}/{PROCESSES}", os.W_OK) and (
        folder == top.folder()
        or _is_machine(folder)
        or bool(read(folder, _CONTROL))
        or os.path.basename(top.folder()) == HOST
    )


def _given(folder: str) -> frozenset[str]:
    return frozenset(read(folder, "cgroup.controllers").split())


def _is_machine(folder: str) -> bool:
    """Whether it is the root of all cgroups, which may have processes and children."""
    return os.path.isdir(folder) and not os.path.exists(f"{folder}/cgroup.type")


def _is_delegated(folder: str) -> bool:
    for mark in _MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    return False


def _empty(folder: str) -> None:
    """Move all processes of a cgroup to a child. Raises OSError."""
    host = f"{folder}/{HOST}"
    make(host)
    for _ in range(_ROUNDS):  # they may fork meanwhile
        pids = read(folder, PROCESSES).split()
        if not pids:
            return
        for pid in pids:
            try:
                write(host, PROCESSES, pid)
            except ProcessLookupError:
                continue
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


_ROUNDS = 50


def _give_down(mount: str, folder: str, needed: frozenset[str]) -> None:
    """Give the controllers that are needed, and those for statistics where it can be had, to the children of
    each cgroup down to this one. Raises OSError."""
    steps = folder[len(mount) :].strip("/").split("/") if folder != mount else []
    for depth in range(len(steps) + 1):
        cgroup = "/".join((mount, *steps[:depth]))
        given = set(read(cgroup, _CONTROL).split())
        for name in sorted((needed | {*STATISTICS[2]}) - given):
            try:
                write(cgroup, _CONTROL, f"+{name}")
            except OSError:
                if name in needed:
                    raise


def give_down(folder: str, needed: frozenset[str]) -> None:
    """The same for one cgroup of v2; nothing on v1. Raises SandboxError."""
    if not os.path.exists(f"{folder}/{_CONTROL}"):
        return
    try:
        _give_down(folder, folder, needed)
    except OSError as error:
        raise SandboxError(f"no controllers for {folder}: {reason_of(error)}", code="cgroup") from error


def _not_writable(folder: str, error: OSError, version: int) -> _Refused:
    remedy = READ_ONLY if error.errno == errno.EROFS else REMEDIES[version]
    return _Refused(f"{folder}: {reason_of(error)}", remedy)
