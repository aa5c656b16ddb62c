"""Where an archive goes: a file that appears whole, a device or fifo, or standard output.

Nothing here knows what is written. A regular file is written under another name beside its place and
renamed when it is complete; anything else that exists (/dev/null, a fifo) is written to as it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from builder.errors import BuildError, UsageError, reason_of
from builder.exporters import STDOUT

BUFFER = 1 << 18


@contextmanager
def open_destination(dest: str) -> Iterator[BinaryIO]:
    """A file object that takes an archive. Raises BuildError where the destination cannot be written."""
    try:
        if dest == STDOUT:
            with _standard_output() as out:
                yield out
        elif _is_special(dest):
            with open(dest, "wb", buffering=BUFFER) as out:
                yield out
        else:
            with _regular_file(dest) as out:
                yield out
    except OSError as error:
        where = "standard output" if dest == STDOUT else dest
        raise BuildError(f"writing {where} failed: {reason_of(error)}", code="export-failed") from error


def _standard_output() -> BinaryIO:
    if os.isatty(1):
        raise UsageError(
            "an archive is not written to a terminal", hint="redirect standard output, or give dest=FILE"
        )
    return open(os.dup(1), "wb", buffering=BUFFER)


def _is_special(dest: str) -> bool:
    try:
        mode = os.stat(dest).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"dest={dest} is a folder", hint="name a file in it")
    return not stat.S_ISREG(mode)


@contextmanager
def _regular_file(dest: str) -> Iterator[BinaryIO]:
    place = os.path.realpath(dest)  # a symlink stays one, and what it names is replaced
    temporary = f"{place}.{os.getpid()}-{os.urandom(4).hex()}.part"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(fd, "wb", buffering=BUFFER) as out:
            yield out
        os.replace(temporary, place)
    except BaseException:
        os.unlink(temporary)
        raise
