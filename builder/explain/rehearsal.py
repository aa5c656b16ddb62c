"""A solve in which nothing runs: the solver itself decides, and what would run leaves a mark, and no layer.

So a plan cannot disagree with the build, whatever rules the solver has. What depends on the output of a step
that would run has a key that nobody knows yet: it is solved twice, once as if all such outputs were new, and
once as if all of them were the known ones. What is the same both times is sure.

Contexts are read, as keys are made of them. Nothing is written but what was hashed (the stat caches). What
caches elsewhere say counts as it does for a build, and nothing of it is brought: that leaves a mark, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.digest import Digest, of_value
from builder.events import Cached, Started
from builder.explain.account import ABSENT, DEPENDS, GONE, HIT, MISS, UNASKED, UNSAFE, USABLE
from builder.ops.files import Merge
from builder.ops.source import MAIN_CONTEXT, Local, Scratch
from builder.snapshots import sameness, selection
from builder.snapshots.snapshot import LayerId, Snapshot
from builder.solver.cache import Cache, Claim, Record
from builder.solver.solver import Solver

if TYPE_CHECKING:
    from typing import Any

    from builder.contexts import Context
    from builder.events import AnyEvent
    from builder.graph.definition import Definition, Vertex
    from builder.graph.selection import Selection
    from builder.keyparts.rows import Told
    from builder.remotecache.asking import Said
    from builder.snapshots.layers import LayerStore

UNMADE = "unmade "  # how the id of a layer begins that nobody has made; no real one has a blank
SLOTS = 1000


class Outlook:
    """What a rehearsal has found out.

    states: vertex -> HIT, MISS, DEPENDS or UNASKED; keys and contents: those that are known; origins: vertex
    whose key is not known -> the vertices on whose output it depends; late: the same of vertices that may
    be spared by the content of what they stand on; listings: what is selected, where it was computed;
    elsewhere: vertex -> its key, where its record is one of a cache elsewhere.
    """

    def __init__(self) -> None:
        self.states: dict[Digest, str] = {}
        self.keys: dict[Digest, Digest] = {}
        self.contents: dict[tuple[Digest, Selection], Digest] = {}
        self.origins: dict[Digest, set[Digest]] = {}
        self.late: dict[Digest, set[Digest]] = {}
        self.listings: dict[tuple[Digest, Selection], Told] = {}
        self.elsewhere: dict[Digest, Digest] = {}

    def known_key(self, digest: Digest) -> Digest | None:
        """The key of a vertex, if it is known."""
        return self.keys.get(digest)

    def known_content(self, source: Digest, select: Selection) -> Digest | None:
        """The content of a selection, if it is known."""
        return self.contents.get((source, select))


class ReadOnlyCache(Cache):
    """A cache that is only read. What is written to it is gone."""

    def put(self, key: Digest, record: Record) -> None:
        """Keep nothing."""

    def claim(self, key: Digest) -> Claim | None:
        """A claim on nothing: who only looks, waits for nobody."""
        return _NoClaim()

    def forget(self, key: Digest) -> None:
        """Drop nothing."""

    def condition(self, key: Digest) -> str:
        """What became of the record under a key."""
        data = self._read("records", key)
        if data is None:
            return ABSENT
        if data.get("boot", self.boot) != self.boot:
            return UNSAFE
        return USABLE if self.get(key) is not None else GONE

    def seconds(self, key: Digest) -> float | None:
        """How long the making of a record took, whether it can be used or not."""
        data = self._read("records", key)
        seconds = data.get("seconds") if data is not None else None
        return float(seconds) if isinstance(seconds, int | float) else None

    def _read(self, kind: str, digest: Digest, *, used: bool = False) -> dict[str, Any] | None:
        """To look is not to use."""
        return super()._read(kind, digest)

    def _write(self, kind: str, digest: Digest, data: dict[str, Any]) -> None:
        """Write nothing."""


class _NoClaim(Claim):
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", -1)

    def release(self) -> None:
        """There is nothing to give up."""


class Rehearsal:
    """One definition, to be solved without running anything. read: reads a context that is a folder; said: by
    caches elsewhere."""

    def __init__(
        self,
        definition: Definition,
        targets: Sequence[Digest],
        cache: ReadOnlyCache,
        layers: LayerStore,
        contexts: Mapping[str, Context],
        read: Callable[[str], LayerId],
        context_layer: LayerId | None,
        *,
        whole: bool,
        said: Said | None = None,
    ) -> None:
        self.definition = definition
        self.targets = targets
        self.cache = cache
        self.layers = layers
        self.contexts = contexts
        self.read = read
        self.context_layer = context_layer
        self.whole = whole
        self.said = said
        self.taken: dict[Digest, Digest] = {}
        self.told: dict[tuple[Snapshot, Selection], tuple[Digest, Told]] = {}
        self._hoped: Solver | None = None

    async def outlook(self) -> Outlook:
        """Solve, and tell what came of it. Raises BuildError as the build would, before anything runs."""
        ran, cached = await self._solve(None)
        outlook = self._outlook()
        if outlook.origins or outlook.late:
            sure = {key for digest, key in self._keys().items() if digest not in outlook.origins}
            still_ran, still_cached = await self._solve(sure, {*outlook.origins, *outlook.late})
        else:
            still_ran, still_cached = ran, cached
        for vertex in self.definition.reached(*self.targets):
            outlook.states[vertex.digest] = _state(vertex.digest, ran, still_ran, cached | still_cached)
        hits = (name for name, state in outlook.states.items() if state == HIT)
        outlook.elsewhere = {name: self.taken[name] for name in hits if name in self.taken}
        return outlook

    async def _solve(
        self, sure: set[Digest] | None, unsure: Collection[Digest] = ()
    ) -> tuple[set[str], set[str]]:
        """(vertices that ran, cached ones); with `sure` keys, others of `unsure` vertices count as known."""
        ran: set[str] = set()
        cached: set[str] = set()

        def note(event: AnyEvent) -> None:
            if isinstance(event, Started):
                ran.add(event.vertex)
            elif isinstance(event, Cached):
                cached.add(event.vertex)

        async def elsewhere(vertex: Vertex, key: Digest) -> Record | None:
            if self.said is not None and vertex.inputs and self.said.record(key) is not None:
                self.taken[vertex.digest] = key
                return Record((_unmade(vertex),), 0.0, vertex.about.label)
            hoped = sure is not None and vertex.digest in unsure and key not in sure
            return Record((_unmade(vertex),), 0.0, vertex.about.label) if hoped else None

        self.solver = Solver(
            self.definition,
            self.cache,
            self._run,
            self._content,
            note,
            SLOTS,
            elsewhere=elsewhere,
            told=self._selected if self.said is not None else None,
            whole=self._whole if self.whole else None,
        )
        self._hoped = self.solver if sure is not None else None
        await self.solver.solve_all(self.targets)
        return ran, cached

    async def _run(self, vertex: Vertex, inputs: Sequence[Snapshot]) -> Snapshot:
        """What needs no work is done, contexts are read; the rest leaves a mark."""
        op = vertex.op
        if isinstance(op, Local):
            if op.name == MAIN_CONTEXT and self.context_layer is not None:
                return (self.context_layer,)
            return (self.read(op.name),)
        if isinstance(op, Scratch | Merge):
            return tuple(layer for snapshot in inputs for layer in snapshot)
        return (_unmade(vertex),)

    async def _content(self, vertex: Vertex, snapshot: Snapshot, select: Selection) -> Digest:
        if any(layer.startswith(UNMADE) for layer in snapshot):
            return self._unknown(snapshot, select)
        if (snapshot, select) in self.told:
            return self.told[snapshot, select][0]
        told: Told = []
        content = self._known(snapshot, select, told)
        self.told[snapshot, select] = (content, told)
        return content

    def _known(self, snapshot: Snapshot, select: Selection, told: Told) -> Digest:
        layers = self.layers
        if len(snapshot) == 1:
            for context in self.contexts.values():
                if context.layer == snapshot[0]:
                    return context.digest(layers.tree(snapshot), select, told)

        def make() -> Digest:
            return selection.digest(layers.tree(snapshot), select, layers.digest, told=told)

        return self.cache.content(snapshot, select, make)

    async def _selected(self, key: Digest, select: Selection) -> Digest | None:
        """What a selection of what a key names came to, as a cache elsewhere has it."""
        return self.said.content(key, select) if self.said is not None else None

    def _taken_content(self, source: Digest, select: Selection) -> Digest | None:
        """The same of a vertex whose record is elsewhere; None where nobody says."""
        key = self.taken.get(source)
        if key is None or self.said is None:
            return None
        return self.cache.selected(key, select) or self.said.content(key, select)

    def _unknown(self, snapshot: Snapshot, select: Selection) -> Digest:
        """A content that nobody knows yet, unless a cache elsewhere says it; where the solver has assumed
        one, and is to be right, that one."""
        if (said := self._taken_content(_marked(snapshot), select)) is not None:
            return said
        if self._hoped is not None:
            assumed = self._hoped.assumed.get(_marked(snapshot), {}).get(select)
            if assumed is not None:
                return assumed
        return of_value(["unknown", list(snapshot), select.plain()])

    async def _whole(self, _vertex: Vertex, snapshot: Snapshot) -> Digest:
        """The content of a whole result, where that is there."""
        if any(layer.startswith(UNMADE) for layer in snapshot):
            return of_value(["unknown", list(snapshot)])
        return sameness.digest(self.layers, self.cache, snapshot)

    def _keys(self) -> dict[Digest, Digest]:
        reached = self.definition.reached(*self.targets)
        found = {vertex.digest: self.solver.known_key(vertex.digest) for vertex in reached}
        return {digest: key for digest, key in found.items() if key is not None}

    def _outlook(self) -> Outlook:
        """The keys and contents that are known, and why the others are not."""
        outlook = Outlook()
        keys = self._keys()
        for vertex in self.definition.reached(*self.targets):
            origins: set[Digest] = set()
            for item in vertex.inputs:
                if item.select is None:
                    origins |= outlook.origins.get(item.of, set())
                    if self.whole and self._is_unmade(item.of):
                        outlook.late.setdefault(vertex.digest, set()).add(item.of)
                elif self._is_unmade(item.of) and self._taken_content(item.of, item.select) is None:
                    origins.add(item.of)
                else:
                    self._note_content(outlook, item.of, item.select)
            if origins:
                outlook.origins[vertex.digest] = origins
            elif vertex.digest in keys:
                outlook.keys[vertex.digest] = keys[vertex.digest]
        return outlook

    def _note_content(self, outlook: Outlook, source: Digest, select: Selection) -> None:
        content = self.solver.known_content(source, select)
        if content is not None:
            outlook.contents[source, select] = content
            snapshot = self._result(source)
            if snapshot is not None and (snapshot, select) in self.told:
                outlook.listings[source, select] = self.told[snapshot, select][1]

    def _is_unmade(self, source: Digest) -> bool:
        """Whether a vertex was asked for its result, and would have to be made for it."""
        snapshot = self._result(source)
        return snapshot is not None and any(layer.startswith(UNMADE) for layer in snapshot)

    def _result(self, source: Digest) -> Snapshot | None:
        task = self.solver.results.get(source)
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()


def _unmade(vertex: Vertex) -> LayerId:
    return LayerId(UNMADE + vertex.digest)


def _marked(snapshot: Snapshot) -> Digest:
    """The vertex whose mark is on top."""
    return Digest(snapshot[-1].removeprefix(UNMADE))


def _state(digest: Digest, ran: set[str], still_ran: set[str], cached: set[str]) -> str:
    if digest in ran and digest in still_ran:
        return MISS
    if digest in ran or digest in still_ran:
        return DEPENDS
    return HIT if digest in cached else UNASKED
