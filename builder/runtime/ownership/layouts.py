"""The kernel's structures, as bytes: notifications, and the several forms of stat.

Pure. Offsets from linux/seccomp.h, linux/stat.h and asm/stat.h of each architecture; x32 has x86-64's.
"""

from __future__ import annotations

import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.fs.ownership import Record

AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7

# struct seccomp_notif: id, pid, flags, then struct seccomp_data: nr, arch, ip, six arguments
NOTIFICATION = struct.Struct("<QIIiIQ6Q")
# struct seccomp_notif_resp: id, value, error, flags
RESPONSE = struct.Struct("<QqiI")
# struct seccomp_notif_addfd: id, flags, source, target, flags of the target
ADD_DESCRIPTOR = struct.Struct("<QIIII")
CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
SEND = 2  # SECCOMP_ADDFD_FLAG_SEND

_PERMISSIONS = 0o7777
_WORD, _HALF = struct.Struct("<I"), struct.Struct("<H")
_OWNERS = struct.Struct("<II")

# where st_mode, st_uid (st_gid follows it) and st_rdev are, and how long it is
_NATIVE = {AUDIT_X86_64: (24, 28, 40, 144), AUDIT_AARCH64: (16, 24, 32, 128)}


def native_stat(raw: bytes, record: Record, audit: int) -> bytes:
    """`struct stat` of a 64-bit architecture, with the record's owners in place of the file's."""
    mode, owner, device, length = _NATIVE[audit]
    changed = bytearray(raw[:length])
    _OWNERS.pack_into(changed, owner, record.uid, record.gid)
    if record.mode:
        (before,) = _WORD.unpack_from(changed, mode)
        _WORD.pack_into(changed, mode, record.mode | before & _PERMISSIONS)
        struct.pack_into("<Q", changed, device, record.device)
    return bytes(changed)


def statx(raw: bytes, record: Record) -> bytes:
    """`struct statx`, with the record's owners in place of the file's."""
    changed = bytearray(raw)
    _OWNERS.pack_into(changed, 20, record.uid, record.gid)
    if record.mode:
        (before,) = _HALF.unpack_from(changed, 28)
        _HALF.pack_into(changed, 28, record.mode | before & _PERMISSIONS)
        _OWNERS.pack_into(changed, 128, os.major(record.device), os.minor(record.device))
    return bytes(changed)


def stat64_i386(found: os.stat_result, record: Record) -> bytes:
    """`struct stat64` of i386 (96 bytes)."""
    mode, device = _kind(found, record)
    inode = found.st_ino & 0xFFFFFFFF
    return struct.pack(
        "<Q4xIIIIIQ4xqIQIIIIIIQ",
        *(_device(found.st_dev), inode, mode, found.st_nlink, record.uid, record.gid, _device(device)),
        *(found.st_size, found.st_blksize, found.st_blocks),
        *_times(found),
        found.st_ino,
    )


def stat_i386(found: os.stat_result, record: Record) -> bytes:
    """`struct stat` of i386 (64 bytes), whose owners have 16 bits. EOVERFLOW for what does not fit."""
    mode, device = _kind(found, record)
    if found.st_size >= 1 << 31 or found.st_ino >= 1 << 32:
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
    return struct.pack(
        "<IIHHHHIIIIIIIIII8x",
        *(_device(found.st_dev), found.st_ino, mode, found.st_nlink & 0xFFFF),
        *(narrow(record.uid), narrow(record.gid), _device(device)),
        *(found.st_size, found.st_blksize, found.st_blocks),
        *_times(found),
    )


def narrow(number: int) -> int:
    """An id in 16 bits: the overflow id where it does not fit, as the kernel does it."""
    return number if number <= 0xFFFF else 65534


def widen(number: int) -> int:
    """An id of 16 bits in 32, where -1 stays -1."""
    return 0xFFFFFFFF if number & 0xFFFF == 0xFFFF else number & 0xFFFF


def _kind(found: os.stat_result, record: Record) -> tuple[int, int]:
    if record.mode:
        return record.mode | found.st_mode & _PERMISSIONS, record.device
    return found.st_mode, found.st_rdev


def _device(number: int) -> int:
    """dev_t of the C library as the kernel encodes it for user space (new_encode_dev)."""
    major, minor = os.major(number), os.minor(number)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _times(found: os.stat_result) -> tuple[int, ...]:
    moments = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
    return tuple(part & 0xFFFFFFFF for moment in moments for part in divmod(moment, 1_000_000_000))
