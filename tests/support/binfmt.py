"""Handlers of binfmt_misc that last as long as a test, and programs of other machines.

Handlers are the whole machine's, and of two that take a program the kernel asks the one that was registered
last; so each has a name of its own, and one test after the other has its turn.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.isolation.emulators import FOLDER, program_head
from tests.support.machine import run

REGISTER = Path(FOLDER, "register")
LOCK = Path(tempfile.gettempdir(), "pybuild-tests-binfmt.lock")
MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeff" + "ffff")


def needs_binfmt_misc() -> pytest.MarkDecorator:
    """Skip where this kernel has no binfmt_misc to register with."""
    known = Path("/proc/filesystems").read_text().split()
    possible = os.geteuid() == 0 and (REGISTER.exists() or "binfmt_misc" in known)
    return pytest.mark.skipif(not possible, reason="needs root and a kernel with binfmt_misc")


@contextmanager
def mounted() -> Iterator[None]:
    """A block in which binfmt_misc is where it belongs; other processes' tests wait for its end."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if REGISTER.exists():
            yield
            return
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", FOLDER])
        try:
            yield
        finally:
            run(["umount", FOLDER])


@contextmanager
def registered(architecture: str, interpreter: Path, flags: str = "") -> Iterator[None]:
    """A block in which programs of an architecture are given to the interpreter."""
    head = program_head(architecture)
    assert head is not None
    name = f"pybuild-test-{os.getpid()}-{architecture}"
    magic, mask = ("".join(f"\\x{byte:02x}" for byte in part) for part in (head[:20], MASK))
    with mounted():
        REGISTER.write_text(f":{name}:M:0:{magic}:{mask}:{interpreter}:{flags}")
        try:
            yield
        finally:
            Path(FOLDER, name).write_text("-1")


def program_of_arm64(text: bytes, path: bytes) -> bytes:
    """A static program that writes a text to standard output and into a new file, and ends with status 0."""
    code_size, base = 4 * 21, 0x400000
    data = base + 64 + 56 + code_size
    code = [
        *_set(0, 1), *_set(1, data), *_set(2, len(text)), *_call(64),  # write(1, text)
        *_set(0, -100), *_set(1, data + len(text)), *_set(2, 0o101), *_set(3, 0o644), *_call(56),  # openat
        *_set(1, data), *_set(2, len(text)), *_call(64),  # write(file, text)
        *_set(0, 0), *_call(93),  # exit(0)
    ]  # fmt: skip
    assert len(code) * 4 == code_size, len(code)
    body = struct.pack(f"<{len(code)}I", *code) + text + path + b"\0"
    head = program_head("arm64")
    assert head is not None
    size = 64 + 56 + len(body)
    rest = struct.pack("<QQQIHHHHHH", base + 64 + 56, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return head[:24] + rest + load + body


def _set(register: int, value: int) -> tuple[int, ...]:
    """Instructions that set a register: movz and movk, or movn for a small negative number."""
    if value < 0:
        return (0x92800000 | (~value & 0xFFFF) << 5 | register,)
    low = 0xD2800000 | (value & 0xFFFF) << 5 | register
    high = value >> 16
    return (low, 0xF2A00000 | high << 5 | register) if high else (low,)


def _call(number: int) -> tuple[int, ...]:
    """The number into x8, and svc 0."""
    return (*_set(8, number), 0xD4000001)
