"""Who is at the other end of a socket: SO_PEERCRED, with the ids that the peer believes to have.

Database servers and message buses let users in by that. The kernel tells a peer's credentials of the time
when it connected or listened; here they are those of now. See unix(7).
"""

from __future__ import annotations

import os
import socket
import struct

from builder import libc
from builder.runtime.ownership.rules import SO_PEERCRED, SOCKETCALL_BIND, SOL_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.runtime.ownership.identity import Handler
    from builder.runtime.ownership.lineage import Lineage
    from builder.runtime.ownership.targets import Call, Targets

_CREDENTIALS = struct.Struct("<iII")  # struct ucred: pid, uid, gid
_LENGTH = struct.Struct("<I")


class Peers:
    """Answers for sockets of one step."""

    def __init__(self, targets: Targets, lineage: Lineage) -> None:
        self._targets = targets
        self._lineage = lineage

    def handlers(self) -> dict[str, Handler]:
        """By name; the same for every architecture."""
        return {"getsockopt": self._getsockopt}

    def socketcall(self, call: Call, bind: Handler) -> int | None:
        """i386's old way to bind(2) and getsockopt(2): arguments in memory."""
        kind = call.args[0]
        count = 3 if kind == SOCKETCALL_BIND else 5
        raw = self._targets.read(call, call.args[1], 4 * count)
        inner = call.with_args(struct.unpack(f"<{count}I", raw))
        if kind == SOCKETCALL_BIND:
            return bind(inner)
        return self._getsockopt(inner) if inner.args[1:3] == (SOL_SOCKET, SO_PEERCRED) else None

    def _getsockopt(self, call: Call) -> int | None:
        """getsockopt(2) of SO_PEERCRED; None where the peer is gone, or is not of this step."""
        pid, _, _ = _CREDENTIALS.unpack(self._peer(call))
        if pid <= 0:
            return None
        try:
            name = self._targets.name_of(pid)
            held = self._lineage.of(pid, name)
            inner = int(self._targets.status(name, b"NSpid").split()[-1])
        except ProcessLookupError:  # the kernel knows its number still
            return None
        (room,) = _LENGTH.unpack(self._targets.read(call, call.args[4], _LENGTH.size))
        told = _CREDENTIALS.pack(inner, held.euid, held.egid)[:room]
        self._targets.write(call, call.args[3], told)
        self._targets.write(call, call.args[4], _LENGTH.pack(len(told)))
        return 0

    def _peer(self, call: Call) -> bytes:
        """What the kernel says, with the pid as this process's namespace has it."""
        pidfd = self._targets.open_process(call)
        try:
            with socket.socket(fileno=libc.take_descriptor(pidfd, call.folder(0))) as taken:
                return taken.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        finally:
            os.close(pidfd)
