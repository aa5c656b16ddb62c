"""A terminal for the command: a pty of the step's own devpts, whose other end the builder gets.

As runc does it: the pty is made inside the container, by descriptors of the mounts made there, so that no
path of an image leads elsewhere (CVE-2025-52565) and no terminal of the host goes inside. Its master is sent
over standard output, which must be a Unix socket then; the slave becomes the three streams, the controlling
terminal, and /dev/console. Of another runtime, which does all that by itself, the master is passed on.
See pty(7), ioctl_tty(2), and `--console-socket` of runc.

Loaded for steps with a terminal only. Knows no builder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat

from builder import libc
from builder.runtime import mounts
from builder.runtime.failure import Failure, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SET_LOCK, _GET_NUMBER, _GET_PEER = 0x40045431, 0x80045430, 0x5441
_SET_CONTROLLING, _SET_SIZE = 0x540E, 0x5414
_LARGEST = 0xFFFF

SOCKET = "console"
_PATIENCE = 10.0  # seconds, for what a runtime has done already
_LONGEST_NAME = 256  # bytes


def give(pts: int, dev: int, size: Mapping[str, int]) -> None:
    """Make the streams of this process, a session's leader, a new terminal, and send its master away.

    pts, dev: descriptors of the mounts on /dev/pts and /dev; size: `height` and `width`, as in the spec.
    Raises Failure.
    """
    if not stat.S_ISSOCK(os.fstat(1).st_mode):
        raise Failure("spec", errno.ENOTSOCK, "a terminal needs a socket as standard output")
    try:
        master, slave, number = _open(pts)
        resize(master, size.get("height", 0), size.get("width", 0))
        _show_console(pts, dev, str(number))
        _send(master, number)
        os.close(master)
        for stream in (0, 1, 2):
            os.dup2(slave, stream)
        os.close(slave)
        fcntl.ioctl(0, _SET_CONTROLLING, 0)
    except OSError as error:
        raise because("root", "cannot make a terminal", error) from error


def expected(folder: str) -> socket.socket:
    """A socket named SOCKET in a folder, at which a runtime can hand in a terminal. Raises OSError.

    The name is relative to the folder: whole paths may be longer than a socket's can be.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.chdir(folder)
        listener.bind(SOCKET)
        listener.listen(1)
        listener.settimeout(_PATIENCE)
    except OSError:
        listener.close()
        raise
    finally:
        os.chdir("/")
    return listener


def pass_on(listener: socket.socket) -> None:
    """Send the terminal that was handed in over standard output. Raises OSError where none was."""
    end, _ = listener.accept()
    with end:
        end.settimeout(_PATIENCE)
        name, terminals, _, _ = socket.recv_fds(end, _LONGEST_NAME, 1)
    with socket.socket(fileno=os.dup(1)) as own:
        socket.send_fds(own, [name], terminals)
    for terminal in terminals:
        os.close(terminal)


def resize(master: int, rows: int, columns: int) -> None:
    """Tell a pty how large it is shown, and whoever is in its foreground (SIGWINCH)."""
    size = [min(max(number, 0), _LARGEST).to_bytes(2, "little") for number in (rows, columns, 0, 0)]
    fcntl.ioctl(master, _SET_SIZE, b"".join(size))


def _open(pts: int) -> tuple[int, int, int]:
    """(master, slave, number) of a new pty; the slave comes from the master, not from a path."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = libc.openat2(pts, "ptmx", flags, resolve=libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS)
    fcntl.ioctl(master, _SET_LOCK, bytes(4))
    number = int.from_bytes(fcntl.ioctl(master, _GET_NUMBER, bytes(4)), "little")
    return master, fcntl.ioctl(master, _GET_PEER, flags), number


def _show_console(pts: int, dev: int, name: str) -> None:
    """Mount the slave on a new file /dev/console."""
    with contextlib.suppress(FileExistsError):  # a mount of the step: like runc, over it
        os.close(os.open("console", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dev))
    tree = libc.clone_tree(pts, name)
    mounts.attach(tree, libc.openat2(dev, "console", os.O_PATH | os.O_NOFOLLOW))
    os.close(tree)


def _send(master: int, number: int) -> None:
    with socket.socket(fileno=os.dup(1)) as end:
        socket.send_fds(end, [f"/dev/pts/{number}".encode()], [master])
