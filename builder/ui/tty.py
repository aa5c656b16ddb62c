"""`--progress tty`: the live view of a terminal.

The board is drawn in place while something runs, a few times a second at most; when the build is over it
gives way to plain lines that stay in the scroll-back. A build in which nothing runs is over before a
person sees a picture, so rich is loaded only when there is something to draw.
"""

from __future__ import annotations

import os

from builder import events
from builder.ui.board import Board
from builder.ui.report import closing_line, removed_lines, warning_lines
from builder.ui.stream import Stream, allows_color, paint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from rich.live import Live
    from rich.text import Text

    from builder.ui.board import Row

RICH = {
    "bold": "bold", "dim": "dim", "bad": "red", "good": "green", "warn": "yellow", "busy": "cyan", "": "",
}  # fmt: skip


class Terminal:
    """The reader."""

    interval = 0.2

    def __init__(self, target: TextIO, environ: Mapping[str, str]) -> None:
        self.out = Stream(target)
        self.color = allows_color(target, environ)
        self.board = Board(fancy=self.out.speaks("│●◌✔✘–…"))
        self.live: Live | None = None
        self.closed = False

    def emit(self, event: events.AnyEvent) -> None:
        """Fold the event in; it is drawn with the next tick."""
        self.board.emit(event)
        if isinstance(event, events.BuildFinished | events.BuildFailed):
            self.close()

    def tick(self, now: float) -> None:
        """Draw the board as it is now."""
        if self.closed or self.out.gone or not self.board.is_working:
            return
        from rich.console import ConsoleDimensions

        try:
            if self.live is None:
                self.live = self._open()
            width, height = _size(self.out.target)
            console = self.live.console
            console.size = ConsoleDimensions(width, height)
            # A process that is stopped (Ctrl-Z) or killed leaves the cursor as it is between two pictures.
            with console:
                console.show_cursor(False)
                self.live.update(self._text(self.board.rows(now, width - 1, height - 1)), refresh=True)
                console.show_cursor(True)
        except OSError:
            self.out.gone = True

    def close(self) -> None:
        """Take the picture away and leave the outcome of every step, the warnings and the closing line."""
        if self.closed:
            return
        self.closed = True
        if self.live is not None:
            try:
                self.live.stop()
            except OSError:
                self.out.gone = True
        for row in self.board.final_rows(_size(self.out.target)[0] - 1):
            self._write(row)
        for number, line in enumerate(warning_lines(self.board.warnings)):
            self._write([(line, "" if number else "warn")])
        for line in removed_lines(self.board.removed):
            self._write([(line, "")])
        if self.board.finished is not None:
            self._write([(closing_line(self.board.finished, digest_length=12), "bold")])
        elif self.board.begun or self.board.warnings:
            self._write([])  # an error is told next

    def _write(self, row: Row) -> None:
        self.out.write("".join(paint(text, style, color=self.color) for text, style in row) + "\n")

    def _open(self) -> Live:
        """A live region on the stream, drawn only when told, gone when stopped."""
        from rich.console import Console
        from rich.live import Live

        console = Console(
            file=self.out.target,
            force_terminal=True,
            force_interactive=True,
            no_color=not self.color,
            color_system="standard" if self.color else None,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )
        live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        with console:
            live.start()
            console.show_cursor(True)
        return live

    def _text(self, rows: list[Row]) -> Text:
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop", end="")
        for number, row in enumerate(rows):
            for part, style in row:
                text.append(part, RICH[style] if self.color else "")
            if number < len(rows) - 1:
                text.append("\n")
        return text


def _size(target: TextIO) -> tuple[int, int]:
    """Columns and rows of the terminal; it may have none, or tell none (0)."""
    try:
        columns, lines = os.get_terminal_size(target.fileno())
    except (OSError, ValueError):
        columns = lines = 0
    return columns or 80, lines or 24
