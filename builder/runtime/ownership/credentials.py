"""The users and groups that a process believes to have: the kernel's rules for them, without the kernel.

The one idea: a process's credentials are a value, and each set*id call is a function from the old value
to the new one, or to the errno with which the kernel refuses. Privileged is who has the effective user 0:
the kernel gives and takes CAP_SETUID, CAP_SETGID and CAP_CHOWN with that (capabilities(7), "effect of
user ID changes"), as long as nobody asks it otherwise by PR_SET_KEEPCAPS or securebits.

Pure: knows no processes and no files. Rules as in kernel/sys.c and kernel/groups.c of Linux 6.x; see
credentials(7), setresuid(2), setfsuid(2), execve(2).
"""

from __future__ import annotations

import errno
import os
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Credentials(NamedTuple):
        """Real, effective, saved and file system ids of a process, and its supplementary groups."""

        ruid: int
        euid: int
        suid: int
        fsuid: int
        rgid: int
        egid: int
        sgid: int
        fsgid: int
        groups: tuple[int, ...]

else:
    Credentials = namedtuple("Credentials", "ruid euid suid fsuid rgid egid sgid fsgid groups")

UNCHANGED = 0xFFFFFFFF  # (uid_t) -1
MOST_GROUPS = 65536

_S_ISUID, _S_ISGID, _S_IXGRP = 0o4000, 0o2000, 0o010


def credentials_of(uid: int, gid: int, groups: tuple[int, ...] = ()) -> Credentials:
    """Those of a process that is `uid` and `gid` in every respect."""
    return Credentials(uid, uid, uid, uid, gid, gid, gid, gid, tuple(sorted(groups)))


def privileged(held: Credentials) -> bool:
    """Whether the kernel would let it take any id and give files to anybody."""
    return held.euid == 0


def in_group(held: Credentials, gid: int) -> bool:
    """Whether files of the group are its group's (in_group_p of the kernel)."""
    return gid == held.fsgid or gid in held.groups


def setuid(held: Credentials, uid: int) -> Credentials:
    """See setuid(2). As all of these it raises OSError with the kernel's errno."""
    _check_id(uid)
    if privileged(held):
        return held._replace(ruid=uid, euid=uid, suid=uid, fsuid=uid)
    _check_known(uid, held.ruid, held.suid)
    return held._replace(euid=uid, fsuid=uid)


def setgid(held: Credentials, gid: int) -> Credentials:
    """See setgid(2)."""
    _check_id(gid)
    if privileged(held):
        return held._replace(rgid=gid, egid=gid, sgid=gid, fsgid=gid)
    _check_known(gid, held.rgid, held.sgid)
    return held._replace(egid=gid, fsgid=gid)


def setreuid(held: Credentials, real: int, effective: int) -> Credentials:
    """See setreuid(2)."""
    if not privileged(held):
        if real != UNCHANGED:
            _check_known(real, held.ruid, held.euid)
        if effective != UNCHANGED:
            _check_known(effective, held.ruid, held.euid, held.suid)
    ruid, euid = _or(real, held.ruid), _or(effective, held.euid)
    saved = real != UNCHANGED or effective not in (UNCHANGED, held.ruid)
    return held._replace(ruid=ruid, euid=euid, suid=euid if saved else held.suid, fsuid=euid)


def setregid(held: Credentials, real: int, effective: int) -> Credentials:
    """See setregid(2)."""
    if not privileged(held):
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
    if not privileged(held):
        for number in (real, effective, saved):
            if number != UNCHANGED:
                _check_known(number, held.ruid, held.euid, held.suid)
    euid = _or(effective, held.euid)
    return held._replace(ruid=_or(real, held.ruid), euid=euid, suid=_or(saved, held.suid), fsuid=euid)


def setresgid(held: Credentials, real: int, effective: int, saved: int) -> Credentials:
    """See setresgid(2)."""
    if _changes_nothing(held[4:8], real, effective, saved):
        return held
    if not privileged(held):
        for number in (real, effective, saved):
            if number != UNCHANGED:
                _check_known(number, held.rgid, held.egid, held.sgid)
    egid = _or(effective, held.egid)
    return held._replace(rgid=_or(real, held.rgid), egid=egid, sgid=_or(saved, held.sgid), fsgid=egid)


def setfsuid(held: Credentials, uid: int) -> Credentials:
    """See setfsuid(2): never an error; who may not gets what there was."""
    if uid != UNCHANGED and (privileged(held) or uid in held[0:4]):
        return held._replace(fsuid=uid)
    return held


def setfsgid(held: Credentials, gid: int) -> Credentials:
    """See setfsgid(2)."""
    if gid != UNCHANGED and (privileged(held) or gid in held[4:8]):
        return held._replace(fsgid=gid)
    return held


def setgroups(held: Credentials, groups: tuple[int, ...]) -> Credentials:
    """See setgroups(2); the kernel keeps them sorted."""
    if not privileged(held):
        raise _refusal(errno.EPERM)
    if len(groups) > MOST_GROUPS or UNCHANGED in groups:
        raise _refusal(errno.EINVAL)
    return held._replace(groups=tuple(sorted(groups)))


def executed(held: Credentials, mode: int, owner: int, group: int) -> Credentials:
    """After execve(2) of a program with that mode and those owners: set-id bits count, ids are saved."""
    euid = owner if mode & _S_ISUID else held.euid
    egid = group if mode & (_S_ISGID | _S_IXGRP) == _S_ISGID | _S_IXGRP else held.egid
    return held._replace(euid=euid, suid=euid, fsuid=euid, egid=egid, sgid=egid, fsgid=egid)


def may_give(held: Credentials, owner: int, uid: int, gid: int) -> bool:
    """Whether chown(2) of `owner`'s file to those ids (UNCHANGED: as it is) is allowed."""
    if privileged(held):
        return True
    if uid not in (UNCHANGED, owner) or held.fsuid != owner:
        return uid == UNCHANGED and gid == UNCHANGED
    return gid == UNCHANGED or in_group(held, gid)


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
