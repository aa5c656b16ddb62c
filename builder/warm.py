"""The path of a fully cached build: nothing is parsed, compiled, run or made.

The plan of an earlier compile is looked up; the contexts are walked and what is selected is hashed, by the
stat cache; keys follow, and the target's record. If that is there, and so are the finished images that the
outputs want, they are named, or written from the store's blobs, and the build is done. Wherever anything is
missing or unusual, `try_warm` returns None, and the full build begins afresh.
Loads neither asyncio nor msgspec, lark, networkx, rich or an HTTP library.
"""

from __future__ import annotations

import os
import time

from builder import configfile, memo, plainjson, prepare
from builder.cachedrecord import CachedRecord
from builder.delivery import TREES, Delivered, hand_out, hand_out_tree, metadata, referred, wanted
from builder.digest import Digest
from builder.errors import BuildError
from builder.events import (
    BuildFailed,
    BuildFinished,
    BuildStarted,
    Cached,
    ExportFinished,
    ExportStarted,
    Planned,
    VertexInfo,
    Warned,
)
from builder.result import BuildResult
from builder.snapshots.layers import LayerStore
from builder.solver.cache import Cache
from builder.solver.keys import combine
from builder.sources.known import state_of
from builder.store import locks
from builder.store.root import Store, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.contexts import Context
    from builder.events import Emit
    from builder.exporters import Export
    from builder.graph.selection import Selection
    from builder.oci.finished import Finished
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Snapshot

MAX_DOCUMENT = 16 << 20  # bytes of a manifest or a config


def try_warm(request: BuildRequest, emit: Emit, seen: dict[str, Context] | None = None) -> BuildResult | None:
    """The result of a build that has nothing to make; None where it may have.

    seen: takes the contexts that were read for it, by name: a full build need not read them again. Raises
    BuildError where an output fails. What else is wrong is found again, and told, by the full build.
    """
    begun = time.time()
    if not _is_plain(request) or not os.path.exists(os.path.join(request.root, "VERSION")):
        return None
    try:
        store = open_store(request.root)
        builds, uses = (locks.shared(store.folder, name) for name in (locks.BUILDS, locks.USES))
    except BuildError:
        return None
    with builds, uses:
        try:
            ready = _find(request, store, {} if seen is None else seen)
        except BuildError:
            return None
        return _record(ready, request, emit, begun) if ready is not None else None


def _record(ready: _Ready, request: BuildRequest, emit: Emit, begun: float) -> BuildResult:
    """Deliver, and leave a record of the build, however that ends. Raises BuildError."""
    say = CachedRecord(emit)
    try:
        result = ready.deliver(request, say, begun)
    except BuildError:
        say.keep(ready.store, request, ready.keys, os.environ)
        raise
    return referred(result, say.keep(ready.store, request, ready.keys, os.environ))


def _is_plain(request: BuildRequest) -> bool:
    """Whether the request asks for no more than what the cache may have."""
    unusual = request.no_cache or request.no_cache_filter or request.pull or request.cache_to
    attested = request.attests.is_any or request.sign
    return not unusual and not attested and request.dockerfile != "-" and not prepare.is_fetched(request)


def _find(request: BuildRequest, store: Store, seen: dict[str, Context]) -> _Ready | None:
    """What the request wants, if all of it is there. Raises BuildError."""
    exports = wanted(request)
    reads = any(export.kind in TREES for export in exports)
    if reads and not _reads_layers(request):
        return None
    texts = prepare.read_texts(request)
    args = prepare.build_args(request, os.environ)
    layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs, any_way=not reads)
    cache = Cache(os.path.join(store.folder, "cache"), layers.exists)
    plan = memo.load_plan(cache, memo.name_of(request, texts, args))
    if plan is None or not _bases_are_as_they_were(request, store, plan):
        return None
    lookup = _Lookup(request, texts, store, layers, cache, plan, seen)
    snapshots = lookup.targets()
    if snapshots is None:
        return None
    delivered = Delivered()
    for export in exports:
        if export.kind not in TREES and export.way not in delivered.made:
            name = memo.image_name(snapshots, plan.configs, args.get(prepare.EPOCH, ""), export.way)
            image = memo.load_image(cache, name)
            if image is None or not _is_whole(store, image, stored=export.kind == "image"):
                return None
            delivered.note(export, image)
        if export.push and not _is_pushed(export, delivered.made[export.way], store):
            return None
    trees = list(zip(request.platforms, snapshots, strict=True))
    return _Ready(store, layers, plan, lookup.keys, trees, exports, delivered, _slip(cache))


def _slip(cache: Cache) -> str:
    """What is wrong with the configuration file, "" where nothing is."""
    if not configfile.find(os.environ):
        return ""
    from builder.slips import slip_of

    return slip_of(os.environ, cache)


def _is_pushed(export: Export, image: Finished, store: Store) -> bool:
    """Whether an output that is pushed is where it is to go."""
    from builder.unchanged import is_pushed

    return is_pushed(export, image, store, os.environ)


def _reads_layers(request: BuildRequest) -> bool:
    """Whether this process reads layers' files as one that runs steps does: root, where it stands already."""
    return os.geteuid() == 0 and request.isolation == "auto"


def _bases_are_as_they_were(request: BuildRequest, store: Store, plan: memo.Plan) -> bool:
    return all(
        state_of(store.folder, locator, platform, request.contexts) == state
        for locator, platform, state in plan.states
    )


def _is_whole(store: Store, image: Finished, *, stored: bool) -> bool:
    """Whether the store has the layers' blobs, with their sizes, and of a `stored` image the documents.

    Raises StoreError where a document is not there, or is damaged.
    """
    blobs = store.blobs
    if stored:
        for digest in image.documents():
            blobs.read(Digest(digest), MAX_DOCUMENT)
    layers = (row for one in image.whole() for row in plainjson.loads(one.manifest_bytes).get("layers", ()))
    return all(blobs.stat(Digest(layer["digest"])) == layer["size"] for layer in layers)


class _Ready:
    """A build of which all is there, and is only to be told and handed out. keys: of the plan's rows; trees:
    a platform and what it came to, each; slip: what is wrong with the configuration file."""

    def __init__(
        self,
        store: Store,
        layers: LayerStore,
        plan: memo.Plan,
        keys: Sequence[Digest | None],
        trees: Sequence[tuple[str, Snapshot]],
        exports: Sequence[Export],
        delivered: Delivered,
        slip: str,
    ) -> None:
        self.store = store
        self.layers = layers
        self.plan = plan
        self.keys = keys
        self.trees = trees
        self.exports = exports
        self.delivered = delivered
        self.slip = slip

    def deliver(self, request: BuildRequest, emit: Emit, begun: float) -> BuildResult:
        """Do the outputs, with the events of a build that found all in the cache. Raises BuildError."""
        self._tell_plan(request, emit, begun)
        try:
            for export in self.exports:
                self._hand_out(export, emit)
        except BuildError as error:
            now = time.time()
            emit(BuildFailed(time=now, error=error.message, code=error.code, seconds=now - begun))
            raise
        image, now = self.delivered.image, time.time()
        result = BuildResult(
            image=image.digest if image else None,
            names=self.delivered.names,
            size=image.size if image else 0,
            seconds=now - begun,
            metadata=metadata(self.delivered),
        )
        steps = sum(row.op is not None and not row.internal for row in self.plan.rows)
        emit(
            BuildFinished(
                time=now,
                names=result.names,
                image=result.image or "",
                size=result.size,
                seconds=result.seconds,
                steps=steps,
                cached=steps,
                images=tuple(self.delivered.images),
            )
        )
        return result

    def _hand_out(self, export: Export, emit: Emit) -> None:
        """One output. To give an image of the store its names is not worth a word, nor is what is pushed."""
        if export.kind in ("image", "registry"):
            hand_out(export, self.delivered.made[export.way], self.store, self.delivered)
            return
        begun = time.time()
        emit(ExportStarted(time=begun, name=str(export)))
        if export.kind in TREES:
            hand_out_tree(export, self.trees, self.layers, self.plan.epoch)
        else:
            hand_out(export, self.delivered.made[export.way], self.store, self.delivered)
        now = time.time()
        emit(ExportFinished(time=now, name=str(export), seconds=now - begun))

    def _tell_plan(self, request: BuildRequest, emit: Emit, begun: float) -> None:
        plan, now = self.plan, time.time()
        emit(
            BuildStarted(
                time=begun,
                name=", ".join(request.tags),
                dockerfile=request.dockerfile or "Dockerfile",
                context=request.context,
            )
        )
        if self.slip:
            emit(Warned(time=now, message=self.slip))
        infos = tuple(
            VertexInfo(
                digest=row.digest,
                label=row.label,
                stage=row.stage,
                line=row.line,
                inputs=tuple(plan.rows[number].digest for number, _ in row.inputs),
            )
            for row in plan.rows
        )
        emit(Planned(time=now, vertices=infos, target=plan.rows[plan.targets[-1][0]].digest))
        for message, rule, line, excerpt in plan.warnings:
            emit(Warned(time=now, message=message, rule=rule, line=line, excerpt=excerpt))
        for row in plan.rows:
            if row.op is not None:
                emit(Cached(time=now, vertex=row.digest))


class _Lookup:
    """Keys from the bottom up, and the records of the targets. keys: of the plan's rows, as far as `targets`
    came."""

    def __init__(
        self,
        request: BuildRequest,
        texts: Texts,
        store: Store,
        layers: LayerStore,
        cache: Cache,
        plan: memo.Plan,
        contexts: dict[str, Context],
    ) -> None:
        self.request = request
        self.texts = texts
        self.store = store
        self.layers = layers
        self.cache = cache
        self.plan = plan
        self.contexts = contexts
        self.keys: list[Digest | None] = []

    def targets(self) -> list[Snapshot] | None:
        """The targets' snapshots, one for each platform; None where one must be made."""
        keys = self.keys
        try:
            for row in self.plan.rows:
                parts = [
                    keys[number] if select is None else self._content(number, select, keys)
                    for number, select in row.inputs
                ]
                key = combine(Digest(row.op) if row.op else None, parts)
                if key is None and not row.local:
                    return None
                keys.append(key)
        finally:
            for context in self.contexts.values():
                context.save()
        wanted = [keys[number] for number, _ in self.plan.targets]
        records = [self.cache.get(key) if key else None for key in wanted]
        if self.cache.aged:  # so that what this image was made of is not taken for what nobody needs
            self.cache.use(key for key in keys if key)
        found = [record.snapshot for record in records if record]
        return found if len(found) == len(records) else None

    def _content(self, number: int, select: Selection, keys: list[Digest | None]) -> Digest | None:
        row, key = self.plan.rows[number], keys[number]
        if row.local:
            context = self._context(number)
            assert context.layer is not None
            return context.digest(self.layers.tree((context.layer,)), select)
        if key is None:
            return None
        record = self.cache.get(key)
        return (
            self.cache.known_content(record.snapshot, select) if record else self.cache.selected(key, select)
        )

    def _context(self, number: int) -> Context:
        from builder.contexts import open_context

        row = self.plan.rows[number]
        if row.local not in self.contexts:
            asked = [select for user in self.plan.rows for source, select in user.inputs if source == number]
            context = open_context(row.local, asked, self.request, self.store.folder, self.texts)
            context.read(self.layers)
            self.contexts[row.local] = context
        return self.contexts[row.local]
