"""The system call filter at work: the same calls, made by a Python inside the sandbox."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from .conftest import Sandbox
from .test_hostile import python_mounts

pytestmark = pytest.mark.root

PROBE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    child = os.fork()
    if child == 0:
        result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
        os._exit(ctypes.get_errno() if result == -1 else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
for line in CALLS:
    name, number, *arguments = line
    code = call(number, *arguments)
    print(name, errno.errorcode.get(code, code) if code else "ok")
"""

NEWUSER, NEWNS = 0x10000000, 0x20000
X32 = 0x40000000

# name, number on x86-64, arguments, what the sandbox answers
CALLS = [
    ("mount", 165, (0, 0, 0, 0, 0), "EPERM"),
    ("umount2", 166, (0, 0), "EPERM"),
    ("unshare-user", 272, (NEWUSER,), "EPERM"),
    ("unshare-mount", 272, (NEWNS,), "EPERM"),
    ("setns", 308, (0, 0), "EPERM"),
    ("clone-user", 56, (NEWUSER | 17, 0, 0, 0, 0), "EPERM"),
    ("clone3", 435, (0, 0), "ENOSYS"),
    ("keyctl", 250, (0, 0), "EPERM"),
    ("add_key", 248, (0, 0, 0, 0, 0), "EPERM"),
    ("bpf", 321, (0, 0, 0), "EPERM"),
    ("perf_event_open", 298, (0, 0, 0, 0, 0), "EPERM"),
    ("userfaultfd", 323, (0,), "EPERM"),
    ("open_by_handle_at", 304, (0, 0, 0), "EPERM"),
    ("kexec_load", 246, (0, 0, 0, 0), "EPERM"),
    ("init_module", 175, (0, 0, 0), "EPERM"),
    ("reboot", 169, (0, 0, 0), "EPERM"),
    ("swapon", 167, (0, 0), "EPERM"),
    ("io_uring_setup", 425, (1, 0), "EPERM"),
    ("clock_settime", 227, (0, 0), "EPERM"),
    ("fsopen", 430, (0, 0), "EPERM"),
    ("move_mount", 429, (0, 0, 0, 0, 0), "EPERM"),
    ("syslog", 103, (0, 0, 0), "EPERM"),
    ("socket-alg", 41, (38, 5, 0), "EPERM"),
    ("socket-alg-wide", 41, (38 | 1 << 32, 5, 0), "EPERM"),
    ("socket-vsock", 41, (40, 1, 0), "EPERM"),
    ("personality-other", 135, (0x0400000,), "EPERM"),
    ("x32-mount", 165 | X32, (0, 0, 0, 0, 0), "EPERM"),
    ("newer-than-known", 4000, (), "ENOSYS"),
    # and what must pass
    ("socket-inet", 41, (2, 1, 0), "ok"),
    ("socket-unix", 41, (1, 1, 0), "ok"),
    ("personality-query", 135, (0xFFFFFFFF,), "ok"),
    ("getpid", 39, (), "ok"),
    ("unshare-nothing", 272, (0,), "EPERM"),
    ("ptrace-me", 101, (0, 0, 0, 0), "ok"),
    ("chroot-root", 161, (0,), "EFAULT"),
    ("fork", 57, (), "ok"),
]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
async def test_calls_are_answered_as_docker_answers_them(sandbox: Sandbox) -> None:
    calls = [(name, number, *arguments) for name, number, arguments, _ in CALLS]
    script = f"CALLS = {calls!r}\n{PROBE}"
    said = await sandbox.says(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", script], mounts=python_mounts()
    )
    assert dict(line.split() for line in said) == {name: answer for name, _, _, answer in CALLS}


async def test_a_thread_can_be_made(sandbox: Sandbox) -> None:
    script = "import threading; t = threading.Thread(target=print, args=['run']); t.start(); t.join()"
    said = await sandbox.says([os.path.realpath(sys.executable), "-I", "-c", script], mounts=python_mounts())
    assert said == ["run"]


async def test_a_user_without_capabilities_is_under_the_same_filter(sandbox: Sandbox) -> None:
    said = await sandbox.says("grep Seccomp: /proc/self/status; unshare -r true || echo refused", uid=1000)
    assert said == ["Seccomp:\t2", "refused"]
