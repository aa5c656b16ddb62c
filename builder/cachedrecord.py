"""The record of a build that found all in the cache: ROOT/builds/cached/ID, one small file.

It holds what was asked, the keys of the steps, and the events (see `records`), and is written once the build
has ended, whole, by one rename without a barrier: what a power cut leaves of it counts as none. The last
fifty are kept, and count for themselves: however often nothing has changed, the records of builds that did
something stay. Writing it never stops a build. On the path of a fully cached build.
"""

from __future__ import annotations

import os
import time

from builder import plainjson, records
from builder.again import told_of
from builder.events import encode
from builder.fs.whole import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.digest import Digest
    from builder.events import AnyEvent, Emit
    from builder.request import BuildRequest
    from builder.store.root import Store

KEPT_BUILDS = 50
KEPT_BYTES = 16 << 20  # what so many records may take, were they all as large as the one that is written


class CachedRecord:
    """What takes the events of a build that found all in the cache, and hands them on."""

    def __init__(self, emit: Emit) -> None:
        self.events: list[AnyEvent] = []
        self._emit = emit

    def __call__(self, event: AnyEvent) -> None:
        """Hand the event on and keep it."""
        self._emit(event)
        self.events.append(event)

    def keep(
        self,
        store: Store,
        request: BuildRequest,
        keys: Sequence[Digest | None],
        environ: Mapping[str, str],
    ) -> str:
        """Write the record; its id, "" where it cannot be written.

        keys: of the steps, in the order of `Planned`; None where a step has none.
        """
        folder = os.path.join(store.folder, records.BUILDS, records.CACHED)
        begun = self.events[0].time if self.events else time.time()
        name = records.new_id(int(begun * 1e9))
        told = {**told_of(request, environ), "keys": list(keys)}
        lines = [plainjson.dumps(told, compact=True).encode("ascii"), *map(encode, self.events), b""]
        data = b"\n".join(lines)
        try:
            _write(folder, name, data)
        except OSError:
            return ""
        _forget_old(folder, max(1, min(KEPT_BUILDS, KEPT_BYTES // len(data))))
        return name


def _write(folder: str, name: str, data: bytes) -> None:
    try:
        write_whole(os.path.join(folder, name), data)
    except FileNotFoundError:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        write_whole(os.path.join(folder, name), data)


def _forget_old(folder: str, kept: int) -> None:
    """Remove all but the last so many. What cannot be removed, or is gone meanwhile, is left to the next."""
    try:
        for name in sorted(os.listdir(folder))[:-kept]:
            os.unlink(os.path.join(folder, name))
    except OSError:
        return
