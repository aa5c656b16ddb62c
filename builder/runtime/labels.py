"""The label that a security module gives the command: an AppArmor profile, a SELinux context.

Both are asked for by writing to a file of this process in procfs, and taken up by the next execve(2). What
is written there must reach procfs and nothing else (CVE-2025-52881: an image or a mount had bent the path to
another file, or to one that takes anything and does nothing). So it is written into a procfs of our own,
that hangs nowhere, by a walk that leaves it through no mount and no magic link; and the file's filesystem is
looked at before the first byte.

Runs in the step's process, before anything of the image is mounted; knows no builder. See proc_pid_attr(5).
"""

from __future__ import annotations

import errno
import os

from builder import libc
from builder.runtime.failure import because
from builder.runtime.mounts import new_filesystem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_INSIDE = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_MAGICLINKS | libc.RESOLVE_NO_XDEV
_APPARMOR = ("self/attr/apparmor/exec", "self/attr/exec")  # the second before Linux 5.8
_SELINUX = ("self/attr/exec",)


def announce(process: Mapping[str, Any]) -> None:
    """Have the kernel give the command the labels of the spec's process, if it has any.

    Raises Failure at step "identity": a step that should be confined and cannot be is not run.
    """
    if profile := process.get("apparmorProfile"):
        _write(_APPARMOR, f"exec {profile}", f"AppArmor profile {profile}")
    if label := process.get("selinuxLabel"):
        _write(_SELINUX, label, f"SELinux label {label}")


def _write(places: Sequence[str], text: str, what: str) -> None:
    attributes = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV | libc.MOUNT_ATTR_NOEXEC
    try:
        procfs = new_filesystem("proc", [], attributes)
        try:
            file = open_attribute(procfs, places)
        finally:
            os.close(procfs)
        try:
            os.write(file, os.fsencode(text))
        finally:
            os.close(file)
    except OSError as error:
        raise because("identity", f"cannot take the {what}", error) from error


def open_attribute(procfs: int, places: Sequence[str]) -> int:
    """The first of these files that is there, to be written to; OSError where it is not the kernel's."""
    for number, place in enumerate(places, 1):
        try:
            file = libc.openat2(procfs, place, os.O_WRONLY | os.O_CLOEXEC, resolve=_INSIDE)
        except FileNotFoundError:
            if number == len(places):
                raise
            continue
        if libc.filesystem_type_of(file) != libc.PROC_MAGIC:
            os.close(file)
            raise OSError(errno.EXDEV, "that file is not the kernel's")
        return file
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
