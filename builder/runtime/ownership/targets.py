"""The process that a call came from: its memory, and the files that its paths mean.

The one idea: the supervisor stands in the step's own root (chroot), with the folder of a /proc as its
working folder. So a path of the step means the same to both, `..` ends at the same root, and nothing of
the host has a name here; and a path from the step's working folder or descriptor N is the relative path
PID/cwd/... or PID/fd/N/..., which the kernel walks in one go.

/proc/self and what leads there would be the supervisor's: it has none in the step's /proc, and paths
that are written so are taken to PID. Who has changed its root (chroot) is followed there for the call.

Knows no owners. See proc(5), seccomp_unotify(2), process_vm_readv(2).
"""

from __future__ import annotations

import errno
import fcntl
import os

from builder import libc
from builder.runtime.ownership import layouts, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_FDCWD = libc.AT_FDCWD
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = libc.AT_EMPTY_PATH

ANSWERED = -1  # a handler's value: the process has its answer already

_PATH_MAX = 4096
_PAGE = 4096  # the smallest one: nothing is read past its end in the same piece
_ID_VALID, _ADD_DESCRIPTOR = 0x40082102, 0x40182103
_LINKS_OF_PROCESS = (b"cwd", b"root", b"exe")
_STREAMS = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}


class Unanswerable(OSError):
    """A call that fails because nobody can answer it as it is; `why` completes "cannot be answered ..."."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(number, os.strerror(number))
        self.why = why


class LeftToKernel(OSError):
    """A call that the kernel answers after all, with the rights of the process alone."""


class Call:
    """One call that waits for its answer. `name`: of its process in the supervisor's /proc."""

    __slots__ = ("args", "audit", "id", "name", "number", "pid")

    def __init__(self, id: int, pid: int, number: int, audit: int, args: Sequence[int]) -> None:
        self.id = id
        self.pid = pid
        self.number = number
        self.audit = audit
        self.args = args
        self.name = b"%d" % pid

    def with_args(self, args: Sequence[int]) -> Call:
        """The same call with other arguments."""
        other = Call(self.id, self.pid, self.number, self.audit, args)
        other.name = self.name
        return other

    def folder(self, index: int) -> int:
        """The argument as a descriptor of a folder, or AT_FDCWD."""
        number = self.args[index] & 0xFFFFFFFF
        return number - (1 << 32) if number >> 31 else number

    def id_at(self, index: int) -> int:
        """The argument as a user or group id."""
        return self.args[index] & 0xFFFFFFFF


class Targets:
    """Reads and writes for calls of one listener.

    `proc`: a descriptor of a /proc, `root`: of the step's root. `foreign`: that /proc has other numbers for
    processes than the listener.
    """

    def __init__(self, listener: int, proc: int, root: int, *, foreign: bool) -> None:
        self.listener = listener
        self.proc = proc
        self.root = root
        self.foreign = foreign
        self.rooted = True  # whether all processes have the step's root
        self.exchange = libc.Exchange()
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(proc)

    # --- memory ---

    def read(self, call: Call, address: int, length: int) -> bytes:
        """Exactly so many bytes; EFAULT where they cannot be read."""
        content = self.exchange.read(call.pid, address, length) if length else b""
        if len(content) < length:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return content

    def read_path(self, call: Call, address: int) -> bytes:
        """A string of at most PATH_MAX bytes with its end; ENAMETOOLONG, EFAULT."""
        path = b""
        while True:
            piece = self.exchange.read(call.pid, address, _PAGE - address % _PAGE)
            end = piece.find(b"\0")
            if end >= 0:
                return path + piece[:end]
            path += piece
            address += len(piece)
            if len(path) >= _PATH_MAX:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def write(self, call: Call, address: int, content: bytes) -> None:
        """Write to the process, which is still the one that called."""
        self.check(call)
        if content:
            self.exchange.write(call.pid, address, content)

    def check(self, call: Call) -> None:
        """Raise ENOENT where the call has ended meanwhile, and its number may be another process's."""
        fcntl.ioctl(self.listener, _ID_VALID, call.id.to_bytes(8, "little"))

    # --- files ---

    def locate(self, call: Call, folder: int, path: bytes, *, follow: bool = True) -> tuple[bytes, bool]:
        """What the process's path means here: (path for this process, whether to follow its last link).

        ENOENT for an empty one.
        """
        if not path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if path[0] == 47:
            if path.startswith((b"/proc/", b"/dev/")):
                path = self._own(call, path)
        elif folder == AT_FDCWD:
            path = b"%b/cwd/%b" % (call.name, path)
        else:
            path = b"%b/fd/%d/%b" % (call.name, folder, path)
        return path, follow

    def find(self, call: Call, address: int, *, follow: bool = True) -> tuple[bytes, bool]:
        """The same for a path in memory, from the working folder."""
        return self.locate(call, AT_FDCWD, self.read_path(call, address), follow=follow)

    def find_at(self, call: Call, folder: int, address: int, flags: int) -> tuple[bytes, bool]:
        """The same, by AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW in flags."""
        path = self.read_path(call, address) if address or not flags & AT_EMPTY_PATH else b""
        if not path and flags & AT_EMPTY_PATH:
            return self.descriptor(call, folder), True
        return self.locate(call, folder, path, follow=not flags & AT_SYMLINK_NOFOLLOW)

    def open(self, call: Call, path: bytes, *, follow: bool = True, flags: int = 0) -> int:
        """An O_PATH descriptor of what `locate` gave, to change it by.

        No link of a /proc is followed but those of the process itself: where a step sees other processes, it
        may not go to their folders, and this process must not do so for it. Raises LeftToKernel for these.
        """
        flags |= os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        top = b"/"
        if path[0] != 47:
            parts = path.split(b"/")
            kept = 3 if parts[1] == b"fd" else 2 if parts[1] in _LINKS_OF_PROCESS else 1
            top, path = b"/".join(parts[:kept]), b"/".join(parts[kept:]).lstrip(b"/")
        if not path:
            return os.open(top, flags | os.O_CLOEXEC)
        start = os.open(top, os.O_PATH | os.O_CLOEXEC)
        try:
            return libc.openat2(start, path, flags, resolve=libc.RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise LeftToKernel(errno.ELOOP) from error
            raise
        finally:
            os.close(start)

    def descriptor(self, call: Call, number: int) -> bytes:
        """A path of the process's open file; of its working folder for AT_FDCWD."""
        if number == AT_FDCWD:
            return call.name + b"/cwd"
        if number < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return b"%b/fd/%d" % (call.name, number)

    def _own(self, call: Call, path: bytes) -> bytes:
        if b"/.." in path:
            return path
        for prefix in (b"/proc/self/", b"/proc/thread-self/"):
            if path.startswith(prefix):
                return b"%b/%b" % (call.name, path[len(prefix) :])
        if path.startswith(b"/dev/fd/"):
            return b"%b/fd/%b" % (call.name, path[8:])
        stream = _STREAMS.get(path)
        return path if stream is None else b"%b/fd/%d" % (call.name, stream)

    def status(self, name: bytes, field: bytes) -> bytes:
        """A line of /proc/PID/status of the process that /proc calls `name`."""
        with open(name + b"/status", "rb") as file:
            for line in file:
                if line.startswith(field):
                    return line[len(field) + 1 :].strip()
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))  # it has ended: there are fewer lines

    def umask(self, call: Call) -> int:
        """The process's umask."""
        return int(self.status(call.name, b"Umask"), 8)

    # --- the process ---

    def name_of(self, pid: int) -> bytes:
        """What our /proc calls a process; ESRCH where it is gone."""
        return b"%d" % (procfs.foreign_number(pid) if self.foreign else pid)

    def open_process(self, call: Call) -> int:
        """A pidfd of the process: of its first thread, as only Linux 6.9 has one for each."""
        try:
            return os.pidfd_open(call.pid, procfs.PIDFD_THREAD)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return os.pidfd_open(call.pid if self.foreign else int(self.status(call.name, b"Tgid")))

    def in_root_of(self, call: Call, answer: Callable[[Call], int | None]) -> int | None:
        """Answer with the root (and the mounts) that the process has, where that may not be the step's."""
        root = os.open(call.name + b"/root", os.O_PATH | os.O_DIRECTORY)
        try:
            self._stand_in(root)
            return answer(call)
        finally:
            self._stand_in(self.root)
            os.close(root)

    def _stand_in(self, root: int) -> None:
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(self.proc)

    def hand_over(self, call: Call, descriptor: int, flags: int) -> int:
        """Give the process an open file as the answer: its number there, or ANSWERED where that was sent."""
        cloexec = flags & os.O_CLOEXEC
        try:
            self._add_descriptor(call.id, layouts.SEND, descriptor, cloexec)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return self._add_descriptor(call.id, 0, descriptor, cloexec)  # before Linux 5.14
        return ANSWERED

    def _add_descriptor(self, number: int, flags: int, descriptor: int, cloexec: int) -> int:
        request = bytearray(layouts.ADD_DESCRIPTOR.pack(number, flags, descriptor, 0, cloexec))
        return int(fcntl.ioctl(self.listener, _ADD_DESCRIPTOR, request, True))


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """(the folder's path, the name in it) of a path; the name may be no name."""
    parent, slash, name = path.rstrip(b"/").rpartition(b"/")
    return parent or (b"/" if slash else b"."), name
