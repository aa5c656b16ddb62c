"""Readers of events: which there are, and which one a person gets.

A reader is a fold: `emit` takes an event (from the event loop's thread only), `tick` the time, a few
times a second, for what changes without an event. It builds nothing and asks nobody, so any recorded
stream can be shown again (`replay`). On the path of a fully cached build.
"""

from __future__ import annotations

from builder.errors import UsageError
from builder.ui.stream import Stream, is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol, TextIO

    from builder.events import AnyEvent

    class Reader(Protocol):
        """`interval`: seconds between ticks, 0 for none. `close` leaves the stream in order."""

        interval: float

        def emit(self, event: AnyEvent) -> None: ...

        def tick(self, now: float) -> None: ...

        def close(self) -> None: ...


class Quiet:
    """The reader that shows nothing."""

    interval = 0.0

    def emit(self, event: AnyEvent) -> None:
        """Show nothing of it."""

    def tick(self, now: float) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is open."""


def open_reader(mode: str, target: TextIO, environ: Mapping[str, str]) -> Reader:
    """The reader for a progress mode: auto, plain, quiet, rawjson or tty. Raises UsageError."""
    terminal = is_terminal(target, environ)
    match mode:
        case "quiet":
            return Quiet()
        case "rawjson":
            from builder.ui.jsonl import JsonLines

            return JsonLines(Stream(target))
        case "tty" if not terminal:
            raise UsageError("--progress tty needs a terminal", hint="use --progress plain")
        case "auto" | "tty" if terminal:
            from builder.ui.tty import Terminal

            return Terminal(target, environ)
        case "auto" | "plain":
            from builder.ui.plain import Plain

            return Plain(Stream(target))
    raise UsageError(f"no such progress mode: {mode}")


def replay(path: str, reader: Reader) -> None:
    """Show a recorded build: every event of the file, with ticks at the events' times.

    Raises OSError, and ValueError for a line that is no event.
    """
    from builder.events import decode

    try:
        with open(path, "rb") as file:
            for line in file:
                if line.strip():
                    event = decode(line)
                    reader.tick(event.time)
                    reader.emit(event)
    finally:
        reader.close()
