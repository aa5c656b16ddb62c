"""How files of layers get their owners here: as they are, mapped, or written down beside the file.

The one idea: what a process may do to owners follows from its user namespace alone, so nobody has to be
told. Root of the initial namespace sets owners ("real"); root of a namespace with a range of ids sets them
within that range ("mapped"); who has a single id ("recorded") writes owner, type and device into the xattr
STAT_XATTR of a file or folder that is really its own. Overlayfs copies that xattr up, and hardlinks and
renames carry it, so the record stays with the file. Where no xattr can be (symlinks, fifos), the layer's
index alone knows.

Never knows layers or steps. See user_namespaces(7) and xattr(7).
"""

from __future__ import annotations

import os
import stat

REAL, MAPPED, RECORDED = "real", "mapped", "recorded"
STAT_XATTR = "user.pybuild.stat"

_ALL_IDS = 4294967295
_INITIAL = 0xEFFFFFFD  # PROC_USER_INIT_INO in linux/proc_ns.h


def of_process() -> str:
    """REAL, MAPPED or RECORDED, for this process in its user namespace."""
    if os.geteuid() != 0:
        return RECORDED
    if _is_initial():
        return REAL
    return RECORDED if sum(count for _, _, count in read_map("uid")) == 1 else MAPPED


def _is_initial() -> bool:
    """Whether this is the first user namespace, by its fixed number; without /proc it is taken to be."""
    try:
        return os.stat("/proc/self/ns/user").st_ino == _INITIAL
    except OSError:
        return True


def outer_uid() -> int:
    """This process's user as the namespace around it has it: the one whom files on disk belong to."""
    inner = os.geteuid()
    for first, outer, count in read_map("uid"):
        if first <= inner < first + count:
            return outer + inner - first
    return inner


def read_map(kind: str) -> list[tuple[int, int, int]]:
    """/proc/self/uid_map ("uid") or gid_map ("gid"): (first inside, first outside, count).

    Without /proc it is taken to be the initial namespace.
    """
    try:
        with open(f"/proc/self/{kind}_map", "rb") as file:
            rows = [[int(number) for number in line.split()] for line in file]
    except OSError:
        return [(0, 0, _ALL_IDS)]
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


class Record:
    """What a file pretends to be: its owner, its type where that is another than its own, its device.

    mode: 0, or the S_IFMT bits of a device that a regular file stands for; permissions are the file's own.
    """

    __slots__ = ("device", "gid", "mode", "uid")

    def __init__(self, uid: int, gid: int, mode: int = 0, device: int = 0) -> None:
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.device = device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"Record({self.encode().decode()})"

    def encode(self) -> bytes:
        """The xattr's value: "UID:GID", with ":TYPE:DEVICE" (octal, decimal) for a device."""
        text = f"{self.uid}:{self.gid}"
        return (f"{text}:{self.mode:o}:{self.device}" if self.mode else text).encode()


def decode(value: bytes) -> Record | None:
    """The record that an xattr's value is; None for anything that `encode` does not write."""
    parts = value.split(b":")
    if len(value) > 64 or len(parts) not in (2, 4) or not all(part.isdigit() for part in parts):
        return None
    uid, gid = int(parts[0]), int(parts[1])
    if max(uid, gid) >= _ALL_IDS:
        return None
    if len(parts) == 2:
        return Record(uid, gid)
    try:
        mode = int(parts[2], 8)
    except ValueError:
        return None
    if mode not in (stat.S_IFCHR, stat.S_IFBLK):
        return None
    return Record(uid, gid, mode, int(parts[3]))
