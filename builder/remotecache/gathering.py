"""What goes along to a cache elsewhere: which records of a build, and where each layer's bytes are.

With mode=min those whose layers are all among a target's; with max all that the targets' definition has. A
record that the store lacks, because nothing needed it, goes on from the cache that has it. What selections of
sources came to goes along in both modes: so a later build knows the key of a COPY from a stage, and takes its
result, without the stage.

A layer that cannot be told from its tar alone (it has files whose names are those of removals) stays here,
and every record with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from builder.digest import Digest
from builder.oci.layer import WHITEOUT_PREFIX
from builder.remotecache.document import Writing, time_name
from builder.remotecache.document import content_name as name_of_content
from builder.snapshots.snapshot import OPAQUE, WHITEOUT, Entry

if TYPE_CHECKING:
    from builder.graph.definition import Vertex
    from builder.oci.spec import LayerBlob
    from builder.remotecache.document import Snapshot as Blobs
    from builder.remotecache.taking import Remote, Taking
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.snapshot import LayerId, Snapshot
    from builder.solver.cache import Cache as Records

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """What was built for one platform: its key, if it has one, its layers, and the name of its config.

    created: when its image was made, "" if none was.
    """

    key: Digest | None
    snapshot: Snapshot
    config: Digest
    created: str = ""

    def made_at(self, created: str) -> Target:
        """The same, once the image is made."""
        return replace(self, created=created)


@dataclass(frozen=True)
class Solved:
    """A build that went well, as far as caches care.

    vertices: those that the targets reach, in topological order; keys: vertex -> key, of those that have
    one; further: more keys that name something now; targets: one for each platform.
    """

    vertices: tuple[Vertex, ...]
    keys: Mapping[Digest, Digest]
    further: Mapping[Digest, Snapshot]
    targets: tuple[Target, ...]

    def of(self, *targets: Target) -> Solved:
        """The same for these targets alone, or as they are now."""
        return replace(self, targets=targets)


@dataclass(frozen=True)
class Gathered:
    """A document in the making, and where the bytes of layers are that the store lacks: digest -> cache."""

    writing: Writing
    elsewhere: dict[str, Remote]


class Gathering:
    """Gathers for one destination.

    pack: makes a layer of the store a blob as the destination wants it.
    """

    def __init__(
        self,
        solved: Solved,
        layers: LayerStore,
        records: Records,
        taking: Taking,
        pack: Callable[[LayerId], Awaitable[LayerBlob]],
    ) -> None:
        self._solved = solved
        self._layers = layers
        self._records = records
        self._taking = taking
        self._pack = pack
        self._portable: dict[LayerId, bool] = {}

    async def gather(self, *, everything: bool) -> Gathered:
        """All that goes along: with `everything`, not only what made the target's layers."""
        here, elsewhere = await self._find(everything=everything)
        layers = dict.fromkeys(layer for _, snapshot, _ in here for layer in snapshot)
        packed = dict(zip(layers, await together(self._pack(layer) for layer in layers), strict=True))
        gathered = Gathered(Writing(), {})
        writing = gathered.writing
        for key, snapshot, seconds in here:
            writing.add(key, [writing.place(packed[layer]) for layer in snapshot], seconds)
        ours = {blob.descriptor.digest for blob in writing.blobs}
        for key, remote, blobs, seconds in elsewhere:
            writing.add(key, [writing.place(blob) for blob in blobs], seconds)
            for blob in blobs:
                if blob.descriptor.digest not in ours:
                    gathered.elsewhere[blob.descriptor.digest] = remote
        await self._tell(writing)
        return gathered

    async def inline(self) -> Writing:
        """What goes into the image of the one target itself: its layers, in their places."""
        writing = Writing()
        (target,) = self._solved.targets
        places = {layer: place for place, layer in enumerate(target.snapshot)}
        here, _ = await self._find(everything=False)
        for key, snapshot, seconds in here:
            writing.add(key, [places[layer] for layer in snapshot], seconds)
        await self._tell(writing)
        return writing

    async def _find(
        self, *, everything: bool
    ) -> tuple[list[tuple[Digest, Snapshot, float]], list[tuple[Digest, Remote, Blobs, float]]]:
        """Records of the store, and of caches elsewhere."""
        here: list[tuple[Digest, Snapshot, float]] = []
        elsewhere: list[tuple[Digest, Remote, Blobs, float]] = []
        wanted = [set(target.snapshot) for target in self._solved.targets]
        for key in self._keys():
            record = self._records.get(key)
            if record is not None:
                of_image = any(layers.issuperset(record.snapshot) for layers in wanted)
                if (everything or of_image) and self._may_go(record.snapshot):
                    here.append((key, record.snapshot, record.seconds))
            elif everything and (found := await self._elsewhere(key)) is not None:
                elsewhere.append(found)
        return here, elsewhere

    def _keys(self) -> Iterable[Digest]:
        """The keys of all that is made of something; what has no inputs comes from its own source."""
        made = [vertex for vertex in self._solved.vertices if vertex.inputs]
        found = [self._solved.keys[vertex.digest] for vertex in made if vertex.digest in self._solved.keys]
        sources = {self._solved.keys.get(v.digest) for v in self._solved.vertices if not v.inputs}
        return dict.fromkeys([*found, *(key for key in self._solved.further if key not in sources)])

    async def _elsewhere(self, key: Digest) -> tuple[Digest, Remote, Blobs, float] | None:
        for remote, cache in await self._taking.opened():
            blobs = cache.snapshot(key)
            if blobs is not None and not any(b.descriptor.digest in self._taking.damaged for b in blobs):
                return key, remote, blobs, cache.seconds(key) or 0.0
        return None

    async def _tell(self, writing: Writing) -> None:
        """Put in what selections came to, and when the image was made."""
        for vertex in self._solved.vertices:
            for item in vertex.inputs:
                key = self._solved.keys.get(item.of)
                if key is None or item.select is None:
                    continue
                found = self._records.selected(key, item.select)
                found = found or await self._taking.selected(key, item.select)
                if found is not None:
                    writing.contents[name_of_content(key, item.select)] = found
        for target in self._solved.targets:
            if target.created and target.key is not None:
                writing.times[time_name(target.key, target.config)] = target.created

    def _may_go(self, snapshot: Snapshot) -> bool:
        for layer in snapshot:
            if layer not in self._portable:
                self._portable[layer] = not any(map(_is_literal, self._layers.entries(layer)))
        return bool(snapshot) and all(self._portable[layer] for layer in snapshot)


def _is_literal(entry: Entry) -> bool:
    """Whether a path is called as a removal is in a tar."""
    if WHITEOUT_PREFIX not in entry.path or entry.kind in (WHITEOUT, OPAQUE):
        return False
    return any(name.startswith(WHITEOUT_PREFIX) for name in entry.path.split("/"))


async def together(works: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all, done at the same time; the first error stops the rest."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
