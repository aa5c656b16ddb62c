"""Starting the zygote. Light enough for the entry point to do it before asyncio is imported.

The zygote is a fresh interpreter and not a fork of the builder: it shares no memory with it (no
environment, no credentials), can be started at any time and beside threads, and lies on a read-only
mount (`sealed`). Its start, some 25 ms, runs beside whatever the builder does next.
"""

from __future__ import annotations

import os
import signal
import socket

from builder import libc
from builder.runtime import sealed

_START = "import sys; sys.path.insert(0, sys.argv[1]); from builder.runtime.zygote import main; main()"
_CONTROL = 3


class Zygote:
    """A running zygote: its pid, and our end of the socketpair."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control


def start_zygote() -> Zygote:
    """Start it, as a child of the calling thread (it dies with that thread). Raises OSError."""
    program, path = sealed.open_program()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        packages = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        argv = [path, *sealed.FLAGS, "-c", _START, packages]
        return Zygote(_spawn_in_pid_namespace(program, argv, theirs.fileno()), ours)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(program)


def _spawn_in_pid_namespace(program: int, argv: list[str], control: int) -> int:
    """posix_spawn(3) with a new PID namespace: the thread asks for one, and takes its own again."""
    actions = [
        (os.POSIX_SPAWN_DUP2, control, _CONTROL),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    # the dynamic loader's paths are all that a Python may need of the environment to start at all
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        libc.unshare(libc.CLONE_NEWPID)
        try:
            return os.posix_spawn(
                f"/proc/self/fd/{program}",
                argv,
                environment,
                file_actions=actions,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
            )
        finally:
            libc.setns(namespace, libc.CLONE_NEWPID)
    finally:
        os.close(namespace)
