"""The kernel's structures with other owners in them: against what this machine's kernel writes."""

from __future__ import annotations

import os
import platform
import stat
import struct
from pathlib import Path

import pytest

from builder import libc
from builder.fs.ownership import Record
from builder.runtime.ownership import layouts

NATIVE = {"x86_64": layouts.AUDIT_X86_64, "aarch64": layouts.AUDIT_AARCH64}.get(platform.machine(), 0)
STAT = {
    layouts.AUDIT_X86_64: struct.Struct(
        "<QQQIII4xQqqq"
    ),  # dev ino nlink mode uid gid rdev size blksize blocks
    layouts.AUDIT_AARCH64: struct.Struct("<QQIIIIQ8xqi"),  # dev ino mode nlink uid gid rdev size blksize
}
DEVICE = Record(7, 8, stat.S_IFCHR, os.makedev(259, 70000))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    path.write_text("content")
    path.chmod(0o4640)
    os.utime(path, ns=(1_700_000_000_123_456_789, 1_600_000_000_000_000_001))
    return path


def fields(raw: bytes) -> dict[str, int]:
    values = STAT[NATIVE].unpack_from(raw)
    names = ("dev", "ino", "nlink", "mode", "uid", "gid", "rdev", "size", "blksize", "blocks")
    if NATIVE == layouts.AUDIT_AARCH64:
        names = ("dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize")
    return dict(zip(names, values, strict=False))


@pytest.mark.skipif(not NATIVE, reason="another architecture")
def test_stat_has_the_records_owners_and_else_the_files(file: Path) -> None:
    raw = libc.Exchange().stat(os.fsencode(file), 0)
    before, after = fields(raw), fields(layouts.native_stat(raw, Record(70000, 6), NATIVE))
    assert (after.pop("uid"), after.pop("gid")) == (70000, 6)
    del before["uid"], before["gid"]
    assert after == before
    assert before["mode"] == stat.S_IFREG | 0o4640


@pytest.mark.skipif(not NATIVE, reason="another architecture")
def test_stat_of_a_device_is_a_devices(file: Path) -> None:
    raw = libc.Exchange().stat(os.fsencode(file), 0)
    after = fields(layouts.native_stat(raw, DEVICE, NATIVE))
    assert (after["mode"], after["rdev"]) == (stat.S_IFCHR | 0o4640, os.makedev(259, 70000))


def test_statx_has_the_records_owners_and_else_the_files(file: Path) -> None:
    raw = libc.Exchange().statx(os.fsencode(file), 0, 0xFFF)
    changed = layouts.statx(raw, Record(70000, 6))
    assert struct.unpack_from("<II", changed, 20) == (70000, 6)
    assert changed[:20] + changed[28:] == raw[:20] + raw[28:]
    device = layouts.statx(raw, DEVICE)
    assert struct.unpack_from("<H", device, 28) == (stat.S_IFCHR | 0o4640,)
    assert struct.unpack_from("<II", device, 128) == (259, 70000)


def test_the_forms_of_i386_hold_what_stat_tells(file: Path) -> None:
    found = os.stat(file)
    new = struct.unpack("<Q4xIIIIIQ4xqIQIIIIIIQ", layouts.stat64_i386(found, Record(70000, 6)))
    assert len(layouts.stat64_i386(found, Record(70000, 6))) == 96
    assert new[1:6] == (found.st_ino & 0xFFFFFFFF, found.st_mode, 1, 70000, 6)
    assert new[7] == 7
    assert new[10:14] == (1_700_000_000, 123_456_789, 1_600_000_000, 1)
    old = struct.unpack("<IIHHHHIIIIIIIIII8x", layouts.stat_i386(found, Record(70000, 6)))
    assert len(layouts.stat_i386(found, Record(70000, 6))) == 64
    assert old[2:6] == (found.st_mode, 1, 65534, 6)
    assert old[10:12] == (1_700_000_000, 123_456_789)


def test_a_file_too_long_for_the_old_form_is_an_overflow(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.touch()
    os.truncate(long, 1 << 31)
    with pytest.raises(OSError, match="too large"):
        layouts.stat_i386(os.stat(long), Record(1, 1))


def test_devices_are_numbered_as_the_kernel_does() -> None:
    raw = layouts.stat64_i386(os.stat("/dev/null"), Record(0, 0))
    assert struct.unpack_from("<Q", raw, 32)[0] == os.makedev(1, 3)
    assert layouts.stat64_i386(os.stat("/dev/null"), DEVICE)[32:36] == struct.pack(
        "<I", (70000 & 0xFF) | 259 << 8 | (70000 & ~0xFF) << 12
    )


def test_ids_of_16_bits() -> None:
    assert [layouts.widen(number) for number in (0, 5, 0xFFFF, 0xFFFFFFFF, 0x10005)] == [
        *(0, 5, 0xFFFFFFFF, 0xFFFFFFFF, 5)
    ]
    assert [layouts.narrow(number) for number in (0, 65535, 65536)] == [0, 65535, 65534]


def test_notifications_have_the_kernels_sizes() -> None:
    assert (layouts.NOTIFICATION.size, layouts.RESPONSE.size, layouts.ADD_DESCRIPTOR.size) == (80, 24, 24)
