"""The path of a fully cached build: nothing is parsed, compiled, run or made.

The plan of an earlier compile is looked up; the contexts are walked and what is selected is hashed, by the
stat cache; keys follow, and the target's record; if that and its finished image are there, the build is
done. Wherever anything is missing or unusual, `try_warm` returns None, and the full build begins afresh.
Loads neither asyncio nor msgspec, lark, networkx, rich or an HTTP library.
"""

from __future__ import annotations

import json
import os
import time

from builder import memo, prepare
from builder.digest import Digest
from builder.errors import BuildError
from builder.events import BuildFinished, BuildStarted, Cached, Planned, VertexInfo, Warned
from builder.result import BuildResult
from builder.snapshots.layers import LayerStore
from builder.solver.cache import Cache
from builder.solver.keys import combine
from builder.sources.known import state_of
from builder.store import locks
from builder.store.root import Store, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.contexts import Context
    from builder.events import Emit
    from builder.graph.selection import Selection
    from builder.oci.reference import Reference
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Snapshot

MAX_DOCUMENT = 16 << 20  # bytes of a manifest or a config


def try_warm(request: BuildRequest, emit: Emit) -> BuildResult | None:
    """The result of a build that has nothing to do; None where it may have. Raises no BuildError of its own:
    whatever is wrong is found again, and told, by the full build."""
    if not _is_plain(request):
        return None
    try:
        return _try(request, emit)
    except BuildError:
        return None


def _is_plain(request: BuildRequest) -> bool:
    """Whether the request asks for no more than an image in the store, by what the cache has."""
    unusual = request.no_cache or request.no_cache_filter or request.pull or request.outputs
    return not (unusual or request.cache_to) and request.dockerfile != "-" and not prepare.is_fetched(request)


def _try(request: BuildRequest, emit: Emit) -> BuildResult | None:
    begun = time.time()
    if not os.path.exists(os.path.join(request.root, "VERSION")):
        return None
    texts = prepare.read_texts(request)
    args = prepare.build_args(request, os.environ)
    store = open_store(request.root)
    with locks.shared(store.folder, locks.BUILDS), locks.shared(store.folder, locks.USES):
        layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs, any_way=True)
        cache = Cache(os.path.join(store.folder, "cache"), layers.exists)
        plan = memo.load_plan(cache, memo.name_of(request, texts, args))
        if plan is None or not _bases_are_as_they_were(request, store, plan):
            return None
        snapshot = _Lookup(request, texts, store, layers, cache, plan).target()
        if snapshot is None:
            return None
        name = memo.image_name(snapshot, plan.config, args.get(prepare.EPOCH, ""))
        image = memo.load_image(cache, name)
        if image is None or not _is_stored(store, image):
            return None
        references = _give_names(request, store, image)
    names = tuple(reference.familiar() for reference in references)
    result = BuildResult(
        image=Digest(image.row["digest"]),
        names=names,
        size=image.size,
        seconds=time.time() - begun,
        metadata=_metadata(image, references),
    )
    _tell(request, plan, result, emit, begun)
    return result


def _bases_are_as_they_were(request: BuildRequest, store: Store, plan: memo.Plan) -> bool:
    return all(
        state_of(store.folder, locator, platform, request.contexts) == state
        for locator, platform, state in plan.states
    )


def _is_stored(store: Store, image: memo.Finished) -> bool:
    """Whether the image is there, whole: its documents with their bytes, its layers with their sizes.

    Raises StoreError where a document is not, or is damaged.
    """
    blobs = store.blobs
    manifest = json.loads(blobs.read(Digest(image.row["digest"]), MAX_DOCUMENT))
    blobs.read(Digest(manifest["config"]["digest"]), MAX_DOCUMENT)
    return all(blobs.stat(Digest(layer["digest"])) == layer["size"] for layer in manifest["layers"])


def _give_names(request: BuildRequest, store: Store, image: memo.Finished) -> list[Reference]:
    from builder.oci.names import Names
    from builder.oci.reference import parse

    references = [parse(tag) for tag in request.tags]
    Names(store).add(image.row, references)
    return references


def _metadata(image: memo.Finished, references: list[Reference]) -> dict[str, object]:
    """What --metadata-file holds, with the names of this build and not of the one that made the image."""
    told = {key: value for key, value in image.metadata.items() if key != "image.name"}
    return {**told, "image.name": ",".join(map(str, references))} if references else told


class _Lookup:
    """Keys from the bottom up, and the record of the target."""

    def __init__(
        self,
        request: BuildRequest,
        texts: Texts,
        store: Store,
        layers: LayerStore,
        cache: Cache,
        plan: memo.Plan,
    ) -> None:
        self.request = request
        self.texts = texts
        self.store = store
        self.layers = layers
        self.cache = cache
        self.plan = plan
        self.contexts: dict[str, Context] = {}

    def target(self) -> Snapshot | None:
        """The target's snapshot; None where it must be made."""
        keys: list[Digest | None] = []
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
        record = self.cache.get(keys[-1]) if keys and keys[-1] else None
        if self.cache.aged:  # so that what this image was made of is not taken for what nobody needs
            self.cache.use(key for key in keys if key)
        return record.snapshot if record else None

    def _content(self, number: int, select: Selection, keys: list[Digest | None]) -> Digest | None:
        row, key = self.plan.rows[number], keys[number]
        if row.local:
            context = self._context(number)
            assert context.layer is not None
            return context.digest(self.layers.tree((context.layer,)), select)
        record = self.cache.get(key) if key else None
        return self.cache.known_content(record.snapshot, select) if record else None

    def _context(self, number: int) -> Context:
        from builder.contexts import open_context

        row = self.plan.rows[number]
        if row.local not in self.contexts:
            asked = [select for user in self.plan.rows for source, select in user.inputs if source == number]
            context = open_context(row.local, asked, self.request, self.store.folder, self.texts)
            context.read(self.layers)
            self.contexts[row.local] = context
        return self.contexts[row.local]


def _tell(request: BuildRequest, plan: memo.Plan, result: BuildResult, emit: Emit, begun: float) -> None:
    """The events of a build that found everything in the cache."""
    now = time.time()
    emit(
        BuildStarted(
            time=begun,
            name=", ".join(request.tags),
            dockerfile=request.dockerfile or "Dockerfile",
            context=request.context,
        )
    )
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
    emit(Planned(time=now, vertices=infos, target=plan.rows[-1].digest))
    for message, rule, line, excerpt in plan.warnings:
        emit(Warned(time=now, message=message, rule=rule, line=line, excerpt=excerpt))
    for row in plan.rows:
        if row.op is not None:
            emit(Cached(time=now, vertex=row.digest))
    steps = sum(row.op is not None and not row.internal for row in plan.rows)
    emit(
        BuildFinished(
            time=now,
            names=result.names,
            image=result.image or "",
            size=result.size,
            seconds=result.seconds,
            steps=steps,
            cached=steps,
        )
    )
