"""A step's sandbox as chroot alone can give it, or which of its parts cannot be had. Pure.

What remains of a spec: its command, user, limits and root, docker's seccomp profile under no_new_privs, and
files that are copied in. Its command loses the two capabilities by which a root would leave the chroot or
reach the machine's disks.
"""

from __future__ import annotations

import msgspec

from builder.errors import BuildError
from builder.runtime.rootfs import CHROOT_ANNOTATION
from builder.runtime.spec import CapabilitySets, RuntimeSpec

_DROPPED = frozenset(("CAP_SYS_CHROOT", "CAP_MKNOD"))
# (type, destination) of what every sandbox has, once: what is not given, and what is copied in
_LEFT_OUT = frozenset(
    {
        ("proc", "/proc"),
        ("tmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("mqueue", "/dev/mqueue"),
        ("sysfs", "/sys"),
        ("cgroup", "/sys/fs/cgroup"),
    }
)
_COPIED = frozenset({("bind", "/etc/hosts"), ("bind", "/etc/resolv.conf")})


def with_chroot(spec: RuntimeSpec) -> RuntimeSpec:
    """The spec for chroot alone. Raises BuildError that names what the step asks for and cannot have."""
    copied, own = [], {*_LEFT_OUT, *_COPIED}
    for mount in spec.mounts:
        key = mount.type, mount.destination
        if key not in own:
            raise _impossible(f"a mount at {mount.destination}", "the mount")
        own.discard(key)
        if key in _COPIED:
            copied.append(mount)
    if any(namespace.type == "network" for namespace in spec.linux.namespaces):
        raise _impossible("a network other than the one around it", "--network none")
    if spec.linux.devices:
        raise _impossible("devices", "RUN --device")
    if spec.process.terminal:
        raise _impossible("a terminal", "--on-failure=shell")
    linux = msgspec.structs.replace(
        spec.linux, namespaces=(), masked_paths=(), readonly_paths=(), resources=None
    )
    process = msgspec.structs.replace(
        spec.process, capabilities=_without(spec.process.capabilities), no_new_privileges=True
    )
    return msgspec.structs.replace(
        spec,
        process=process,
        hostname="",
        mounts=tuple(copied),
        linux=linux,
        annotations={**spec.annotations, CHROOT_ANNOTATION: ""},
    )


def _without(sets: CapabilitySets) -> CapabilitySets:
    return CapabilitySets(
        **{
            name: tuple(held for held in getattr(sets, name) if held not in _DROPPED)
            for name in CapabilitySets.__struct_fields__
        }
    )


def _impossible(what: str, flag: str) -> BuildError:
    return BuildError(
        f"--isolation chroot cannot give a step {what}",
        code="isolation",
        hint=f"leave out {flag}, or build where `pybuild doctor` finds another rung",
    )
