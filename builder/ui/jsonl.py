"""`--progress rawjson`: the events as they are, one JSON object a line, for programs."""

from __future__ import annotations

from builder.events import AnyEvent, encode
from builder.ui.stream import Stream


class JsonLines:
    """Writes every event as it comes."""

    interval = 0.0

    def __init__(self, out: Stream) -> None:
        self.out = out

    def emit(self, event: AnyEvent) -> None:
        """Write its line."""
        self.out.write(encode(event).decode("ascii") + "\n")

    def tick(self, now: float) -> None:
        """Time alone changes nothing."""

    def close(self) -> None:
        """Nothing is held back."""
