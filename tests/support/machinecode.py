"""Static programs made of system calls alone, for roots in which there is nothing else to run them.

`program` gives an ELF executable of x86-64 (whose calls may have the x32 bit) or of i386, which makes
its calls one after another and writes what they gave to standard output,
32 bits each: -errno where one failed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Call = tuple[int, Sequence[int]]

_BASE = 0x400000
_LOAD, _STACK = 1, 0x6474E551  # program headers; without the second the kernel sets READ_IMPLIES_EXEC
# mov rdi, rsi, rdx, r10, r8; mov ebx, ecx, edx, esi, edi
_X86_64 = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8")
_I386 = (b"\xbb", b"\xb9", b"\xba", b"\xbe", b"\xbf")


def program(machine: str, calls: Sequence[Call], data: bytes = b"") -> bytes:
    """The executable for "x86_64" or "i386"; a call is its number and up to five arguments. `data` lies at
    `address_of_data`."""
    header = _HEADERS[machine]
    size = len(header(0, 0, 0)) + len(data)
    code = b"".join(_call(machine, number, arguments, 0) for number, arguments in calls) + _tail(
        machine, 0, 0
    )
    results = _BASE + (size + len(code) + 15 & ~15)
    code = b"".join(
        _call(machine, number, arguments, results + 4 * index)
        for index, (number, arguments) in enumerate(calls)
    )
    code += _tail(machine, results, 4 * len(calls))
    return header(len(data), size + len(code), results + 4 * len(calls) - _BASE) + data + code


def address_of_data(machine: str) -> int:
    """Where a program finds its data."""
    return _BASE + len(_HEADERS[machine](0, 0, 0))


def results(written: bytes) -> list[int]:
    """What such a program wrote."""
    return list(struct.unpack(f"<{len(written) // 4}i", written))


def _call(machine: str, number: int, arguments: Sequence[int], result: int) -> bytes:
    if machine == "x86_64":
        code = b"\x48\xb8" + struct.pack("<Q", number)
        given = zip(_X86_64, arguments, strict=False)
        code += b"".join(register + struct.pack("<Q", value) for register, value in given)
        return code + b"\x0f\x05" + b"\x48\xbb" + struct.pack("<Q", result) + b"\x89\x03"
    code = b"\xb8" + struct.pack("<I", number)
    given = zip(_I386, arguments, strict=False)
    code += b"".join(register + struct.pack("<I", value) for register, value in given)
    return code + b"\xcd\x80" + b"\xa3" + struct.pack("<I", result)


def _tail(machine: str, start: int, length: int) -> bytes:
    """write(1, results), exit(0)."""
    write, leave = (1, 60) if machine == "x86_64" else (4, 1)
    scratch = start + length
    return _call(machine, write, (1, start, length), scratch) + _call(machine, leave, (0,), scratch)


def _header64(data: int, size: int, memory: int) -> bytes:
    start = _BASE + 64 + 2 * 56 + data
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, 62, 1, start, 64, 0, 0, 64, 56, 2, 0, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIQQQQQQ", _LOAD, 7, 0, _BASE, _BASE, size, memory + 16, 0x1000)
    return elf + load + struct.pack("<IIQQQQQQ", _STACK, 6, 0, 0, 0, 0, 0, 16)


def _header32(data: int, size: int, memory: int) -> bytes:
    start = _BASE + 52 + 2 * 32 + data
    elf = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\x01\x01\x01", 2, 3, 1, start, 52, 0, 0, 52, 32, 2, 0, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIIIIIII", _LOAD, 0, _BASE, _BASE, size, memory + 16, 7, 0x1000)
    return elf + load + struct.pack("<IIIIIIII", _STACK, 0, 0, 0, 0, 0, 6, 16)


_HEADERS = {"x86_64": _header64, "i386": _header32}
