"""The worker: does what ops say, by the parts that know how.

It translates between worlds that do not know each other: ops (values), snapshots (layers on disk), images
and the runtime. Blocking work runs in threads, so the event loop stays free for output and cancellation.

It must never decide whether a vertex runs: that is the solver's.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from builder.digest import Digest, of_value
from builder.events import Progress
from builder.graph.selection import Selection
from builder.ops.files import PathItem
from builder.ops.source import MAIN_CONTEXT
from builder.pulling import bring_layer
from builder.snapshots import graft, owners, selection
from builder.snapshots.accounts import read_accounts
from builder.snapshots.archive import Archive
from builder.snapshots.delta import WORTH, weight
from builder.snapshots.edit import is_id
from builder.snapshots.snapshot import FILE, Entry, LayerId, Snapshot
from builder.snapshots.unpack import no_content
from builder.sources.archive import Archives

if TYPE_CHECKING:
    from builder.graph.definition import Vertex
    from builder.ops.exec import Exec
    from builder.ops.files import Copy, MakeDir
    from builder.ops.source import Git, Http, Image, Local
    from builder.parts import Parts
    from builder.snapshots.layers import LayerStore
    from builder.snapshots.selection import Told
    from builder.snapshots.tree import Tree


class Worker:
    """The worker of one vertex; see ops.worker.Worker."""

    def __init__(self, parts: Parts, vertex: Vertex) -> None:
        self.parts = parts
        self.vertex = vertex
        self._moment = time.time_ns()  # of what is made and has no other time

    async def pull(self, op: Image) -> Snapshot:
        """Fetch and unpack a base image's layers, all at the same time."""
        parts = self.parts
        contents = await parts.images.contents(op)
        unpacked = self.vertex.digest in parts.unpack

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(bring_layer(parts, op, blob, self._progress, unpacked=unpacked))
                for blob in contents.layers
            ]
        return await parts.thread(parts.layers.settle, [task.result() for task in tasks])

    async def read_context(self, op: Local) -> Snapshot:
        """Walk a context's folder; its bytes stay where they are. One that was fetched is a layer already."""
        if op.name == MAIN_CONTEXT and self.parts.context_layer is not None:
            return (self.parts.context_layer,)
        context = self.parts.contexts[op.name]
        return (await self.parts.thread(context.read, self.parts.layers),)

    async def fetch_file(self, op: Http) -> Snapshot:
        """Ask for a file on the web, and download it if it is not the one that is here."""
        from builder.sources import http

        layer = await http.fetch(self.parts.shelf, op, self._progress)
        self.parts.fetched[self.vertex.digest] = self.parts.layers.entries(layer)[0].digest or ""
        return (layer,)

    async def fetch_repository(self, op: Git) -> Snapshot:
        """See where a repository's ref leads, and fetch that commit's files if they are not here."""
        from builder.agents.forgit import socket_for
        from builder.sources import git

        shelf = self.parts.shelf
        async with socket_for(op.remote, self.parts.agents, shelf.root) as agent:
            layer, commit = await git.fetch(shelf, op, ssh_agent=agent)
        self.parts.fetched[self.vertex.digest] = commit
        return (layer,)

    async def content(self, snapshot: Snapshot, select: Selection, told: Told | None = None) -> Digest:
        """The digest of what is selected from a snapshot; told: as of snapshots.selection, if it is new."""
        return await self.parts.thread(self._content, snapshot, select, told)

    async def copy(self, op: Copy, below: Snapshot, sources: tuple[Snapshot, ...]) -> Snapshot:
        """Make the layer of a COPY or ADD straight from its sources."""
        return await self.parts.thread(self._copy, op, below, sources)

    async def make_dir(self, op: MakeDir, below: Snapshot) -> Snapshot:
        """Make the layer of a WORKDIR."""
        return await self.parts.thread(self._make_dir, op, below)

    async def execute(self, op: Exec, below: Snapshot, inputs: tuple[Snapshot, ...]) -> Snapshot:
        """Run a step in a sandbox over `below`, and make what it changed a layer."""
        from builder.step import run_step

        return await run_step(self.parts, self.vertex, op, below, inputs)

    def _content(self, snapshot: Snapshot, select: Selection, told: Told | None) -> Digest:
        layers = self.parts.layers
        if len(snapshot) == 1 and (context := self.parts.context_of(snapshot[0])) is not None:
            return context.digest(layers.tree(snapshot), select, told)

        def make() -> Digest:
            return selection.digest(layers.tree(snapshot), select, layers.digest, told=told)

        return self.parts.cache.content(snapshot, select, make)

    def _copy(self, op: Copy, below: Snapshot, sources: tuple[Snapshot, ...]) -> Snapshot:
        layers = self.parts.layers
        tree = layers.tree(below)
        wanted = {item.input for item in op.items if isinstance(item, PathItem)}
        with Archives(self.parts.store.folder) as archives:

            def archive(layer: LayerId, entry: Entry) -> Archive | None:
                with layers.open(layer, entry) as file:
                    return archives.read(file, entry.path)

            planned = graft.plan(
                op,
                tree,
                {number: layers.tree(sources[number]) for number in wanted},
                self._owner(op.chown, tree, nowhere=op.link or not below) if op.chown else None,
                now=self._now(),
                touched=self._epoch(),
                digest_of=self.parts.digest_of,
                archive=archive,
                hidden_by=self._hidden_by([sources[number] for number in wanted]),
                written=self._written,
            )
            content = Contents(layers, archives, planned)
            model = self._model()
            return (*below, self._create(self._timed(content.entries()), content.open, model))

    def _make_dir(self, op: MakeDir, below: Snapshot) -> Snapshot:
        tree = self.parts.layers.tree(below)
        owner = self._owner(op.user, tree, nowhere=not below) if op.user else None
        planned = graft.plan_dir(op.path, tree, owner, self._now(), self._epoch())
        return (*below, self._create(planned, no_content))

    def _timed(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries, none newer than it may be."""
        latest = self.parts.latest
        if latest is None:
            return list(entries)
        bound = latest * 1_000_000_000
        return [entry.replace(mtime=bound) if entry.mtime > bound else entry for entry in entries]

    def _model(self) -> Digest:
        """What names the layers that this copy of this project makes, whatever it copies and onto what."""
        folders = sorted(os.path.realpath(context.folder) for context in self.parts.contexts.values())
        return of_value(["model", self.vertex.op_digest, self.vertex.about.stage, folders])

    def _create(
        self, entries: list[Entry], content: Callable[[Entry], BinaryIO], name: Digest | None = None
    ) -> LayerId:
        """Make a layer; name: under which one that may differ in little is remembered."""
        layers, cache = self.parts.layers, self.parts.cache
        unpacked = self.vertex.digest in self.parts.unpack
        if weight(entries) < WORTH:  # made faster than looked for
            name = None
        afresh = name is None or self.vertex.about.no_cache
        last = None if afresh or name is None else cache.recall("models", name)
        model = LayerId(last) if last is not None and is_id(last) else None
        now = self._moment if self._epoch() is None else None
        layer = layers.create(entries, content, unpacked=unpacked, model=model, now=now)
        if name is not None and layer != model and layers.base(layer) is None:
            cache.remember("models", name, layer)
        return layer

    def _owner(self, text: str, tree: Tree, *, nowhere: bool) -> tuple[int, int]:
        files = read_accounts(self.parts.layers, tree) if owners.needs_files(text) else (None, None)
        return owners.resolve_chown(text, *files, nowhere=nowhere)

    def _now(self) -> int:
        epoch = self._epoch()
        return epoch if epoch is not None else self._moment

    def _written(self, name: str, text: str) -> int:
        """When a heredoc was first written in this build: copied again to one place, it is the same file."""
        return self.parts.written.setdefault((name, text), self._now())

    def _epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH in nanoseconds, for what else would have the time of its making."""
        return self.parts.epoch * 1_000_000_000 if self.parts.epoch is not None else None

    def _hidden_by(self, snapshots: Sequence[Snapshot]) -> Callable[[str], str | None] | None:
        for snapshot in snapshots:
            for layer in snapshot:
                if (context := self.parts.context_of(layer)) is not None:
                    return context.hidden_by
        return None

    def _progress(self, item: str, done: int, total: int) -> None:
        event = Progress(time=time.time(), vertex=self.vertex.digest, item=item, done=done, total=total)
        self.parts.emit(event)


class Contents:
    """The bytes of planned entries, wherever each one's are."""

    def __init__(self, layers: LayerStore, archives: Archives, planned: list[graft.Planned]) -> None:
        self.layers = layers
        self.archives = archives
        self.origins = {item.entry.path: item.origin for item in planned}
        self._planned = planned

    def entries(self) -> list[Entry]:
        """What is planned, with the digests of bytes that somebody knows."""
        entries = [item.entry for item in self._planned]
        digests: dict[str, str | None] = {}
        for entry in entries:
            if entry.kind == FILE and entry.hardlink is None:
                origin = self.origins[entry.path]
                if entry.digest is None and isinstance(origin, tuple) and origin[0] != Archives.layer:
                    entry.digest = self.layers.known_digest(*origin)
                digests[entry.path] = entry.digest
        return [
            entry if entry.hardlink is None else entry.replace(digest=digests.get(entry.hardlink))
            for entry in entries
        ]

    def open(self, entry: Entry) -> BinaryIO:
        """A stream of a FILE entry's bytes; the caller closes it."""
        origin = self.origins[entry.path]
        if isinstance(origin, bytes):
            return io.BytesIO(origin)
        if origin is None:
            raise KeyError(entry.path)
        layer, source = origin
        return self.archives.open(source) if layer == Archives.layer else self.layers.open(layer, source)
