"""Starting the zygote. Light enough for the entry point to do it before asyncio is imported.

The zygote is a fresh interpreter and not a fork of the builder: it shares no memory with it (no
environment, no credentials), can be started at any time and beside threads, and lies on a read-only
mount (`sealed`). Its start, some 25 ms, runs beside whatever the builder does next.
"""

from __future__ import annotations

import os
import signal
import socket
from _thread import allocate_lock, start_new_thread

from builder import libc
from builder.runtime import sealed

_START = "import sys; sys.path.insert(0, sys.argv[1]); from builder.runtime.{} import main; main()"
_CONTROL = 3


class Zygote:
    """A running zygote: its pid, and our end of the socketpair. `release` once it has ended."""

    def __init__(self, pid: int, control: socket.socket, parent: _Parent) -> None:
        self.pid = pid
        self.control = control
        self._parent = parent

    def release(self) -> None:
        """Let the thread go that started it."""
        self._parent.release()


def start_zygote(*, chroot: bool = False) -> Zygote:
    """Start it, as a child of a thread that lives as long (it dies with that). Raises OSError.

    chroot: without namespaces, and from the executable as it is (see `chroot.server`).
    """
    if chroot:
        program, path = os.open("/proc/self/exe", libc.O_PATH), os.readlink("/proc/self/exe")
    else:
        program, path = sealed.open_program()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        packages = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        start = _START.format("chroot.server" if chroot else "zygote")
        argv = [path, *sealed.FLAGS, "-c", start, packages]
        parent = _Parent(program, argv, theirs.fileno(), 0 if chroot else libc.CLONE_NEWPID)
        return Zygote(parent.start(), ours, parent)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(program)


class _Parent:
    """A thread whose next child is process 1 of a new PID namespace, if such are its `namespaces`.

    A thread of its own, because in a user namespace nobody gets back into the PID namespace around it.
    """

    def __init__(self, program: int, argv: list[str], control: int, namespaces: int) -> None:
        self._namespaces = namespaces
        self._program, self._argv, self._control = program, argv, control
        self._born, self._ended = allocate_lock(), allocate_lock()
        self._error: OSError | None = None
        self._pid = 0

    def start(self) -> int:
        """The child's pid."""
        self._born.acquire()
        self._ended.acquire()
        start_new_thread(self._live, ())
        self._born.acquire()
        if self._error is not None:
            raise self._error
        return self._pid

    def release(self) -> None:
        """End the thread; again is no error."""
        if self._ended.locked():
            self._ended.release()

    def _live(self) -> None:
        try:
            libc.unshare(self._namespaces)
            self._pid = _spawn(self._program, self._argv, self._control)
        except OSError as error:
            self._error = error
            return
        finally:
            self._born.release()
        self._ended.acquire()


def _spawn(program: int, argv: list[str], control: int) -> int:
    actions = [
        (os.POSIX_SPAWN_DUP2, control, _CONTROL),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    # the dynamic loader's paths are all that a Python may need of the environment to start at all
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return os.posix_spawn(
        f"/proc/self/fd/{program}",
        argv,
        environment,
        file_actions=actions,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD),
    )
