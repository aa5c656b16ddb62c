"""A user's terminal, lent to a command in a sandbox: keys go to its pty, what that shows comes back.

The one idea: two terminals and bytes between them. The user's becomes raw, so that Ctrl-C, Ctrl-Z and all
else are for the pty to understand; its size is told to the pty at once and whenever it changes. No
descriptor of the user's terminal goes inside. However the block is left, the terminal is as it was.

Must never know: what runs there. See termios(3), pty(7).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import termios
import tty
from collections.abc import Iterator

import msgspec

from builder.errors import UsageError
from builder.runtime import terminals
from builder.runtime.spec import Box, RuntimeSpec

_CHUNK = 65536


class Console:
    """A terminal that a person sits at. keys: where what is typed comes from; screen: where output goes."""

    def __init__(self, keys: int, screen: int) -> None:
        self.keys = keys
        self.screen = screen

    def size(self) -> tuple[int, int]:
        """Rows and columns; 0 where it tells none."""
        try:
            columns, rows = os.get_terminal_size(self.screen)
        except OSError:
            return 0, 0
        return rows, columns

    @contextlib.contextmanager
    def lent(self) -> Iterator[Lent]:
        """The terminal in raw mode, for a command to use. Call it in the running loop's main thread."""
        before = termios.tcgetattr(self.keys)
        lent = Lent(self)
        try:
            _make_raw(self.keys)
            yield lent
        finally:
            lent.close()
            termios.tcsetattr(self.keys, termios.TCSANOW, before)


class Lent:
    """A console on loan; `take` it for a pty."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._master = -1
        self._typed = b""
        self._loop = asyncio.get_running_loop()

    def take(self, master: int) -> None:
        """Join the pty whose master this is; it is closed by `close`."""
        os.set_blocking(master, False)
        self._master = master
        self._resize()
        self._loop.add_signal_handler(signal.SIGWINCH, self._resize)
        self._loop.add_reader(master, self._show)
        self._loop.add_reader(self._console.keys, self._type)

    def close(self) -> None:
        """Show what is left, and part. More than once does no harm."""
        master = self._master
        if master < 0:
            return
        self._loop.remove_signal_handler(signal.SIGWINCH)
        self._loop.remove_reader(self._console.keys)
        while self._show():
            pass
        self._loop.remove_reader(master)
        self._loop.remove_writer(master)
        self._master = -1
        os.close(master)

    def _resize(self) -> None:
        rows, columns = self._console.size()
        if rows and columns:
            terminals.resize(self._master, rows, columns)

    def _show(self) -> bool:
        """Bring what the pty has to the screen; False where there is none now."""
        try:
            shown = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the other end any more
                raise
            shown = b""
        if not shown:
            self._loop.remove_reader(self._master)
            return False
        view = memoryview(shown)
        try:
            while view:
                view = view[os.write(self._console.screen, view) :]
        except OSError:  # the user's terminal is gone, and a signal will say so
            return True
        return True

    def _type(self) -> None:
        """Take what was typed to the pty."""
        try:
            typed = os.read(self._console.keys, _CHUNK)
        except OSError:
            typed = b""
        if not typed:
            self._loop.remove_reader(self._console.keys)
            return
        self._typed += typed
        self._hand_on()

    def _hand_on(self) -> None:
        """Write what was typed, as far as the pty takes it; while it takes none, no more is read."""
        try:
            self._typed = self._typed[os.write(self._master, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it
            self._typed = b""
        if self._typed:
            self._loop.remove_reader(self._console.keys)
            self._loop.add_writer(self._master, self._hand_on)
        else:
            self._loop.remove_writer(self._master)
            self._loop.add_reader(self._console.keys, self._type)


def with_terminal(spec: RuntimeSpec, rows: int, columns: int, kind: str) -> RuntimeSpec:
    """The spec, its command with a terminal of this size; `kind` is its TERM where the environment has none.

    The runtime then needs a Unix socket as standard output, over which it sends the pty's master.
    """
    process = spec.process
    env = process.env
    if kind and not any(entry.startswith("TERM=") for entry in env):
        env = (*env, f"TERM={kind}")
    size = Box(height=rows, width=columns)
    process = msgspec.structs.replace(process, terminal=True, console_size=size, env=env)
    return msgspec.structs.replace(spec, process=process)


def find_console(purpose: str) -> Console:
    """This process's terminal: standard input, and standard error or output.

    Raises UsageError where there is none; `purpose` is what needs it.
    """
    screen = next((fd for fd in (2, 1) if os.isatty(fd)), -1)
    if not os.isatty(0) or screen < 0:
        which = "standard input is none" if not os.isatty(0) else "no output goes to one"
        raise UsageError(
            f"{purpose} needs a terminal, and {which}",
            hint="`pybuild debug -- COMMAND` runs a command without one",
        )
    return Console(0, screen)


def _make_raw(keys: int) -> None:
    """What is typed comes byte by byte, and nothing of it is for this side. Typed-ahead keys stay."""
    tty.setraw(keys, termios.TCSADRAIN)
