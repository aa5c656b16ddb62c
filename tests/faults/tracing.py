"""strace(1): which calls a command makes that change something, and making one of them fail or be the last.

Calls are counted by strace in each thread of its own; a point is a call's name and its number in some thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# What changes files: names, bytes, attributes, barriers, mounts.
NAMES = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat",
    "mkdir", "mkdirat", "rmdir", "mknod", "mknodat",
)  # fmt: skip
BYTES = (
    "write", "writev", "pwrite64", "pwritev", "ftruncate", "truncate", "fallocate", "copy_file_range",
    "sendfile", "splice",
)  # fmt: skip
ATTRIBUTES = (
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "utimensat", "setxattr",
    "fsetxattr", "lsetxattr", "removexattr", "fremovexattr",
)  # fmt: skip
BARRIERS = ("fsync", "fdatasync", "syncfs", "sync_file_range")
MOUNTS = ("mount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount", "move_mount", "open_tree",
          "mount_setattr")  # fmt: skip
DESCRIPTORS = ("pipe2", "socket", "socketpair", "memfd_create", "epoll_create1", "eventfd2", "dup",
               "pidfd_open", "accept4")  # fmt: skip
PROCESSES = ("clone", "clone3", "fork", "vfork", "execve", "unshare", "setns", "seccomp", "setuid", "kill")
CALLS = (
    "openat", "ioctl", "flock", *NAMES, *BYTES, *ATTRIBUTES, *BARRIERS, *MOUNTS, *DESCRIPTORS, *PROCESSES
)  # fmt: skip

PATHS = ("openat", "flock", *NAMES, *BYTES, *ATTRIBUTES, *BARRIERS)  # their arguments tell of files
FICLONE = "FICLONE"
WRITES = re.compile(r"O_(CREAT|TRUNC|WRONLY|RDWR|TMPFILE)")
LINE = re.compile(r"(\d+)\s+(\w+)\((.*)$")
FD_PATH = re.compile(r"^\d+<([^>]*)>")


@dataclass(frozen=True)
class Call:
    """A system call as strace told it: `number` counts those of this name in this thread from 1."""

    thread: int
    name: str
    number: int
    text: str

    @property
    def subject(self) -> str:
        """The path of the descriptor that is its first argument, as far as there is one."""
        found = FD_PATH.match(self.text)
        return found[1] if found else ""

    @property
    def changes(self) -> bool:
        """Whether it changes something: opening for reading does not."""
        if self.name == "openat":
            return WRITES.search(self.text) is not None
        if self.name == "ioctl":
            return FICLONE in self.text
        return True


def command(log: Path, words: Sequence[str], inject: str = "") -> list[str]:
    """The words that run `words` under strace; inject: strace's expression of a fault, if any."""
    traced = [name for name in CALLS if name in _known()]
    fault = ["-e", f"inject={inject}"] if inject else []
    # With a filter only the calls that are traced stop; a signal would get lost then (strace 6.1).
    fast = [] if ":signal=" in inject else ["--seccomp-bpf"]
    flags = [*fast, "-f", "-qq", "-y", "-e", "signal=KILL", "-e", f"trace={','.join(traced)}", *fault]
    return ["strace", "-o", os.fspath(log), *flags, *words]


def _known() -> frozenset[str]:
    """The calls of this machine: some have no calls that newer ones replaced (arm64)."""
    missing = {"rename", "link", "symlink", "unlink", "mkdir", "rmdir", "mknod", "chmod", "chown", "lchown",
               "fork", "vfork"}  # fmt: skip
    return frozenset(CALLS) - (missing if os.uname().machine == "aarch64" else frozenset())


def calls(log: Path) -> Iterator[Call]:
    """The calls of a log as they began, in order."""
    numbers: dict[tuple[int, str], int] = {}
    with log.open(errors="replace") as lines:
        for line in lines:
            found = LINE.match(line)
            if found is None:  # `<... write resumed>`, and signals
                continue
            key = (int(found[1]), found[2])
            numbers[key] = numbers.get(key, 0) + 1
            yield Call(*key, numbers[key], found[3])


def injected(log: Path) -> list[str]:
    """The calls of a log that were made to fail, or who was killed, in order."""
    try:
        with log.open(errors="replace") as lines:
            marks = ("(INJECTED)", "+++ killed by SIGKILL")
            return [line.strip()[:300] for line in lines if any(mark in line for mark in marks)]
    except FileNotFoundError:
        return []


def concerns(line: str, folders: Sequence[str]) -> bool:
    """Whether a call with a path in it is about something in these folders; one without paths always is."""
    found = LINE.match(line)
    if found is None or found[2] not in PATHS:
        return True
    return any(folder in found[3] for folder in folders)
