"""Whether this user, on this machine, can run steps; and if not, why and what to do about it.

Asked before the first RUN, so it costs some system calls and leaves nothing changed. It knows no builder.
"""

from __future__ import annotations

import errno
import os
import platform

from builder import libc
from builder.errors import SandboxError
from builder.runtime.profile import ARCHITECTURES

_CAP_SYS_ADMIN = 1 << 21
_OLDEST = (5, 12)  # mount_setattr(2)


def probe() -> SandboxError | None:
    """The first reason why RUN cannot work here, or None."""
    checks = (_check_kernel, _check_privilege, _check_namespaces, _check_overlayfs)
    for check in checks:
        reason = check()
        if reason is not None:
            return reason
    return None


def probe_store(folder: str) -> SandboxError | None:
    """Why the layers of steps cannot lie in `folder` (on overlayfs there is no second overlay), or None."""
    if libc.filesystem_type(folder) != libc.OVERLAYFS_MAGIC:
        return None
    return SandboxError(
        f"{folder} lies on overlayfs (a container's own filesystem), where layers cannot be mounted",
        code="overlay-on-overlay",
        hint="put the store on a volume, with --root or PYBUILD_ROOT",
    )


def _check_kernel() -> SandboxError | None:
    release, machine = platform.release(), platform.machine()
    if machine not in ARCHITECTURES:
        return SandboxError(f"RUN steps are not supported on {machine}", hint="x86_64 and aarch64 are")
    if _version(release) < _OLDEST:
        return SandboxError(f"Linux {release} is too old for RUN steps", hint="Linux 5.12 or newer is needed")
    return None


def _version(release: str) -> tuple[int, ...]:
    numbers = (number for number in release.split("-")[0].split(".")[:2])
    return tuple(int(number) for number in numbers if number.isdigit())


def _check_privilege() -> SandboxError | None:
    if os.geteuid() != 0:
        return SandboxError(
            "RUN needs root: namespaces and mounts are refused to this user",
            hint="run pybuild as root (sudo)",
        )
    if not libc.capabilities()[0] & _CAP_SYS_ADMIN:
        return SandboxError(
            "RUN needs the capability CAP_SYS_ADMIN, which this root does not have",
            hint="inside a container, start that with --privileged",
        )
    return None


def _check_namespaces() -> SandboxError | None:
    """A new PID namespace for this thread's next child, taken back at once."""
    try:
        namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
    except OSError as error:
        return SandboxError(f"RUN needs /proc: {error.strerror}")
    try:
        libc.unshare(libc.CLONE_NEWPID)
        libc.setns(namespace, libc.CLONE_NEWPID)
    except OSError as error:
        return SandboxError(
            f"the kernel refuses new namespaces ({error.strerror})",
            hint="a seccomp filter or a limit (/proc/sys/user/max_pid_namespaces) may forbid unshare",
        )
    finally:
        os.close(namespace)
    return None


def _check_overlayfs() -> SandboxError | None:
    try:
        os.close(libc.fsopen("overlay"))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return SandboxError("this kernel has no overlayfs", hint="load it: modprobe overlay")
        return SandboxError(f"the kernel refuses mounts ({error.strerror})")
    return None
