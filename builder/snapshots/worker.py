"""A process that unpacks layers for a builder (see `workers`), one after the other.

Unpacking is Python's work for each file, and a process does one such thing at a time, whatever threads it
has. It reads a blob by its descriptor, as far as it was told that the bytes are there:

    -> {"tree": PATH, "folder": PATH, "way": ..., "name": ..., "many": BOOL}   with the blob, and a lock
    -> SIZE                         so many bytes are there, again and again
    -> end                          that was all, and they are what they should be
    <- {"diff_id": ..., "size": N, "settled": BOOL}   unpacked, and its index is written; or {} where that
                                    did not go well

on a socketpair of SOCK_SEQPACKET. Why it went wrong is not told: who asks for the layer of a whole blob finds
that out. The lock (of the folder in ROOT/ingest) is held while anything is written, so that nobody sweeps
up below it. It ends when the builder does: then its end of the socketpair is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket

from builder import libc, plainjson
from builder.errors import BuildError
from builder.oci.layer import scan
from builder.snapshots import index
from builder.snapshots.snapshot import is_settled
from builder.snapshots.unpack import TreeWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONTROL = 3  # the descriptor of our end of the socketpair
DESCRIPTORS = 2
END = b"end"
LONGEST = 1 << 16  # bytes of a message
CHUNK = 1 << 20


def main() -> NoReturn:
    """Serve until the builder is gone."""
    libc.set_name("pybuild-unpack")
    libc.close_range(CONTROL + 1)
    os.chdir("/")
    with socket.socket(fileno=CONTROL) as control, contextlib.suppress(Gone):
        while _serve(control):
            pass
    os._exit(0)


def _serve(control: socket.socket) -> bool:
    """Do the next layer, if there is one."""
    message, descriptors, _, _ = socket.recv_fds(control, LONGEST, DESCRIPTORS)
    if not message:
        return False
    blob = Following(control, descriptors[0])
    try:
        answer = _unpack(plainjson.loads(message), blob)
    except (BuildError, OSError):
        answer = {}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    blob.pass_over()
    control.send(plainjson.dumps(answer).encode("ascii"))
    return True


def _unpack(job: dict[str, Any], blob: Following) -> dict[str, object]:
    with TreeWriter(job["tree"], way=job["way"], many=job["many"]) as writer:
        entries, diff_id = scan(blob, sink=writer, name=job["name"], ahead=False)
    while blob.read(CHUNK):
        pass
    size = index.write_index(job["folder"], entries)
    return {"diff_id": diff_id, "size": size, "settled": all(map(is_settled, entries))}


class Gone(BuildError):
    """There is no more to come, as nobody wants the layer any more."""

    code = "builder-gone"


class Following:
    """The bytes of a blob, as far as messages say that they are there."""

    def __init__(self, control: socket.socket, fd: int) -> None:
        self._control = control
        self._fd = fd
        self._size = 0
        self._at = 0
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (1 MiB, unless told), at least one before the end. Raises Gone, OSError."""
        while self._at >= self._size and not self._ended:
            self._hear(0)
        if not self._ended:
            self._hear(socket.MSG_DONTWAIT)  # also, whether anybody is still there
        there = self._size - self._at
        data = os.pread(self._fd, min(size if size >= 0 else CHUNK, there), self._at) if there else b""
        if there and not data:
            raise Gone("a blob was cut short while it was read")
        self._at += len(data)
        return data

    def pass_over(self) -> None:
        """Hear all that is still told of this blob. Raises Gone."""
        while not self._ended:
            self._hear(0)

    def _hear(self, flags: int) -> None:
        try:
            message = self._control.recv(LONGEST, flags)
        except BlockingIOError:
            return
        if not message:
            raise Gone("the builder is gone")
        if message == END:
            self._ended = True
        else:
            self._size = int(message)
