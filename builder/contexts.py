"""A context in use: a folder of the user's with its ignore file and its stat cache.

It is read once, as far as the build's selections reach, and becomes a layer of this process alone. On the
path of a fully cached build.
"""

from __future__ import annotations

import os

from builder.digest import hex_of, of_value
from builder.errors import BuildError
from builder.prepare import ignore_of_named
from builder.snapshots import selection
from builder.sources import context
from builder.store.statcache import StatCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.digest import Digest
    from builder.dockerfile.ignore import Ignore
    from builder.graph.selection import Selection
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.selection import Told
    from builder.snapshots.snapshot import Entry, LayerId
    from builder.snapshots.tree import Tree


NAMED_CONTEXT = "_context"  # as ops.source has it: the named context called `context`


def stat_cache_name(folder: str) -> str:
    """The name of a folder's stat cache in ROOT/cache/stat."""
    return hex_of(of_value(["stat-cache", os.path.realpath(folder)]))[:32]


class Context:
    """One context. `only`: the source patterns that anybody will ask for, None for everything.

    `layer` is what it was read as, None before `read`; `told` is all that it was made of.
    """

    def __init__(
        self, folder: str, ignore: Ignore | None, ignore_name: str, store: str, only: list[str] | None
    ) -> None:
        self.folder = folder
        self.ignore = ignore
        self.ignore_name = ignore_name
        self.only = only
        self.layer: LayerId | None = None
        self.told: tuple[object, ...] = ()
        self._entries: list[Entry] | None = None
        self._digests: dict[str, tuple[Digest, Told]] = {}
        self._path = os.path.join(store, "cache", "stat", stat_cache_name(folder))
        self._cache = StatCache(self._path)
        self._hasher = context.Hasher(folder, self._cache)

    def read(self, layers: LayerStore) -> LayerId:
        """Walk the folder, once; the layer that stands for it there. Raises BuildError for what cannot be
        read."""
        if self._entries is None:
            self._entries = context.read(self.folder, self.ignore, self._cache, only=self.only)
        self.layer = layers.add_folder(self.folder, self._entries)
        return self.layer

    def digest_of(self, layer: LayerId, entry: Entry) -> Digest:
        """The digest of a file's bytes; see sources.context."""
        return self._hasher.digest_of(layer, entry)

    def digest(self, tree: Tree, select: Selection, told: Told | None = None) -> Digest:
        """The digest of a selection of the context, its files hashed in threads where they are many.

        told: as of snapshots.selection.
        """
        if (known := self._digests.get(name := str(select.plain()))) is None:
            rows: Told = []
            digest = selection.digest(
                tree, select, self.digest_of, hidden_by=self.hidden_by, fill=self._hasher.fill, told=rows
            )
            known = self._digests[name] = (digest, rows)
        if told is not None:
            told += known[1]
        return known[0]

    def hidden_by(self, path: str) -> str | None:
        """The line of the ignore file that hides a path, as `.dockerignore:3`; None where none does."""
        if not self.ignore or not self.ignore.excludes(path):
            return None
        return f"{self.ignore_name}:{self.ignore.which(path)}"

    def save(self) -> None:
        """Keep what was hashed for the next build; a cache that cannot be written is no error."""
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._cache.save()
        except OSError:
            return


def open_context(
    name: str,
    asked: Sequence[Selection | None],
    request: BuildRequest,
    store: str,
    texts: Texts,
    seen: Mapping[str, Context] | None = None,
) -> Context:
    """The context of that name ("context" is the build's). `asked`: what is selected from it, None: all.

    seen: contexts that were read a moment ago: one that was asked for in the same way is taken as it was
    then. Raises BuildError where it is not there, or its ignore file has a bad pattern.
    """
    asked_for = name
    if name == "context":
        assert texts.context is not None, "a context that is no folder is a layer"
        folder, ignore = texts.context, texts.ignore
    else:
        name = "context" if name == NAMED_CONTEXT else name
        folder = os.path.abspath(request.contexts[name])
        if not os.path.isdir(folder):
            raise BuildError(
                f"named context {name}: {request.contexts[name]} is not a folder", code="context"
            )
        ignore = ignore_of_named(folder)
    ignore_name, text = ignore or (".dockerignore", "")
    patterns = None
    if text:
        from builder.dockerfile.ignore import parse

        patterns = parse(text, ignore_name)
    only: list[str] | None = []
    for select in asked:
        only = None if select is None or only is None else [*only, *select.patterns]
    told = (store, folder, ignore_name, text, None if only is None else frozenset(only))
    if seen is not None and (there := seen.get(asked_for)) is not None and there.told == told:
        return there
    opened = Context(folder, patterns, ignore_name, store, only)
    opened.told = told
    return opened
