"""A person at a terminal: a program on a pty, what it shows, and what is typed."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from typing import Any

PATIENCE = 60.0  # seconds until a text that does not come is a failure
LAST = b"\x1c"  # written behind all that a program wrote, when it has ended: it may be shown some time later


class Terminal:
    """A program on a terminal of its own, which is its controlling one. `shown`: all that it has shown."""

    def __init__(self, command: Sequence[str], *, rows: int = 40, columns: int = 100, **options: Any) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._theirs)
        self.shown = ""
        self._seen = 0
        self._has_ended = self._is_whole = False  # whether LAST was written, and was taken
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.process = subprocess.Popen(
            command,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
            **options,
        )

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type a text, just as it is."""
        os.write(self._ours, text.encode())

    def expect(self, text: str) -> str:
        """Wait until the text is shown, behind the one that was waited for last; what came before it."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.shown[self._seen :]}"
            assert self._read(), f"it ended, and {text!r} did not come:\n{self.shown[self._seen :]}"
        before, self._seen = self.shown[self._seen : found], found + len(text)
        return before

    def answer(self, command: str) -> list[str]:
        """Type a command to the shell there; the lines that it says."""
        self.type(
            f"echo be''gun; {command}; echo do''ne\n"
        )  # so that what is typed is not what is waited for
        self.expect("begun")
        return [line.strip() for line in self.expect("done").splitlines() if line.strip()]

    def end(self) -> int:
        """Wait until the program has ended; its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown[self._seen :]}"
        return self.process.wait()

    def is_as_it_was(self) -> bool:
        """Whether the terminal's settings are those that it began with."""
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        """Hang up."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self) -> bool:
        """Take what is shown now; False where nothing is, and nothing will be."""
        if self._is_whole:
            return False
        if not self._has_ended and self.process.poll() is not None:
            _, has_room, _ = select.select([], [self._theirs], [], 0)
            self._has_ended = bool(has_room) and os.write(self._theirs, LAST) > 0
        ready, _, _ = select.select([self._ours], [], [], 0.1)
        if ready:
            shown, last, _ = os.read(self._ours, 65536).partition(LAST)
            self._is_whole = bool(last)
            self.shown += self._decoder.decode(shown)
        return True


@contextlib.contextmanager
def at_terminal(command: Sequence[str], **options: Any) -> Iterator[Terminal]:
    """A terminal for a while."""
    terminal = Terminal(command, **options)
    try:
        yield terminal
    finally:
        terminal.close()
