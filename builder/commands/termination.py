"""A SIGTERM that unwinds, as an exit does, so that what was begun is put away.

A build that finds everything in the cache begins nothing, and does without: it is over before the module
`signal` would be loaded. While a build's steps run, SIGTERM is `drive`'s.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def unwind_on_sigterm() -> None:
    """From now on, SIGTERM raises SystemExit."""
    import signal

    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
