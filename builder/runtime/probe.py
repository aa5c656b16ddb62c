"""Whether this user, on this machine, can run steps; and if not, why and what to do about it.

Asked before the first RUN, so it costs some system calls and leaves nothing changed. It knows no builder.
"""

from __future__ import annotations

import os
import platform
from _thread import allocate_lock, start_new_thread

from builder import libc
from builder.errors import SandboxError
from builder.runtime.profile import ARCHITECTURES

_CAP_SYS_ADMIN = 1 << 21
_OLDEST = (5, 12)  # mount_setattr(2)


def probe() -> SandboxError | None:
    """The first reason why RUN cannot work here, or None."""
    checks = (_check_kernel, _check_privilege, _check_namespaces, _check_mounts)
    for check in checks:
        reason = check()
        if reason is not None:
            return reason
    return None


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
    """A new PID namespace, asked for by a thread that ends with it."""
    refused: list[OSError] = []
    ended = allocate_lock()
    ended.acquire()

    def ask() -> None:
        try:
            libc.unshare(libc.CLONE_NEWPID)
        except OSError as error:
            refused.append(error)
        finally:
            ended.release()

    start_new_thread(ask, ())
    ended.acquire()
    if not refused:
        return None
    return SandboxError(
        f"the kernel refuses new namespaces ({refused[0].strerror})",
        hint="a seccomp filter or a limit (/proc/sys/user/max_pid_namespaces) may forbid unshare",
    )


def _check_mounts() -> SandboxError | None:
    try:
        os.close(libc.fsopen("tmpfs"))
    except OSError as error:
        return SandboxError(f"the kernel refuses mounts ({os.strerror(error.errno or 0)})")
    return None
