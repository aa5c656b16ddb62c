"""Taking values out of a folder: no file, link, name or xattr below it holds them any more.

For what is kept of a step that was given secrets, and may have written them down. The folder's content is
hostile: it is walked by descriptors, and nothing is followed. What was written in another form (encrypted,
compressed, in parts) is not found. Knows no secrets and no steps.
"""

from __future__ import annotations

import errno
import os
import stat

from builder import stop
from builder.fs.remove import remove_at
from builder.fs.rooted import open_folder, open_in, open_root, opened
from builder.fs.walk import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.fs.walk import Found

MOST = 2 << 30  # bytes on the disk that are looked through, as somebody waits for it
_PIECE = 1 << 20


class TooMuch(Exception):
    """There is more in the folder than is looked through."""


def take_out(folder: str | os.PathLike[str], values: Sequence[bytes]) -> tuple[str, ...]:
    """Empty all files that hold one of the values (blanks around them do not count), and remove what has it
    in its name, its link or an xattr.

    The paths, relative. Raises OSError, and TooMuch where there is more than MOST to look through.
    """
    wanted = [value.strip() for value in values if value.strip()]
    if not wanted:
        return ()
    with opened(open_root(folder)) as fd:
        held = _find(fd, wanted)
        for path, by_content in held.items():
            _clean(fd, path, by_content=by_content)
    return tuple(held)


def _find(folder_fd: int, wanted: Sequence[bytes]) -> dict[str, bool]:
    """Path -> whether it is the content that holds a value; outermost names only."""
    held: dict[str, bool] = {}
    looked = 0
    for found in walk(folder_fd, file_xattrs=None, folder_xattrs=None):
        if found.path == "." or any(found.path.startswith(f"{path}/") for path in held):
            continue
        if _names_any(found, wanted):
            held[found.path] = False
        elif stat.S_ISREG(found.status.st_mode) and found.hardlink is None:
            looked += found.status.st_blocks * 512
            if looked > MOST:
                raise TooMuch
            if _contains_any(folder_fd, found.path, wanted):
                held[found.path] = True
    return held


def _names_any(found: Found, wanted: Sequence[bytes]) -> bool:
    name = os.fsencode(found.path.rpartition("/")[2])
    texts = [name, os.fsencode(found.link), *(value for _, value in found.xattrs)]
    return any(value in text for value in wanted for text in texts)


def _contains_any(folder_fd: int, path: str, wanted: Sequence[bytes]) -> bool:
    overlap = max(map(len, wanted)) - 1
    with opened(open_in(folder_fd, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as fd:
        place, rest = 0, b""
        while (begin := _next_data(fd, place)) is not None:
            stop.check()
            rest = rest if begin == place else b""
            data = rest + os.pread(fd, _PIECE, begin)
            if any(value in data for value in wanted):
                return True
            place = begin + len(data) - len(rest)
            rest = data[-overlap:] if overlap else b""
    return False


def _next_data(fd: int, place: int) -> int | None:
    """Where bytes that are no hole go on, at or behind `place`; None at the end."""
    try:
        return os.lseek(fd, place, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _clean(folder_fd: int, path: str, *, by_content: bool) -> None:
    if by_content:
        flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(open_in(folder_fd, path, flags))
        return
    parent, _, name = path.rpartition("/")
    with opened(open_folder(folder_fd, parent or ".")) as fd:
        remove_at(fd, name)
