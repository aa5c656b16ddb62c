"""What the paths of a foreign archive may cost, in memory and in time.

Each member weighs something, whether it stays or another takes its place, and so does what a name implies: a
tar of a few kilobytes may name folders by the thousand, or the same path a million times. What weighs more
than a large layer must come from a blob of some size, as real files do: names, times and contents that differ
are some dozens of bytes each, however well they are compressed.

Must never know: what is archived, how it is compressed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

EACH = 500  # about the bytes that a path takes in memory besides its text
FREE = 64 << 20
MOST = 1 << 30
PER_BYTE = 32  # for each byte of the blob, beyond what is free


class Weight:
    """The weight so far. consumed: how many bytes of a foreign blob have been read; None for one of ours."""

    def __init__(self, consumed: Callable[[], int] | None) -> None:
        self._consumed = consumed
        self._sum = 0

    def add(self, path: str, text: int) -> None:
        """Count a path that has `text` characters to keep, its own and those of its links.

        Raises ImageError where it is too much for what has been read.
        """
        self._sum += EACH + 2 * text  # as who unpacks keeps it too
        if self._sum <= FREE:
            return
        allowed = MOST if self._consumed is None else min(PER_BYTE * self._consumed(), MOST)
        if self._sum > allowed:
            raise ImageError(
                f"it has more paths, at {path[:200]!r}, than an archive of its size can be meant to have",
                code="too-large",
                hint="ask whoever made it; files by the million are better kept in an archive of their own",
            )
