"""Where an archive goes: a file that appears whole, a device or fifo, or standard output.

Nothing here knows what is written. A regular file is written under another name beside its place and
renamed when it is complete; anything else that exists (/dev/null, a fifo) is written to as it is. Whole
files pass through the kernel alone. On the path of a fully cached build.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from builder import stop
from builder.errors import BuildError, UsageError, reason_of
from builder.exporters import STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

BUFFER = 1 << 18
STRETCH = 64 << 20  # bytes asked of one copy_file_range or sendfile
_UNSUPPORTED = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


class Destination:
    """Takes an archive while its block lasts; left by an error, what was there before is still there.

    Raises BuildError where it cannot be written, and UsageError for a folder or a terminal.
    """

    def __init__(self, dest: str) -> None:
        self._dest = dest
        self._fd = -1
        self._place = self._temporary = ""
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> int:
        """Take all these bytes. Raises OSError."""
        self._held.append(data)
        self._size += len(data)
        if self._size >= BUFFER:
            self._flush()
        return len(data)

    def copy(self, source: BinaryIO, size: int) -> None:
        """Take what an unbuffered file has from where it stands: this many bytes. Raises OSError."""
        self._flush()
        left = size
        for move in (_copy_range, _send, _read_and_write):
            try:
                while left and (count := move(source.fileno(), self._fd, min(left, STRETCH))):
                    left -= count
                    stop.check()
            except OSError as error:
                if error.errno not in _UNSUPPORTED or move is _read_and_write:
                    raise
        if left:
            raise BuildError(f"{source.name} was cut short while it was read", code="blob-damaged")

    def _flush(self) -> None:
        data, self._held, self._size = b"".join(self._held), [], 0
        _write_all(self._fd, data)

    def __enter__(self) -> Destination:
        try:
            self._fd = self._opened()
        except OSError as error:
            raise self._failed(error) from error
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
                self._close()
                if self._temporary:
                    os.replace(self._temporary, self._place)
                    self._temporary = ""
        except OSError as late:
            raise self._failed(late) from late
        finally:
            self._close()
            self._remove()
        if isinstance(error, OSError):
            raise self._failed(error) from error

    # Both may meet what they have done already: a signal may unwind this anywhere.

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove(self) -> None:
        if self._temporary:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)

    def _opened(self) -> int:
        if self._dest == STDOUT:
            if os.isatty(1):
                raise UsageError(
                    "an archive is not written to a terminal",
                    hint="redirect standard output, or give dest=FILE",
                )
            return os.dup(1)
        if _is_special(self._dest):
            return os.open(self._dest, os.O_WRONLY | os.O_CLOEXEC)
        self._place = os.path.realpath(self._dest)  # a symlink stays one, and what it names is replaced
        self._temporary = f"{self._place}.{os.getpid()}-{os.urandom(4).hex()}.part"
        return os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _failed(self, error: OSError) -> BuildError:
        where = "standard output" if self._dest == STDOUT else self._dest
        return BuildError(f"writing {where} failed: {reason_of(error)}", code="export-failed")


def _is_special(dest: str) -> bool:
    try:
        mode = os.stat(dest).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"dest={dest} is a folder", hint="name a file in it")
    return not stat.S_ISREG(mode)


# Three ways to move bytes: each moves what it can, which may be nothing, and leaves the rest to the next.


def _copy_range(source: int, target: int, size: int) -> int:
    return os.copy_file_range(source, target, size)


def _send(source: int, target: int, size: int) -> int:
    return os.sendfile(target, source, None, size)


def _read_and_write(source: int, target: int, size: int) -> int:
    data = os.read(source, min(size, BUFFER))
    _write_all(target, data)
    return len(data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
