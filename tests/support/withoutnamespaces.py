"""Become a program that is refused user namespaces: `python -m tests.support.withoutnamespaces WAY WORDS...`

WAY: `limit` (/proc/sys/user/max_user_namespaces is 0, in a namespace with all ids), `filter` (a seccomp
filter refuses unshare, as the profiles of containers do), or `nomounts` (they are granted, but nothing can be
mounted in them, as AppArmor of some systems has it).
"""

from __future__ import annotations

import errno
import os
import platform
import sys

from builder import libc
from builder.runtime import seccomp

_ALL = (1 << 32) - 1
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def limit_namespaces() -> None:
    """Enter a user namespace with all ids, in which no further one may be made."""
    parent = os.getpid()
    entered, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(entered, 1)
        for kind in ("uid", "gid"):
            with open(f"/proc/{parent}/{kind}_map", "w", encoding="ascii") as file:
                file.write(f"0 0 {_ALL}")
        os._exit(0)
    libc.unshare(libc.CLONE_NEWUSER)
    os.close(told)
    if os.waitpid(child, 0)[1]:
        sys.exit("no namespace with all ids can be made here")
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")


def forbid(name: str, number: int) -> None:
    """Refuse a system call with that errno from now on."""
    section = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [_ARCHITECTURES[platform.machine()]],
        "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number}],
    }
    libc.load_filter(seccomp.assemble(section))


if __name__ == "__main__":
    {
        "limit": limit_namespaces,
        "filter": lambda: forbid("unshare", errno.EPERM),
        "nomounts": lambda: forbid("mount", errno.EACCES),
    }[sys.argv[1]]()
    os.execvp(sys.argv[2], sys.argv[2:])
