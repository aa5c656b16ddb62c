"""Where what was fetched is kept: as layers, with records that say what they are.

A layer that was fetched has a record under the key that its op would have had, had it been pinned to what
turned out to be there (a file's digest, a commit). So what is still the same is not fetched again, whoever
asks for it, and a pinned op finds what an unpinned one brought.

What must be remembered besides (a file's ETag, where a ref led) is text under ROOT/cache/http and refs. Must
never know: HTTP, git.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import msgspec

from builder.digest import Digest, of_value
from builder.snapshots.edit import new_id
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import Entry, LayerId
from builder.solver.cache import Cache, Record
from builder.solver.keys import combine
from builder.store.ingest import IngestFolder

# The value of a secret by its id, None where there is none.
SecretOf = Callable[[str], bytes | None]
ProgressOf = Callable[[str, int, int], None]


def no_secret(_name: str) -> bytes | None:
    """Nobody gave any secrets."""
    return None


def no_progress(_item: str, _done: int, _total: int) -> None:
    """Nobody watches."""


class Shelf(msgspec.Struct):
    """The layers and records of a store. `kept`: the keys of the records that were made through it.

    offline: what is not here must not be fetched.
    """

    root: str
    layers: LayerStore
    cache: Cache
    secret_of: SecretOf = no_secret
    kept: list[Digest] = msgspec.field(default_factory=list)
    offline: bool = False

    def find(self, plain: Sequence[Any]) -> LayerId | None:
        """The layer that was kept under this plain data, if it is still there."""
        record = self.cache.get(_key(plain))
        return record.snapshot[0] if record is not None and len(record.snapshot) == 1 else None

    def keep(self, plain: Sequence[Any], layer: LayerId, label: str, seconds: float) -> LayerId:
        """Keep a layer under this plain data."""
        key = _key(plain)
        self.cache.put(key, Record((layer,), seconds, label))
        self.kept.append(key)
        return layer


def open_new(path: str) -> BinaryIO:
    """A new file of mode 0600, to be written and read. Raises OSError if there is anything at its path."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    os.fchmod(fd, 0o600)
    return open(fd, "w+b")


class NewLayer:
    """A folder in which a layer's files are laid down: `tree` is to be made, as a folder, in `path`.

    Leaving the block removes what did not become a layer.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._work = IngestFolder(shelf.root)
        self.path = self._work.path
        self._folder = os.path.join(self.path, "layer")
        self.tree = os.path.join(self._folder, shelf.layers.tree_name)
        os.mkdir(self._folder, 0o700)

    def __enter__(self) -> NewLayer:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.close()

    def place(self, entries: list[Entry]) -> LayerId:
        """Make the tree a layer of these entries, sorted as a layer's are."""
        return self._shelf.layers.place(new_id(), self._folder, entries)


def _key(plain: Sequence[Any]) -> Digest:
    key = combine(of_value(list(plain)), [])
    assert key is not None
    return key
