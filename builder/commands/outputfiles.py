"""Small files that a command writes at its end, for scripts: digests, metadata, plots.

Whether one can be written is found out before the work that it tells of. On the path of a fully cached build,
where it is to write one.
"""

from __future__ import annotations

import os

from builder.errors import BuildError, reason_of


def check_place(path: str) -> None:
    """Raise BuildError where the file could not be written: that is better known before a long work."""
    if not is_replaceable(path):
        if os.path.isdir(path):
            raise BuildError(f"{path} cannot be written: it is a folder", code="output-file")
        return
    temporary = f"{os.path.realpath(path)}.{os.getpid()}.tmp"
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.unlink(temporary)
    except OSError as error:
        raise BuildError(f"{path} cannot be written: {reason_of(error)}", code="output-file") from error


def remove_stale(path: str) -> None:
    """What fails must not leave the last one's file behind. Raises BuildError where it cannot be removed."""
    if not is_replaceable(path):
        return
    try:
        os.unlink(os.path.realpath(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BuildError(f"{path} cannot be replaced: {reason_of(error)}", code="iidfile") from error


def write(path: str, text: str) -> None:
    """Write a file so that nobody sees half of it; what is no regular file is written in place.

    Raises BuildError.
    """
    from builder.fs.whole import write_whole

    data = text.encode()
    try:
        if is_replaceable(path):
            write_whole(os.path.realpath(path), data, 0o666)
        else:
            with open(path, "wb") as file:
                file.write(data)
    except OSError as error:
        raise BuildError(f"{path} cannot be written: {reason_of(error)}", code="output-file") from error


def is_replaceable(path: str) -> bool:
    """Whether it is a file, or may become one: no device, fifo or stream (/dev/stdout, /proc/self/fd/1)."""
    if os.path.abspath(path).startswith(("/dev/", "/proc/")):
        return False
    return os.path.isfile(path) or not os.path.exists(path)
