"""A whole check: what is looked at, in which order, and until nothing is left to mend.

What one repair takes away another thing may have needed (an image its blob, a layer its last form); so after
mending it is looked again, until all is well or nothing more can be done now. Others name and remove images
meanwhile; so what looks damaged is looked at a second time, and counts if it still does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.fsck import answers, blobs, layers, names
from builder.fsck.finding import Counts, Finding
from builder.fsck.mending import mend
from builder.room.stale import sweep
from builder.store.root import FOLDERS, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
Tell = Callable[[Finding, bool], None]


@dataclass(slots=True)
class Report:
    """What a check came to: how much it looked at, what it found, and what of that is mended."""

    counts: Counts = field(default_factory=Counts)
    found: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left that is damaged."""
        return len(self.mended) == len(self.found)


def check(folder: str, *, repair: bool) -> Report:
    """Check the store in a folder. Raises StoreError where there is none, or it cannot be read."""
    if not os.path.isdir(os.path.join(folder, "layers")) and not os.path.exists(f"{folder}/VERSION"):
        raise StoreError(f"there is no store in {folder}", code="no-store")
    store, report = Store(folder), Report()
    if repair:
        for name in FOLDERS:
            os.makedirs(os.path.join(folder, name), 0o700, exist_ok=True)
        sweep(store)
    for _ in range(ROUNDS):
        report.counts = Counts()
        found = [finding for finding in _look(store, report.counts) if finding not in report.found]
        if found:
            still = set(_look(store, Counts()))
            found = [finding for finding in found if finding in still]
        report.found += found
        mended = mend(store, found) if repair else []
        report.mended += mended
        if not mended:
            break
    return report


def _look(store: Store, counts: Counts) -> Iterator[Finding]:
    """All findings of one look at the store."""
    yield from names.check_files(store)
    damaged = list(blobs.check(store, counts))
    yield from damaged
    paths = frozenset(finding.path for finding in damaged)
    yield from names.check_tables(store, paths, counts)
    yield from layers.check(store, paths, counts)
    yield from answers.check(store, counts)
