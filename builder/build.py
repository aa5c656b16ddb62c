"""One build, from request to image: the one module that knows everyone.

It reads like the story: texts are read and parsed; the compiler says which base images it must know and is
given them, until it returns a program, one for each platform; the solver is asked for their targets; the
layers become images; the exporters hand them out. Everything a person could want to know goes out as events,
and the same events are recorded under ROOT/builds.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from builder import memo, prepare
from builder.aftermath import Aftermath, followed_up
from builder.compiler.remotes import redact
from builder.delivery import Delivered, metadata, referred, wanted
from builder.errors import BuildError
from builder.events import BuildFailed, BuildFinished, BuildStarted, Emit, Planned, VertexInfo, Warned
from builder.failed import Failures
from builder.isolation.stepgroups import StepGroups, sweep_groups
from builder.keyparts.notes import Notes
from builder.limits import raised_open_files, steps_at_once
from builder.ops.exec import CacheMount, Exec
from builder.ops.source import Local
from builder.output import Built, built_name, deliver, makers
from builder.packing import Packing
from builder.parts import open_parts
from builder.programs import kept_analyses, open_attempts, open_images, read_texts, recall, remember
from builder.record import recorded
from builder.result import BuildResult
from builder.room.closing import make_room
from builder.sandboxes import Sandboxes, is_likely
from builder.slips import slip_of
from builder.solver.solver import Solver
from builder.stepusage import with_figures
from builder.store import locks
from builder.store.failure import unexplained
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased
from builder.store.root import open_store
from builder.undumped import without_dumps
from builder.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.aftermath import Entrance
    from builder.attempt import Attempts
    from builder.attest.maker import Attesting
    from builder.compiler.program import BaseImage, ImageRequest, Programs, Warning
    from builder.graph.definition import Vertex
    from builder.outset import Outset
    from builder.parts import Parts
    from builder.snapshots.snapshot import Snapshot

    Bases = dict[ImageRequest, BaseImage]
    from builder.limits import Limit
    from builder.prepare import Texts
    from builder.remotecache.caches import Caches
    from builder.request import BuildRequest
    from builder.sources.image import ImageSource
    from builder.store.root import Store


async def build(
    request: BuildRequest,
    emit: Emit,
    outset: Outset | None = None,
    entrance: Entrance | None = None,
) -> BuildResult:
    """Do what the request asks for, with the rights of `outset` (None: those of this process as it is).

    entrance: for who wants to go where a step has failed. Raises BuildError; cancelled, it leaves nothing
    half-made.
    """
    begun = time.time()
    store = open_store(request.root)
    with locks.shared(store.folder, locks.BUILDS), leased(store), recorded(store, request, emit) as say:
        say(
            BuildStarted(
                time=begun,
                name=", ".join(request.tags),
                dockerfile=redact(request.dockerfile or "Dockerfile"),
                context=redact(request.context),
            )
        )
        if slip := slip_of(os.environ, kept_analyses(store)):
            say(Warned(time=time.time(), message=slip))
        ending = _Ending(say, begun)
        failures = Failures(store, say.folder, request) if say.folder else None

        def tell(error: BuildError) -> None:
            ending.say_failed(error.message, error.code)

        aftermath = Aftermath(failures, entrance, tell, request.root_flag)
        try:
            secret = bool(request.secrets or request.ssh)
            with without_dumps(secret), raised_open_files() as before:
                notes = Notes(request, begun, say.folder)
                result = await _build(request, store, say, begun, outset, before, aftermath, notes)
                return referred(result, say.folder)
        except BuildError as error:
            tell(error)
            raise
        except OSError as error:
            told = unexplained(error, store.folder)
            tell(told)
            raise told from error
        except asyncio.CancelledError:
            ending.say_failed("interrupted", "interrupted")
            raise


async def _build(
    request: BuildRequest,
    store: Store,
    emit: Emit,
    begun: float,
    outset: Outset | None,
    open_files: Limit | None,
    aftermath: Aftermath,
    notes: Notes,
) -> BuildResult:
    exports = wanted(request)
    sweep_ingest(store.folder)
    sweep_groups(store.folder)
    texts = await read_texts(request, store)
    images = open_images(request, store)
    sandboxes = _sandboxes(request, store, texts, emit, outset)
    seen = outset.contexts if outset else None
    try:
        programs, attempts = await _compile(request, store, texts, images, emit)
        _announce(programs, emit)
        async with (
            open_parts(request, store, texts, images, programs, sandboxes, emit, seen) as parts,
            _caches_elsewhere(request, parts) as caches,
        ):
            parts.open_files = open_files
            attesting = _attesting(request, texts, attempts.known if attempts else {}, notes, parts)
            packing = Packing(programs.definition, programs.targets, makers(exports, programs, parts))
            solver = _solver(request, programs, parts, notes, caches, packing)
            async with packing:
                try:
                    async with followed_up(parts, aftermath):
                        snapshots = await solver.solve_all(programs.targets)
                finally:
                    notes.keep(store.folder, texts, programs, solver)
                await packing.settle()
                built = [Built(*row) for row in zip(programs.each, snapshots, request.platforms, strict=True)]
                inline = await caches.settle(programs, solver, snapshots) if caches else None
                delivered = await deliver(exports, built, parts, inline, attesting)
            if delivered.stored and (solver.ran or solver.written):
                await _promote(solver, parts)
            if inline is None:
                loose = attempts.loose if attempts else None
                _memoise(request, texts, programs, loose, built, delivered, parts)
            if caches:
                await caches.give(has_image=bool(delivered.made))
            await _make_room(solver, parts)
    finally:
        await images.close()
        await sandboxes.close()
    return _finish(programs, solver, delivered, emit, begun)


def _sandboxes(
    request: BuildRequest, store: Store, texts: Texts, emit: Emit, outset: Outset | None
) -> Sandboxes:
    """What runs steps, begun where some are likely to come."""
    sandboxes = Sandboxes(
        emit,
        outset.standing if outset else None,
        full=request.require_isolation == "full",
        network=request.network,
        helper=request.network_helper,
        groups=StepGroups(store.folder, request.limits),
        runtime=request.runtime,
        zygote=outset.zygote if outset else None,
    )
    if is_likely(texts.dockerfile):
        sandboxes.expect()
    return sandboxes


async def _compile(
    request: BuildRequest, store: Store, texts: Texts, images: ImageSource, emit: Emit
) -> tuple[Programs, Attempts | None]:
    """The programs, and what they were compiled by (None: they are as remembered); where there are no
    programs, what checks found is told all the same."""
    if (remembered := recall(request, store, texts)) is not None:
        return remembered, None
    attempts = open_attempts(request, store, texts)
    try:
        programs = await attempts.compile(images)
        attempts.refuse(programs.warnings)
    except BuildError:
        _warn(attempts.findings(), emit)
        raise
    return programs, attempts


def _caches_elsewhere(request: BuildRequest, parts: Parts) -> AbstractAsyncContextManager[Caches | None]:
    """The caches that the request names, where it names any."""
    if not (request.cache_from or request.cache_to):
        return nullcontext()
    from builder.remotecache.caches import open_caches

    return open_caches(request, parts)


def _attesting(
    request: BuildRequest, texts: Texts, bases: Bases, notes: Notes, parts: Parts
) -> Attesting | None:
    """What makes the attestations and signatures that are asked for. Raises BuildError for a bad key."""
    if not (request.attests.is_any or request.sign):
        return None
    from builder.attest.maker import open_attesting

    return open_attesting(request, texts, bases, os.path.basename(notes.record), notes.begun, parts)


def _solver(
    request: BuildRequest,
    programs: Programs,
    parts: Parts,
    notes: Notes,
    caches: Caches | None,
    packing: Packing,
) -> Solver:
    taking = caches.taking if caches and request.cache_from else None

    async def run(vertex: Vertex, inputs: Sequence[Snapshot]) -> Snapshot:
        made: Snapshot = await vertex.op.run(Worker(parts, vertex), inputs)
        packing.begin(vertex, made)
        return made

    return Solver(
        programs.definition,
        parts.cache,
        run=run,
        content=lambda vertex, *asked: notes.content(Worker(parts, vertex).content, *asked),
        emit=lambda event: parts.emit(with_figures(notes.take(event), parts.used)),
        slots=_slots(request, programs),
        elsewhere=taking.record if taking else None,
        told=taking.selected if taking else None,
        whole=parts.digest_of_whole if request.reproducible else None,
    )


def _slots(request: BuildRequest, programs: Programs) -> int:
    """How many steps may run at the same time."""
    runs = [vertex.op for vertex in programs.reached() if isinstance(vertex.op, Exec)]
    caches = max((sum(isinstance(mount, CacheMount) for mount in op.mounts) for op in runs), default=0)
    wanted = request.jobs or max(16, 4 * (os.cpu_count() or 1))
    return steps_at_once(wanted, waiting=len(runs), caches=caches)


def _announce(programs: Programs, emit: Emit) -> None:
    rows = tuple(
        VertexInfo(
            digest=vertex.digest,
            label=vertex.about.label,
            stage=vertex.about.stage,
            line=vertex.about.location.span.line if vertex.about.location else 0,
            inputs=tuple(item.of for item in vertex.inputs),
        )
        for vertex in programs.reached()
    )
    emit(Planned(time=time.time(), vertices=rows, target=programs.targets[-1]))
    _warn(programs.warnings, emit)


def _warn(findings: tuple[Warning, ...], emit: Emit) -> None:
    for found in findings:
        emit(
            Warned(
                time=time.time(),
                message=found.message,
                rule=found.rule,
                line=found.span.line,
                excerpt=found.excerpt,
            )
        )


async def _promote(solver: Solver, parts: Parts) -> None:
    """Put a barrier behind what this build made, so that it outlives a power cut; then say so."""
    lent = {context.layer for context in parts.contexts.values()}
    made = (*solver.ran.values(), *solver.written.values())
    layers = {layer for snapshot in made for layer in snapshot if layer not in lent}

    def work() -> None:
        parts.layers.barrier(layers)
        for key in (*parts.shelf.kept, *solver.written):
            parts.cache.promote(key)

    await parts.thread(work)


async def _make_room(solver: Solver, parts: Parts) -> None:
    """Note what was of use, and make room if there is too much."""
    if parts.cache.aged:
        keys = [task.result() for task in solver.keys.values() if task.done() and not task.cancelled()]
        await parts.thread(parts.cache.use, [key for key in keys if key is not None])
    await make_room(parts.store, parts.thread, parts.emit)


def _memoise(
    request: BuildRequest,
    texts: Texts,
    programs: Programs,
    bases: Bases | None,
    built: Sequence[Built],
    delivered: Delivered,
    parts: Parts,
) -> None:
    """Remember the compile, unless it is remembered, and the images: for a build that finds nothing changed
    (see `warm`), or only files."""
    configs = [built_name(program) for program in programs.each]
    if bases is not None:
        states = memo.states_of(parts.store.folder, bases, request.contexts)
        fetched = any(program.epoch_fetched for program in programs.each)
        if states is None or texts.layer is not None or fetched or _has_unknown(programs):
            return
        remember(request, texts, programs, memo.plan_of(programs, states, configs), parts.cache)
    args = prepare.build_args(request, os.environ)
    with_cache = any(wanted.type == "inline" for wanted in request.cache_to)  # not what others ask for
    of_this_build = with_cache or request.attests.is_any or bool(request.sign)
    snapshots = [each.snapshot for each in built]
    for way, image in delivered.made.items() if not of_this_build else ():
        name = memo.image_name(snapshots, configs, args.get(prepare.EPOCH, ""), way)
        memo.save_image(parts.cache, name, image)


def _has_unknown(programs: Programs) -> bool:
    """Whether something is fetched that nobody knows before it is asked for, or a device is to be there."""
    return any(
        (vertex.op_digest is None and not isinstance(vertex.op, Local)) or getattr(vertex.op, "devices", ())
        for vertex in programs.reached()
    )


def _finish(
    programs: Programs, solver: Solver, delivered: Delivered, emit: Emit, begun: float
) -> BuildResult:
    steps = [
        vertex for vertex in programs.reached() if vertex.op_digest is not None and not vertex.about.internal
    ]
    image = delivered.image
    now = time.time()
    result = BuildResult(
        image=image.digest if image else None,
        names=delivered.names,
        size=image.size if image else 0,
        seconds=now - begun,
        metadata=metadata(delivered),
    )
    emit(
        BuildFinished(
            time=now,
            names=result.names,
            image=result.image or "",
            size=result.size,
            seconds=result.seconds,
            steps=len(steps),
            cached=sum(vertex.digest not in solver.ran for vertex in steps),
            images=tuple(delivered.images),
        )
    )
    return result


class _Ending:
    """The bad end of a build, which is told once: where somebody looks around afterwards, before that."""

    def __init__(self, emit: Emit, begun: float) -> None:
        self._emit = emit
        self._begun = begun
        self._told = False

    def say_failed(self, error: str, code: str) -> None:
        """Tell it, unless it was told."""
        if not self._told:
            self._told = True
            now = time.time()
            self._emit(BuildFailed(time=now, error=error, code=code, seconds=now - self._begun))
