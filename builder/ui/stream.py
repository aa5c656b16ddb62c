"""The stream that a reader writes to, and the colours it may use.

A reader's stream may vanish (a pager that was left, a closed terminal). That must not end a build, so
what can no longer be written is dropped. On the path of a fully cached build: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

# SGR parameters (ECMA-48): the basic colours, so that every terminal's palette applies.
STYLES = {"bold": "1", "dim": "2", "bad": "31", "good": "32", "warn": "33", "busy": "36", "badge": "1;31"}


class Stream:
    """Text out, to where somebody may or may not still be reading."""

    __slots__ = ("gone", "target")

    def __init__(self, target: TextIO) -> None:
        self.target = target
        self.gone = False

    def write(self, text: str) -> None:
        """Write and flush; from the first failure on, nothing more."""
        if self.gone or not text:
            return
        try:
            self.target.write(text)
            self.target.flush()
        except UnicodeEncodeError:
            encoding = self.target.encoding or "ascii"
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError):  # ValueError: it was closed
            self.gone = True

    def speaks(self, text: str) -> bool:
        """Whether the stream's encoding has these characters."""
        try:
            text.encode(getattr(self.target, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return False
        return True


def allows_color(target: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour: NO_COLOR forbids it, FORCE_COLOR asks for it, else a capable terminal is needed."""
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR", "")
    if forced:
        return forced not in ("0", "false")
    return is_terminal(target, environ)


def is_terminal(target: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is a terminal that can do more than print lines."""
    try:
        return target.isatty() and environ.get("TERM", "") not in ("dumb", "unknown", "")
    except ValueError:  # closed
        return False


def paint(text: str, style: str, *, color: bool) -> str:
    """Text in a style of STYLES; "" is plain."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if color and style and text else text
