"""Times that are the same whenever a step is run: nothing that it wrote is newer than a given time.

A path that is older keeps its time, as an archive or `cp -p` has given it on purpose. What the step wrote
while it ran has the given time, even where that is yet to come. Folders brought along as parents are clamped
as all else is. Must never know: what a layer is for.
"""

from __future__ import annotations

import os
import time

from builder.fs.rooted import open_folder, opened
from builder.snapshots.snapshot import WHITEOUT, parent_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from builder.snapshots.snapshot import Entry

SECOND = 1_000_000_000


class Clamp:
    """Paths newer than `bound` get the time `latest`; both in nanoseconds."""

    __slots__ = ("_clamped", "bound", "latest")

    def __init__(self, latest: int, bound: int) -> None:
        self.latest = latest
        self.bound = bound
        self._clamped: set[str] = set()

    @classmethod
    def since_now(cls, latest: int | None) -> Self | None:
        """Of what is written from now on, with the time `latest` (seconds); None for None."""
        if latest is None:
            return None
        now = time.time_ns() - SECOND  # file systems' clocks are behind by some milliseconds
        return cls(latest * SECOND, min(latest * SECOND, now))

    def apply(self, entries: Iterable[Entry]) -> None:
        """Change the times of entries."""
        for entry in entries:
            if entry.mtime > self.bound:
                entry.mtime = self.latest
                self._clamped.add(entry.path)

    def settle(self, folder: int, entries: Iterable[Entry]) -> None:
        """Give the paths of these entries below an open folder the times that `apply` gave them, as later
        steps see them there. Raises OSError."""
        by_parent: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.path in self._clamped and entry.kind != WHITEOUT and entry.path != ".":
                by_parent.setdefault(parent_of(entry.path), []).append(entry)
        for parent, found in by_parent.items():
            with opened(open_folder(folder, parent)) as fd:
                for entry in found:
                    name = entry.path.rpartition("/")[2]
                    os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)
