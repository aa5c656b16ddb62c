"""Functions called as root of a user namespace, in a process that ends with them."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from builder import libc

ONE_ID = [(0, os.geteuid(), 1)]
SOME_IDS = [(0, 0, 60000)]  # for who is root outside


def has_user_namespaces() -> bool:
    """Whether a user namespace can be made and written to here."""
    try:
        call_as_root_of(ONE_ID, lambda: None)
    except (AssertionError, OSError):
        return False
    return True


def call_as_root_of(rows: Sequence[tuple[int, int, int]], function: Callable[[], object]) -> None:
    """Call the function as root of a new user namespace with these ids (inside, outside, count), and of a
    mount namespace of its own. Raises AssertionError with the traceback of what the function raised."""
    asked, told = os.pipe(), os.pipe()
    go = os.pipe()
    child = os.fork()
    if child == 0:
        _live(function, asked[1], go[0], told[1])
    for descriptor in (asked[1], told[1], go[0]):
        os.close(descriptor)
    try:
        if os.read(asked[0], 1):
            _write_maps(child, rows)
            os.write(go[1], b"1")
        with os.fdopen(os.dup(told[0]), encoding="utf-8", errors="replace") as report:
            trouble = report.read()
    finally:
        for descriptor in (asked[0], told[0], go[1]):
            os.close(descriptor)
        status = os.waitpid(child, 0)[1]
    assert status == 0, trouble or f"ended with {status}"


def _write_maps(child: int, rows: Sequence[tuple[int, int, int]]) -> None:
    text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows)
    if os.geteuid() != 0:
        with open(f"/proc/{child}/setgroups", "w", encoding="ascii") as file:
            file.write("deny")
    for kind in ("uid", "gid"):
        with open(f"/proc/{child}/{kind}_map", "w", encoding="ascii") as file:
            file.write(text)


def _live(function: Callable[[], object], asks: int, go: int, tells: int) -> NoReturn:
    status = 1
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
        os.write(asks, b"1")
        if os.read(go, 1):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            function()
            status = 0
    except BaseException:
        os.write(tells, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        sys.stdout.flush()
        os._exit(status)
