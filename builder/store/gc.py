"""What nothing refers to any more, removed.

Marks from the roots it is given and sweeps the rest, alone: a running build holds the lock `builds`
shared, and while anybody does, nothing is swept. Knows digests and that lock, not what a blob means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from builder.digest import Digest
from builder.store import locks
from builder.store.ingest import sweep_ingest
from builder.store.root import Store


@dataclass(frozen=True, slots=True)
class Removed:
    """What a sweep did: blobs and bytes removed. `busy`: a build runs, so it was put off."""

    digests: tuple[Digest, ...] = ()
    size: int = 0
    busy: bool = False


def remove_unreferenced(
    store: Store, candidates: Collection[Digest], live: Callable[[], set[Digest]]
) -> Removed:
    """Remove those of the candidates that are not live.

    `live` is asked under the lock, so that what it tells stays true while the sweep goes on. Stale files
    of dead processes go too. Raises StoreError.
    """
    sweep_ingest(store.folder)
    lock = locks.try_exclusive(store.folder, locks.BUILDS)
    if lock is None:
        return Removed(busy=True)
    with lock:
        kept = live()
        gone, size = [], 0
        for digest in candidates:
            if digest in kept:
                continue
            freed = store.blobs.remove(digest)
            if freed:
                gone.append(digest)
                size += freed
    return Removed(tuple(gone), size)
