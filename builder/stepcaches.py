"""The cache mounts of one step: which folder each one is, held while the step runs, and made if need be.

Which folder it is hangs on the mount's id and on what it starts with, as BuildKit has it: a cache that begins
with a stage's files is another one when these have changed, and one that is a user's own another than root's.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

from builder.cachemounts import CacheMounts, start_of
from builder.errors import MissingPath
from builder.graph.selection import Selection
from builder.ops.exec import CacheMount, Exec
from builder.runtime import spec
from builder.snapshots.snapshot import FOLDER, Snapshot
from builder.stepfiles import resolve_source

if TYPE_CHECKING:
    from builder.parts import Parts


class StepCaches:
    """The cache mounts of a step. `inputs`: the step's snapshots."""

    def __init__(self, parts: Parts, op: Exec, inputs: tuple[Snapshot, ...]) -> None:
        self._parts = parts
        self._inputs = inputs
        self._mounts = {mount for mount in op.mounts if isinstance(mount, CacheMount)}
        self._caches = CacheMounts(parts.store.folder)
        self._held: dict[CacheMount, str] = {}

    async def hold(self, stack: contextlib.AsyncExitStack) -> None:
        """Hold all, always in the same order, so that two steps cannot wait for each other."""
        names, starts = {}, {}
        for mount in self._mounts:
            starts[mount] = await self._parts.thread(self._start, mount)
            names[mount] = self._caches.name(mount.id, starts[mount])
        by_name: dict[str, str] = {}
        for mount in sorted(names, key=lambda mount: (names[mount], mount.sharing, mount.target)):
            name = names[mount]
            if name not in by_name:
                by_name[name] = await stack.enter_async_context(self._caches.hold(name, mount.sharing))
            self._held[mount] = by_name[name]
            if self._parts.mounts_elsewhere is not None and not os.path.isdir(by_name[name]):
                finish = partial(self._give, mount)
                await self._parts.mounts_elsewhere.bring(mount.id, starts[mount], by_name[name], finish)

    def lay(self, mount: CacheMount) -> spec.Bind:
        """What the runtime is told of a held cache, which is there then. Blocking. `source` is a path in what
        a cache starts with; where that is nothing, in the cache itself.

        Raises MissingPath where it is to start with something that is no folder, BuildError.
        """
        path = self._held[mount]
        self._caches.make(path, lambda new: self._fill(mount, new))
        self._parts.sandboxes.label(path)
        inside = mount.source.strip("/") if mount.input is None else ""
        return spec.Bind(
            target=mount.target, source=path, subpath=inside, readonly=mount.readonly, options=("nosuid",)
        )

    def _start(self, mount: CacheMount) -> list[object]:
        """What a cache starts with, as plain data; nothing for an empty folder of root's."""
        if mount.input is None:
            return start_of(mount.mode, mount.uid, mount.gid)
        snapshot, layers = self._inputs[mount.input], self._parts.layers
        context = self._parts.context_of(snapshot[0]) if len(snapshot) == 1 else None
        if context is None:
            return [*snapshot, mount.source]
        select = Selection((mount.source,), owners=False, wildcards=False)
        return [context.digest(layers.tree(snapshot), select), mount.source]

    def _give(self, mount: CacheMount, folder: str) -> None:
        self._caches.give(folder, mount.target, mount.uid, mount.gid, mount.mode & 0o777)

    def _fill(self, mount: CacheMount, folder: str) -> None:
        """Make a new folder what the cache starts with: empty, or the folder of an input as it is there."""
        if mount.input is None:
            self._give(mount, folder)
            return
        layers = self._parts.layers
        tree = layers.tree(self._inputs[mount.input])
        top = resolve_source(tree, mount)
        start = tree.get(top)
        if top != "." and (start is None or start.kind != FOLDER):
            raise MissingPath(f"the source {mount.source} of the cache at {mount.target} is not a folder")
        os.chmod(folder, 0o755)
        layers.copy(folder, tree, top)
