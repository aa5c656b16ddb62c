"""Which calls of a step are answered by the supervisor, as rules of an OCI `linux.seccomp` section.

The one idea: as few as possible, since each answer costs two changes of process. So a call is asked about
only where its arguments can matter: openat where it may make or change a file, statx where owner, type or
permissions are wanted, getrlimit of the one limit that carries the credentials (see `lineage`).

Pure. Knows which calls there are, and not what is answered.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NOTIFY, ALLOW = "SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW"

O_ACCMODE, O_WRONLY, O_RDWR = 3, 1, 2
O_CREAT = 0o100
O_TMPFILE = 0o20000000  # without O_DIRECTORY, which belongs to it
RLIMIT_LOCKS = 10
_STATX_OWNERSHIP = 0x1B  # STATX_TYPE | STATX_MODE | STATX_UID | STATX_GID


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


IDENTITY = _names("""
getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid
setresgid setfsuid setfsgid setgroups
""")
FILES = _names("""
chown lchown fchown fchownat stat lstat fstat newfstatat mkdir mkdirat mknod mknodat symlink symlinkat
creat openat2 bind listxattr llistxattr flistxattr
""")
PERMISSIONS = _names("""
access faccessat faccessat2 unlink unlinkat rmdir rename renameat renameat2 link linkat chmod fchmod fchmodat
fchmodat2
""")
ROOTS = _names("chroot pivot_root unshare setns")  # after these a process may see other files than the step
PROCESS = _names("execve execveat capget capset")
# i386's further names for the same
I386 = (
    *(f"{name}32" for name in IDENTITY),
    *("chown32", "lchown32", "fchown32", "stat64", "lstat64", "fstat64", "fstatat64"),
)

_CREATING = (("open", 1), ("openat", 2))
SOL_SOCKET, SO_PEERCRED = 1, 17
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 7, 8, 47

SOCKETCALL_BIND, SOCKETCALL_GETSOCKOPT = 2, 15  # linux/net.h
_LIMITS = (("prlimit64", 1), ("setrlimit", 0), ("getrlimit", 0), ("ugetrlimit", 0))


def notify_rules(*, reading: bool = False) -> list[dict[str, Any]]:
    """The rules; they have to stand before those that allow. `reading`: every open(2) is asked about."""
    rules = [_masked("statx", 3, _STATX_OWNERSHIP, 0, ALLOW)]
    names = {*IDENTITY, *FILES, *PERMISSIONS, *ROOTS, *PROCESS, *I386, "statx"}
    rules.append({"names": sorted(names), "action": NOTIFY})
    if reading:
        rules.append({"names": [name for name, _ in _CREATING], "action": NOTIFY})
    for name, index in _CREATING:
        rules += [_masked(name, index, flag, flag, NOTIFY) for flag in (O_CREAT, O_TMPFILE)]
        rules += [_masked(name, index, O_ACCMODE, mode, NOTIFY) for mode in (O_WRONLY, O_RDWR)]
    rules += [_masked(name, index, 0xFFFFFFFF, RLIMIT_LOCKS, NOTIFY) for name, index in _LIMITS]
    peer = [_argument(1, 0xFFFFFFFF, SOL_SOCKET), _argument(2, 0xFFFFFFFF, SO_PEERCRED)]
    rules.append({"names": ["getsockopt"], "action": NOTIFY, "args": peer})
    kinds = (SOCKETCALL_BIND, SOCKETCALL_GETSOCKOPT)
    rules += [_masked("socketcall", 0, 0xFFFFFFFF, kind, NOTIFY) for kind in kinds]
    options = (PR_GET_KEEPCAPS, PR_SET_KEEPCAPS, PR_CAP_AMBIENT)
    rules += [_masked("prctl", 0, 0xFFFFFFFF, option, NOTIFY) for option in options]
    return rules


def notifying_section(
    section: Mapping[str, Any] | None, architectures: list[str], *, reading: bool = False
) -> dict[str, Any]:
    """The section with these rules before its own; without one, all else is allowed.

    A call that is asked about can be let go on, and then nothing else refuses it. So what the section does
    not allow whatever its arguments is not asked about.
    """
    if section is None:
        free = {"defaultAction": ALLOW, "architectures": architectures}
        return {**free, "syscalls": notify_rules(reading=reading)}
    plain = [rule for rule in section["syscalls"] if rule["action"] == ALLOW and not rule.get("args")]
    allowed = {name for rule in plain for name in rule["names"]}
    asked = [{**rule, "names": sorted(allowed & {*rule["names"]})} for rule in notify_rules(reading=reading)]
    return {**section, "syscalls": [*(rule for rule in asked if rule["names"]), *section["syscalls"]]}


def _masked(name: str, index: int, mask: int, value: int, action: str) -> dict[str, Any]:
    return {"names": [name], "action": action, "args": [_argument(index, mask, value)]}


def _argument(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
