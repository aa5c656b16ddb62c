"""What the operating system refuses, told as a StoreError that names the folder and the remedy.

Knows errno and sentences, nothing of the store's format. On the path of a fully cached build.
"""

from __future__ import annotations

import errno
import os

from builder.errors import BuildError, StoreError, raising_limit, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM)
_OPEN = (errno.EMFILE, errno.ENFILE)
_LACKING = (errno.EOPNOTSUPP, errno.ENOLCK)  # of calls that not all file systems know
_OTHER_FILE_SYSTEM = "choose a folder on another file system with --root or PYBUILD_ROOT"
_TOO_MANY = "too-many-open-files"
_FREE_SPACE = "free some space there, or choose another folder with --root or PYBUILD_ROOT"
_FULL_DISK = "the disk of "
_NO_ROOM = 64 << 10  # bytes; a disk that somebody filled can have a few blocks left


def store_error(error: OSError, path: str, doing: str) -> StoreError:
    """The StoreError for `error`, met while `doing` ("writing a blob") under `path`."""
    code, hint = "store-error", None
    if error.errno in _FULL:
        reason, code = "no space left on the device", "disk-full"
        hint = _FREE_SPACE
    elif error.errno in _DENIED:
        reason, code = "permission denied", "store-permission"
        hint = "run as the user who owns it, or choose another folder with --root or PYBUILD_ROOT"
    elif error.errno == errno.EROFS:
        reason, code = "the file system is read-only", "store-read-only"
        hint = "choose a folder that can be written with --root or PYBUILD_ROOT"
    elif error.errno in _OPEN:
        return StoreError(
            f"{doing} in {path} failed: {reason_of(error)}", code=_TOO_MANY, hint=raising_limit(error.errno)
        )
    else:
        reason = reason_of(error)
        hint = _OTHER_FILE_SYSTEM if error.errno in _LACKING else raising_limit(error.errno)
    return StoreError(f"{doing} in {path} failed: {reason}", code=code, hint=hint)


def unexplained(error: OSError, store: str) -> BuildError:
    """The error for one that nobody on its way knew more of: the store's, unless it names another file."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    # A name that begins at no root is one in a folder that was open, and those are the store's.
    if not name.startswith(os.sep) or name.startswith(store + os.sep):
        return store_error(error, store, "writing")
    return system_error(error)


def system_error(error: OSError) -> BuildError:
    """The error for one of which nothing is known but the file it names, if any."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    what = f"{name}: {reason_of(error)}" if name else reason_of(error)
    if error.errno in _OPEN:
        told = BuildError(what, code=_TOO_MANY, hint=raising_limit(error.errno))
    elif not name and error.errno == errno.ENOENT and not _has_working_folder():
        told = BuildError(
            "the working folder is gone", code="system", hint="change to one that is there (cd)"
        )
    else:
        hint = "free some space there" if error.errno in _FULL else raising_limit(error.errno)
        told = BuildError(what, code="system", hint=hint)
    told.__cause__ = error
    return told


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def full_disk_hint(path: str) -> str | None:
    """What to do if the disk that `path` is on is full, None while it is not.

    For who failed on it without our seeing it: a command in a RUN step.
    """
    disk = os.statvfs(path)
    has_room = disk.f_bavail * disk.f_frsize >= _NO_ROOM and (disk.f_favail > 0 or disk.f_files == 0)
    return None if has_room else f"{_FULL_DISK}{path} is full: {_FREE_SPACE}"


def is_full_disk(error: BuildError) -> bool:
    """Whether an error is about the store's disk being full, be it by the hint of who only suspects so."""
    return error.code == "disk-full" or (error.hint or "").startswith(_FULL_DISK)


class told_as:  # noqa: N801 - reads as a statement: `with told_as(root, "writing a blob"):`
    """A block in which an OSError becomes a StoreError; contextlib would cost the cached path an import."""

    __slots__ = ("_doing", "_path")

    def __init__(self, path: str, doing: str) -> None:
        self._path = path
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise store_error(error, self._path, self._doing) from error
