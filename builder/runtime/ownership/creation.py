"""Answers to the calls that make files: what a user other than root makes is that user's.

Handlers as in `identity`. The kernel makes what root makes, unless the folder hands on its group. All else
is made here, as the process would (its umask, its working folder, its root), so that it never exists
without its owner; an opened file is then handed to the process.

A device becomes an empty file with a record, as nobody with a single id can make one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct

from builder import libc
from builder.fs.ownership import Record
from builder.runtime.ownership import credentials
from builder.runtime.ownership.rules import O_CREAT, O_TMPFILE
from builder.runtime.ownership.targets import AT_FDCWD, split_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.runtime.ownership.credentials import Credentials
    from builder.runtime.ownership.identity import Handler, Identity
    from builder.runtime.ownership.permissions import Permissions
    from builder.runtime.ownership.records import Records
    from builder.runtime.ownership.targets import Call, Targets

_S_ISGID = 0o2000
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)
_OPEN_FLAGS = 0o37777703  # open(2) overlooks all others, openat2(2) does not
_WANTED = (os.R_OK, os.W_OK, os.R_OK | os.W_OK, os.R_OK | os.W_OK)  # by O_ACCMODE
_OPEN_HOW = struct.Struct("<QQQ")
_LONGEST_ADDRESS = 110  # sizeof(struct sockaddr_un)


class Creation:
    """Answers for files of one step."""

    def __init__(
        self, targets: Targets, identity: Identity, records: Records, permissions: Permissions
    ) -> None:
        self._targets = targets
        self._identity = identity
        self._records = records
        self._permissions = permissions

    def handlers(self) -> dict[str, Handler]:
        """By name; the same for every architecture."""
        return {
            "open": lambda call: self._open(call, AT_FDCWD, call.args[0], call.args[1], call.args[2]),
            "creat": lambda call: self._open(
                call, AT_FDCWD, call.args[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, call.args[1]
            ),
            "openat": lambda call: self._open(call, call.folder(0), call.args[1], call.args[2], call.args[3]),
            "openat2": self._openat2,
            "mkdir": lambda call: self._mkdir(call, AT_FDCWD, call.args[0], call.args[1]),
            "mkdirat": lambda call: self._mkdir(call, call.folder(0), call.args[1], call.args[2]),
            "symlink": lambda call: self._symlink(call, AT_FDCWD, call.args[1]),
            "symlinkat": lambda call: self._symlink(call, call.folder(1), call.args[2]),
            "mknod": lambda call: self._mknod(call, AT_FDCWD, *call.args[0:3]),
            "mknodat": lambda call: self._mknod(call, call.folder(0), *call.args[1:4]),
            "bind": self._bind,
        }

    # --- whose a new file is ---

    def _owner(self, held: Credentials, folder: bytes) -> Record | None:
        """The owner of what is made in a folder; None where that is root and the kernel can make it."""
        uid, gid = held.fsuid, held.fsgid
        if os.stat(folder).st_mode & _S_ISGID:
            above = self._records.of(folder)
            gid = 0 if above is None else above.gid
        return Record(uid, gid) if uid or gid else None

    def _prepare(self, call: Call) -> None:
        """Take the umask of the process, which is still there."""
        umask = self._targets.umask(call)
        self._targets.check(call)
        os.umask(umask)

    def _make(
        self,
        call: Call,
        folder: int,
        text: bytes,
        make: Callable[[bytes], None],
        kind: tuple[int, int] = (0, 0),
    ) -> int | None:
        """Make one file: `make` gets a path of this process. `kind`: type and number of a device."""
        above, name = split_path(text)
        parent, _ = self._targets.locate(call, folder, above)
        held = self._identity.of(call)
        owner = self._owner(held, parent)
        if name in (b"", b".", b"..") or (owner is None and not kind[0]):
            return None
        owner = owner or Record(0, 0)
        if not os.path.lexists(b"%b/%b" % (parent, name)):  # else the kernel says that it is there
            self._permissions.demand(held, parent + b"/.", os.W_OK | os.X_OK)
        place = self._targets.open(call, parent, flags=os.O_DIRECTORY)
        try:
            path = b"self/fd/%d/%b" % (place, name)
            self._prepare(call)
            make(path)
            self._record(path, Record(owner.uid, owner.gid, *kind))
        finally:
            os.close(place)
        return 0

    def _record(self, path: bytes, record: Record) -> None:
        try:
            file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:  # taken away already: after an error, the kernel would make it as root's
            return
        try:
            self._records.put(file, record)
        finally:
            os.close(file)

    # --- folders, links, nodes, sockets ---

    def _mkdir(self, call: Call, folder: int, address: int, mode: int) -> int | None:
        text = self._targets.read_path(call, address)
        return self._make(call, folder, text, lambda path: os.mkdir(path, mode & 0o7777))

    def _symlink(self, call: Call, folder: int, address: int) -> int | None:
        target = self._targets.read_path(call, call.args[0])
        text = self._targets.read_path(call, address)
        return self._make(call, folder, text, lambda path: os.symlink(target, path))

    def _mknod(self, call: Call, folder: int, address: int, mode: int, device: int) -> int | None:
        kind, permissions = stat.S_IFMT(mode), mode & 0o7777
        text = self._targets.read_path(call, address)
        if kind not in _DEVICES:
            return self._make(call, folder, text, lambda path: os.mknod(path, kind | permissions))
        if not self._identity.of(call).effective & credentials.CAP_MKNOD:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        numbers = kind, device & 0xFFFFFFFF
        return self._make(
            call, folder, text, lambda path: os.mknod(path, stat.S_IFREG | permissions), numbers
        )

    def _bind(self, call: Call) -> int | None:
        """bind(2) of a socket to a path: done here on a duplicate of the socket."""
        length = min(call.id_at(2), _LONGEST_ADDRESS)
        held = self._identity.of(call)
        if length < 3 or not (held.fsuid or held.fsgid):
            return None
        address = self._targets.read(call, call.args[1], length)
        path = address[2:].partition(b"\0")[0]
        if int.from_bytes(address[:2], "little") != socket.AF_UNIX or not path:
            return None
        pidfd = self._targets.open_process(call)
        try:
            with socket.socket(fileno=libc.take_descriptor(pidfd, call.folder(0))) as taken:
                if taken.family != socket.AF_UNIX:
                    return None
                return self._make(call, AT_FDCWD, path, taken.bind)
        finally:
            os.close(pidfd)

    # --- files ---

    def _openat2(self, call: Call) -> int | None:
        how = self._targets.read(call, call.args[2], _OPEN_HOW.size)
        if call.args[3] < _OPEN_HOW.size:
            return None
        flags, mode, resolve = _OPEN_HOW.unpack(how)
        if not flags & (O_CREAT | O_TMPFILE) or flags >> 31:
            return None
        return self._open(call, call.folder(0), call.args[1], flags, mode, resolve)

    def _open(
        self, call: Call, folder: int, address: int, flags: int, mode: int, resolve: int = 0
    ) -> int | None:
        flags &= _OPEN_FLAGS
        held = self._identity.of(call)
        creating, unnamed = flags & (O_CREAT | O_TMPFILE), flags & O_TMPFILE
        if flags & os.O_PATH or (not creating and held.effective & credentials.CAP_DAC_OVERRIDE):
            return None
        text = self._targets.read_path(call, address)
        if creating and not unnamed and (flags & os.O_DIRECTORY or text.endswith(b"/")):
            return None  # the kernel makes nothing then
        parts = (text, b".") if unnamed else split_path(text)
        parent, _ = self._targets.locate(call, folder, parts[0])
        owner = self._owner(held, parent)
        if owner is None and held.effective & credentials.CAP_DAC_OVERRIDE:
            return None
        if (not unnamed and self._is_there(call, held, folder, text, flags)) or not creating or owner is None:
            return None
        self._permissions.demand(held, parent + b"/.", os.W_OK | os.X_OK)
        self._prepare(call)
        place = self._targets.descriptor(call, folder), text
        file = self._open_new(
            call, *(place if resolve else (parent, parts[1])), flags, mode & 0o7777, resolve
        )
        try:
            self._records.put(file, owner)
            if not flags & os.O_NONBLOCK:
                fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) & ~os.O_NONBLOCK)
            return self._targets.hand_over(call, file, flags)
        finally:
            os.close(file)

    def _open_new(self, call: Call, parent: bytes, name: bytes, flags: int, mode: int, resolve: int) -> int:
        # O_NONBLOCK: whatever takes the place meanwhile, it cannot hold us up
        wanted = (flags | os.O_NONBLOCK | os.O_NOCTTY) & ~os.O_TRUNC
        place = self._targets.open(call, parent, flags=os.O_DIRECTORY)
        try:
            return libc.openat2(place, name, wanted, mode, resolve | libc.RESOLVE_NO_MAGICLINKS)
        finally:
            os.close(place)

    def _is_there(self, call: Call, held: Credentials, folder: int, text: bytes, flags: int) -> bool:
        """Whether nothing would be made; EACCES where what is there may not be opened so."""
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not (exclusive or flags & os.O_NOFOLLOW)
        try:
            path, follow = self._targets.locate(call, folder, text, follow=follow)
            os.stat(path, follow_symlinks=follow)
        except FileNotFoundError:
            return False
        if not exclusive:
            wanted = _WANTED[flags & os.O_ACCMODE] | (os.W_OK if flags & os.O_TRUNC else 0)
            self._permissions.demand(held, path, wanted, follow=follow)
        return True
