"""The users, groups and capabilities that a process believes to have: the kernel's rules, without the kernel.

The one idea: a process's credentials are a value, and each call that changes them is a function from the
old value to the new one, or to the errno with which the kernel refuses. Who may do what is decided by the
effective capabilities, which follow the user ids as in the kernel (capabilities(7), "effect of user ID
changes"), PR_SET_KEEPCAPS and ambient ones included. Securebits are as nobody had touched them.

Pure: knows no processes and no files. Rules as in kernel/sys.c, kernel/groups.c and security/commoncap.c
of Linux 6.x; see credentials(7), setresuid(2), setfsuid(2), capset(2), execve(2).
"""

from __future__ import annotations

import errno
import os
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Credentials(NamedTuple):
        """Real, effective, saved and file system ids of a process, its groups, capabilities as bit masks, and
        whether PR_SET_KEEPCAPS is in force. `bounding`: what root gets by executing a program."""

        ruid: int
        euid: int
        suid: int
        fsuid: int
        rgid: int
        egid: int
        sgid: int
        fsgid: int
        groups: tuple[int, ...]
        effective: int
        permitted: int
        inheritable: int
        ambient: int
        bounding: int
        keeps: bool

else:
    Credentials = namedtuple(
        "Credentials",
        "ruid euid suid fsuid rgid egid sgid fsgid groups "
        "effective permitted inheritable ambient bounding keeps",
    )

UNCHANGED = 0xFFFFFFFF  # (uid_t) -1
MOST_GROUPS = 65536

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_MKNOD = 1 << 6, 1 << 7, 1 << 8, 1 << 27
# what belongs to the file system user: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID,
# LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE (CAP_FS_SET of the kernel)
_OF_FSUID = 0x1F | 1 << 9 | CAP_MKNOD | 1 << 32

_S_ISUID, _S_ISGID, _S_IXGRP = 0o4000, 0o2000, 0o010
_S_IFMT, _S_IFDIR = 0o170000, 0o040000


def credentials_of(
    uid: int,
    gid: int,
    groups: tuple[int, ...] = (),
    capabilities: int = 0,
    bounding: int = 0,
    ambient: int = 0,
) -> Credentials:
    """Those of a process that is `uid` and `gid` in every respect, and holds these capabilities.

    ambient: which of these its programs inherit.
    """
    ids = (uid, uid, uid, uid, gid, gid, gid, gid, tuple(sorted(groups)))
    return Credentials(*ids, capabilities, capabilities, ambient, ambient, bounding, False)


def in_group(held: Credentials, gid: int) -> bool:
    """Whether files of the group are its group's (in_group_p of the kernel)."""
    return gid == held.fsgid or gid in held.groups


def setuid(held: Credentials, uid: int) -> Credentials:
    """See setuid(2). As all of these it raises OSError with the kernel's errno."""
    _check_id(uid)
    if held.effective & CAP_SETUID:
        return _fixed(held, held._replace(ruid=uid, euid=uid, suid=uid, fsuid=uid))
    _check_known(uid, held.ruid, held.suid)
    return _fixed(held, held._replace(euid=uid, fsuid=uid))


def setgid(held: Credentials, gid: int) -> Credentials:
    """See setgid(2)."""
    _check_id(gid)
    if held.effective & CAP_SETGID:
        return held._replace(rgid=gid, egid=gid, sgid=gid, fsgid=gid)
    _check_known(gid, held.rgid, held.sgid)
    return held._replace(egid=gid, fsgid=gid)


def setreuid(held: Credentials, real: int, effective: int) -> Credentials:
    """See setreuid(2)."""
    if not held.effective & CAP_SETUID:
        if real != UNCHANGED:
            _check_known(real, held.ruid, held.euid)
        if effective != UNCHANGED:
            _check_known(effective, held.ruid, held.euid, held.suid)
    ruid, euid = _or(real, held.ruid), _or(effective, held.euid)
    saved = real != UNCHANGED or effective not in (UNCHANGED, held.ruid)
    return _fixed(held, held._replace(ruid=ruid, euid=euid, suid=euid if saved else held.suid, fsuid=euid))


def setregid(held: Credentials, real: int, effective: int) -> Credentials:
    """See setregid(2)."""
    if not held.effective & CAP_SETGID:
        if real != UNCHANGED:
            _check_known(real, held.rgid, held.egid)
        if effective != UNCHANGED:
            _check_known(effective, held.rgid, held.egid, held.sgid)
    rgid, egid = _or(real, held.rgid), _or(effective, held.egid)
    saved = real != UNCHANGED or effective not in (UNCHANGED, held.rgid)
    return held._replace(rgid=rgid, egid=egid, sgid=egid if saved else held.sgid, fsgid=egid)


def setresuid(held: Credentials, real: int, effective: int, saved: int) -> Credentials:
    """See setresuid(2)."""
    if _changes_nothing(held[0:4], real, effective, saved):
        return held
    if not held.effective & CAP_SETUID:
        for number in (real, effective, saved):
            if number != UNCHANGED:
                _check_known(number, held.ruid, held.euid, held.suid)
    euid = _or(effective, held.euid)
    return _fixed(
        held, held._replace(ruid=_or(real, held.ruid), euid=euid, suid=_or(saved, held.suid), fsuid=euid)
    )


def setresgid(held: Credentials, real: int, effective: int, saved: int) -> Credentials:
    """See setresgid(2)."""
    if _changes_nothing(held[4:8], real, effective, saved):
        return held
    if not held.effective & CAP_SETGID:
        for number in (real, effective, saved):
            if number != UNCHANGED:
                _check_known(number, held.rgid, held.egid, held.sgid)
    egid = _or(effective, held.egid)
    return held._replace(rgid=_or(real, held.rgid), egid=egid, sgid=_or(saved, held.sgid), fsgid=egid)


def setfsuid(held: Credentials, uid: int) -> Credentials:
    """See setfsuid(2): never an error; who may not gets what there was."""
    if uid == UNCHANGED or not (held.effective & CAP_SETUID or uid in held[0:4]):
        return held
    effective = held.effective
    if held.fsuid == 0 != uid:
        effective &= ~_OF_FSUID
    elif held.fsuid != 0 == uid:
        effective |= held.permitted & _OF_FSUID
    return held._replace(fsuid=uid, effective=effective)


def setfsgid(held: Credentials, gid: int) -> Credentials:
    """See setfsgid(2)."""
    if gid != UNCHANGED and (held.effective & CAP_SETGID or gid in held[4:8]):
        return held._replace(fsgid=gid)
    return held


def setgroups(held: Credentials, groups: tuple[int, ...]) -> Credentials:
    """See setgroups(2); the kernel keeps them sorted."""
    if not held.effective & CAP_SETGID:
        raise _refusal(errno.EPERM)
    if len(groups) > MOST_GROUPS or UNCHANGED in groups:
        raise _refusal(errno.EINVAL)
    return held._replace(groups=tuple(sorted(groups)))


def capset(held: Credentials, effective: int, permitted: int, inheritable: int) -> Credentials:
    """See capset(2)."""
    gained = inheritable & ~(held.inheritable | held.permitted)
    if permitted & ~held.permitted or effective & ~permitted:
        raise _refusal(errno.EPERM)
    if (gained and not held.effective & CAP_SETPCAP) or inheritable & ~(held.inheritable | held.bounding):
        raise _refusal(errno.EPERM)
    ambient = held.ambient & permitted & inheritable
    return held._replace(effective=effective, permitted=permitted, inheritable=inheritable, ambient=ambient)


def raise_ambient(held: Credentials, capability: int) -> Credentials:
    """See PR_CAP_AMBIENT_RAISE of prctl(2)."""
    if not held.permitted & held.inheritable & capability:
        raise _refusal(errno.EPERM)
    return held._replace(ambient=held.ambient | capability)


def executed(held: Credentials, mode: int, owner: int, group: int) -> Credentials:
    """After execve(2) of a program with that mode and those owners: set-id bits count, ids are saved."""
    euid = owner if mode & _S_ISUID else held.euid
    egid = group if mode & (_S_ISGID | _S_IXGRP) == _S_ISGID | _S_IXGRP else held.egid
    ambient = held.ambient if (euid, egid) == (held.ruid, held.rgid) else 0
    permitted = held.bounding | held.inheritable if 0 in (held.ruid, euid) else ambient
    effective = permitted if euid == 0 else ambient
    new = held._replace(euid=euid, suid=euid, fsuid=euid, egid=egid, sgid=egid, fsgid=egid)
    return new._replace(permitted=permitted, effective=effective, ambient=ambient, keeps=False)


def may_give(held: Credentials, owner: int, uid: int, gid: int) -> bool:
    """Whether chown(2) of `owner`'s file to those ids (UNCHANGED: as it is) is allowed."""
    if held.effective & CAP_CHOWN:
        return True
    if uid not in (UNCHANGED, owner) or held.fsuid != owner:
        return uid == UNCHANGED and gid == UNCHANGED
    return gid == UNCHANGED or in_group(held, gid)


def grants(held: Credentials, mode: int, owner: int, group: int, wanted: int) -> bool:
    """Whether a file of that mode and those owners grants `wanted` (4 reading, 2 writing, 1 executing)."""
    shift = 6 if held.fsuid == owner else 3 if in_group(held, group) else 0
    if not wanted & ~(mode >> shift) & 7:
        return True
    if mode & _S_IFMT == _S_IFDIR:
        searches = not wanted & 2 and held.effective & CAP_DAC_READ_SEARCH
        return bool(searches or held.effective & CAP_DAC_OVERRIDE)
    if wanted == 4 and held.effective & CAP_DAC_READ_SEARCH:
        return True
    return bool(held.effective & CAP_DAC_OVERRIDE and (not wanted & 1 or mode & 0o111))


def _fixed(before: Credentials, after: Credentials) -> Credentials:
    """With the capabilities that a change of user ids leaves (cap_emulate_setxuid of the kernel)."""
    effective, permitted, ambient = after.effective, after.permitted, after.ambient
    if 0 in before[0:3] and 0 not in after[0:3]:
        ambient = 0
        if not after.keeps:
            effective = permitted = 0
    if before.euid == 0 != after.euid:
        effective = 0
    elif before.euid != 0 == after.euid:
        effective = permitted
    return after._replace(effective=effective, permitted=permitted, ambient=ambient)


def _or(number: int, before: int) -> int:
    return before if number == UNCHANGED else number


def _changes_nothing(before: tuple[int, ...], real: int, effective: int, saved: int) -> bool:
    kept = _or(real, before[0]) == before[0] and _or(saved, before[2]) == before[2]
    return kept and (effective == UNCHANGED or effective == before[1] == before[3])


def _check_id(number: int) -> None:
    if number == UNCHANGED:
        raise _refusal(errno.EINVAL)


def _check_known(number: int, *known: int) -> None:
    if number not in known:
        raise _refusal(errno.EPERM)


def _refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))
