"""Answers to the calls about files that are there: chown, stat, and lists of extended attributes.

Handlers as in `identity`. A file that has no record is root's, as it really is, and the kernel answers;
so a step that meets no record pays for the question alone.

What chown(2) does beside the owner (clearing set-id bits and capabilities, the time of change, a copy by
overlayfs) the kernel does here, too: the file is really given to its own owner again.
"""

from __future__ import annotations

import errno
import os

from builder.fs.ownership import STAT_XATTR, Record
from builder.runtime.ownership import credentials, layouts
from builder.runtime.ownership.credentials import UNCHANGED
from builder.runtime.ownership.layouts import widen
from builder.runtime.ownership.targets import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.runtime.ownership.identity import Handler, Identity
    from builder.runtime.ownership.records import Records
    from builder.runtime.ownership.targets import Call, Targets

    Form = Callable[[os.stat_result, Record], bytes]

_TO_ROOT = (0, UNCHANGED)


class Owners:
    """Answers for files of one step."""

    def __init__(self, targets: Targets, identity: Identity, records: Records) -> None:
        self._targets = targets
        self._identity = identity
        self._records = records

    def handlers(self) -> dict[str, Handler]:
        """By name, for 64-bit architectures (and of i386 what is the same)."""
        return {
            "chown": lambda call: self._chown_path(call, _wide, follow=True),
            "lchown": lambda call: self._chown_path(call, _wide, follow=False),
            "fchown": lambda call: self._chown_file(call, _wide),
            "fchownat": self._fchownat,
            "stat": lambda call: self._stat_path(call, follow=True),
            "lstat": lambda call: self._stat_path(call, follow=False),
            "fstat": self._fstat,
            "newfstatat": self._newfstatat,
            "statx": self._statx,
            "listxattr": lambda call: self._list_path(call, follow=True),
            "llistxattr": lambda call: self._list_path(call, follow=False),
            "flistxattr": lambda call: self._list(call, self._targets.descriptor(call, call.folder(0)), True),
        }

    def handlers_of_i386(self) -> dict[str, Handler]:
        """Those of i386 alone: old calls with ids of 16 bits, and its own forms of stat."""
        old, new = layouts.stat_i386, layouts.stat64_i386
        handlers: dict[str, Handler] = {
            "chown": lambda call: self._chown_path(call, widen, follow=True),
            "lchown": lambda call: self._chown_path(call, widen, follow=False),
            "fchown": lambda call: self._chown_file(call, widen),
            "chown32": lambda call: self._chown_path(call, _wide, follow=True),
            "lchown32": lambda call: self._chown_path(call, _wide, follow=False),
            "fchown32": lambda call: self._chown_file(call, _wide),
            "fstatat64": self._fstatat64,
        }
        for suffix, form in (("", old), ("64", new)):
            handlers[f"stat{suffix}"] = self._short_stat(form, follow=True)
            handlers[f"lstat{suffix}"] = self._short_stat(form, follow=False)
            handlers[f"fstat{suffix}"] = self._short_fstat(form)
        return handlers

    def _short_stat(self, form: Form, *, follow: bool) -> Handler:
        return lambda call: self._stat_short(
            call, *self._targets.find(call, call.args[0], follow=follow), form
        )

    def _short_fstat(self, form: Form) -> Handler:
        return lambda call: self._stat_short(call, self._targets.descriptor(call, call.folder(0)), True, form)

    # --- chown ---

    def _chown_path(self, call: Call, read: Callable[[int], int], *, follow: bool) -> int | None:
        path, follow = self._targets.find(call, call.args[0], follow=follow)
        return self._chown(call, path, read(call.args[1]), read(call.args[2]), follow)

    def _chown_file(self, call: Call, read: Callable[[int], int]) -> int | None:
        path = self._targets.descriptor(call, call.folder(0))
        return self._chown(call, path, read(call.args[1]), read(call.args[2]), True)

    def _fchownat(self, call: Call) -> int | None:
        flags = call.args[4]
        if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) & 0xFFFFFFFF:
            return None  # the kernel refuses it
        path, follow = self._targets.find_at(call, call.folder(0), call.args[1], flags)
        return self._chown(call, path, call.id_at(2), call.id_at(3), follow)

    def _chown(self, call: Call, path: bytes, uid: int, gid: int, follow: bool) -> int | None:
        held = self._identity.of(call)
        plain = uid in _TO_ROOT and gid in _TO_ROOT and held.effective & credentials.CAP_CHOWN
        if plain and self._records.of(path, follow=follow) is None:
            return None
        file = self._targets.open(call, path, follow=follow)
        try:
            link = b"self/fd/%d" % file
            before = self._records.of(link) or Record(0, 0)
            if not credentials.may_give(held, before.uid, uid, gid):
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            self._targets.check(call)
            os.chown(link, -1 if uid == UNCHANGED else 0, -1 if gid == UNCHANGED else 0)
            owner = before.uid if uid == UNCHANGED else uid
            group = before.gid if gid == UNCHANGED else gid
            self._records.put(file, Record(owner, group, before.mode, before.device))
        finally:
            os.close(file)
        return 0

    # --- stat ---

    def _stat_path(self, call: Call, *, follow: bool) -> int | None:
        path, follow = self._targets.find(call, call.args[0], follow=follow)
        return self._stat(call, path, call.args[1], follow)

    def _fstat(self, call: Call) -> int | None:
        return self._stat(call, self._targets.descriptor(call, call.folder(0)), call.args[1], True)

    def _newfstatat(self, call: Call) -> int | None:
        flags = call.args[3]
        path, follow = self._targets.find_at(call, call.folder(0), call.args[1], flags)
        return self._stat(call, path, call.args[2], follow)

    def _stat(self, call: Call, path: bytes, address: int, follow: bool) -> int | None:
        record = self._records.of(path, follow=follow)
        if record is None:
            return None
        raw = self._targets.exchange.stat(path, 0 if follow else AT_SYMLINK_NOFOLLOW)
        self._targets.write(call, address, layouts.native_stat(raw, record, call.audit))
        return 0

    def _statx(self, call: Call) -> int | None:
        flags = call.args[2]
        path, follow = self._targets.find_at(call, call.folder(0), call.args[1], flags)
        record = self._records.of(path, follow=follow)
        if record is None:
            return None
        kept = flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) & 0xFFFFFFFF
        kept |= 0 if follow else AT_SYMLINK_NOFOLLOW
        raw = self._targets.exchange.statx(path, kept, call.id_at(3))
        self._targets.write(call, call.args[4], layouts.statx(raw, record))
        return 0

    def _fstatat64(self, call: Call) -> int | None:
        flags = call.args[3]
        path, follow = self._targets.find_at(call, call.folder(0), call.args[1], flags)
        return self._stat_short(call, path, follow, layouts.stat64_i386, index=2)

    def _stat_short(
        self,
        call: Call,
        path: bytes,
        follow: bool,
        form: Form,
        index: int = 1,
    ) -> int | None:
        record = self._records.of(path, follow=follow)
        if record is None:
            return None
        found = os.stat(path, follow_symlinks=follow)
        self._targets.write(call, call.args[index], form(found, record))
        return 0

    # --- extended attributes ---

    def _list_path(self, call: Call, *, follow: bool) -> int | None:
        return self._list(call, *self._targets.find(call, call.args[0], follow=follow))

    def _list(self, call: Call, path: bytes, follow: bool) -> int | None:
        """Without the records: who copies all attributes would copy owners with them."""
        names = os.listxattr(path, follow_symlinks=follow)
        if STAT_XATTR not in names:
            return None
        told = b"".join(os.fsencode(name) + b"\0" for name in names if name != STAT_XATTR)
        room = call.args[2]
        if room and room < len(told):
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        if room:
            self._targets.write(call, call.args[1], told)
        return len(told)


def _wide(number: int) -> int:
    return number & 0xFFFFFFFF
