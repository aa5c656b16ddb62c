"""Removing what was chosen, beside running builds and other processes that remove.

What there is and who uses it is read while the lock `uses` is held alone; what then goes is renamed away
under it, records and names first, so that nobody who comes later finds half of anything. The long part,
deleting what was renamed away, comes after the lock; cut short, the next sweep of ROOT/ingest ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder import failed, stop
from builder.digest import Digest
from builder.errors import StoreError
from builder.fs.remove import remove_tree
from builder.oci.names import Names
from builder.room import facts as room_facts
from builder.room.items import ANSWERS, CONTEXT, FAILED, IMAGE, LAYER, World
from builder.room.rules import TREE
from builder.store import leases
from builder.store.failure import told_as
from builder.store.ingest import LOCK, IngestFolder

if TYPE_CHECKING:
    from builder.room.facts import FolderFacts
    from builder.room.rules import Removal
    from builder.store.root import Store

    Decide = Callable[[World], list[Removal]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was removed; `left`: the bytes that no image with a name needs, now.

    busy: a build would not let go of the lock, so nothing was done.
    """

    removals: tuple[Removal, ...] = ()
    left: int = 0
    busy: bool = False

    @property
    def size(self) -> int:
        """The bytes that were freed."""
        return sum(removal.size for removal in self.removals)


def remove(store: Store, decide: Decide, folders: Mapping[str, Iterable[FolderFacts]]) -> Outcome:
    """Remove what `decide` chooses of the world as it is when nobody can take anything into use.

    folders: the caches and the like, which are held by locks of their own. Raises StoreError.
    """
    done: list[Removal] = []
    with told_as(store.folder, "making room"), _bin(store) as work:
        lock = leases.try_alone(store.folder)
        if lock is None:
            return Outcome(busy=True)
        with lock:
            world = World(room_facts.read(store), folders)
            carrier = _Carrier(store, world.facts.diffs, work)
            for removal in decide(world):
                if removal.item.kind == FAILED:
                    carrier.later.append(removal)
                    continue
                with contextlib.suppress(StoreError):  # a table cannot be written now: the disk is full
                    if carrier.carry(removal):
                        done.append(removal)
            left = world.used_space()
        done += [removal for removal in carrier.later if failed.forget(store, removal.item.id)]
        for name in sorted(set(os.listdir(work)) - {LOCK}) if work else ():
            stop.check()
            with contextlib.suppress(OSError):  # another user's files, of another user namespace
                remove_tree(os.path.join(work, name))
    return Outcome(tuple(done), left)


@contextlib.contextmanager
def _bin(store: Store) -> Iterator[str]:
    """A folder to rename things into. Where its emptying is interrupted, the rest is for the next sweep.

    "" where the disk is so full that none can be made.
    """
    try:
        folder = IngestFolder(store.folder)
    except StoreError as error:
        if error.code != "disk-full":
            raise
        yield ""
        return
    try:
        yield folder.path
    except stop.Stopped:
        folder.leave()
        raise
    finally:
        folder.close()


class _Carrier:
    """Takes things out of their places. later: what has locks of its own, and can take its time."""

    def __init__(self, store: Store, diffs: Mapping[str, list[str]], work: str) -> None:
        self.store = store
        self.later: list[Removal] = []
        self._diffs = diffs
        self._names = Names(store)
        self._work = work
        self._count = 0

    def carry(self, removal: Removal) -> bool:
        """Take away what is to go; whether it went."""
        item = removal.item
        for key in removal.records:
            self._unlink("cache", "records", key[7:9], key[7:])
        if item.kind == LAYER and removal.form == TREE:
            self._take_trees(item.id)
        elif item.kind == LAYER:
            for name in self._diffs.get(item.id, ()):
                self._unlink("cache", "diffs", name)
            self._away("layers", item.id)
        elif item.kind == IMAGE:
            self._names.remove(Digest(item.folder))
            self._names.forget_image(item.folder)
        elif item.kind == CONTEXT:
            self._unlink(item.folder)
        elif item.kind == ANSWERS:
            self._take_answers(item.folder)
        elif item.folder and not self._take_locked(item.folder):
            return False
        for blob in removal.blobs:
            self._away("blobs", *blob.split(":", 1))
        return True

    def _take_trees(self, layer: str) -> None:
        """The folders of bytes of a layer, which has a blob besides."""
        folder = os.path.join(self.store.folder, "layers", layer)
        for name in room_facts.TREES:
            if os.path.isdir(os.path.join(folder, name)):
                self._away("layers", layer, name)
                self._unlink("layers", layer, f"{name}-boot")
        self._unlink("layers", layer, "base")

    def _take_answers(self, folder: str) -> None:
        """What the cache remembers of a kind: the files alone, as builds write into the folders meanwhile,
        and none that a build is about to rename."""
        for top, _, names in os.walk(os.path.join(self.store.folder, folder)):
            for name in names:
                if not room_facts.TEMPORARY.fullmatch(name):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(top, name))

    def _take_locked(self, folder: str) -> bool:
        """A folder that who uses it holds by the lock of a file beside it, unless somebody does."""
        path = os.path.join(self.store.folder, folder)
        fd = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._away(folder)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def _away(self, *parts: str) -> None:
        self._count += 1
        if not self._work:
            remove_tree(os.path.join(self.store.folder, *parts))
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(self.store.folder, *parts), os.path.join(self._work, str(self._count)))

    def _unlink(self, *parts: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.store.folder, *parts))
