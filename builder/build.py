"""One build, from request to image: the one module that knows everyone.

It reads like the story: texts are read and parsed; the compiler says which base images it must know and is
given them, until it returns a program; the solver is asked for the target; the layers become an image;
the exporters hand it out. Everything a person could want to know goes out as events, and the same events
are recorded under ROOT/builds.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from builder import digest as digests
from builder import memo, prepare
from builder.aftermath import Aftermath, followed_up
from builder.attempt import Attempt
from builder.compiler.remotes import redact
from builder.delivery import Delivered, metadata, wanted
from builder.errors import BuildError
from builder.events import BuildFailed, BuildFinished, BuildStarted, Emit, Planned, VertexInfo, Warned
from builder.failed import Failures
from builder.isolation.stepgroups import StepGroups, sweep_groups
from builder.keyparts.notes import Notes
from builder.limits import raised_open_files, steps_at_once
from builder.oci.layout import parse_layout_name
from builder.oci.spec import Platform
from builder.ops.exec import CacheMount, Exec
from builder.ops.source import Local
from builder.output import Built, config_name, deliver, makers
from builder.packing import Packing
from builder.parts import open_parts, secrets_of
from builder.record import recorded
from builder.result import BuildResult
from builder.room.closing import make_room
from builder.sandboxes import Sandboxes, is_likely
from builder.solver.cache import Cache
from builder.solver.solver import Solver
from builder.sources.image import ImageSource
from builder.stepusage import with_figures
from builder.store import locks
from builder.store.failure import unexplained
from builder.store.ingest import sweep_ingest
from builder.store.leases import leased
from builder.store.root import open_store
from builder.undumped import without_dumps
from builder.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from builder.aftermath import Entrance
    from builder.compiler.program import BaseImage, CompileOptions, ImageRequest, Program, Warning
    from builder.graph.definition import Vertex
    from builder.ops.source import Git, Http
    from builder.outset import Outset
    from builder.parts import Parts
    from builder.snapshots.snapshot import Snapshot

    Bases = dict[ImageRequest, BaseImage]
    from builder.limits import Limit
    from builder.prepare import Texts
    from builder.remotecache.caches import Caches
    from builder.request import BuildRequest
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
        ending = _Ending(say, begun)
        failures = Failures(store, say.folder, request) if say.folder else None

        def tell(error: BuildError) -> None:
            ending.say_failed(error.message, error.code)

        aftermath = Aftermath(failures, entrance, tell, request.root_flag)
        try:
            secret = bool(request.secrets or request.ssh)
            with without_dumps(secret), raised_open_files() as before:
                notes = Notes(request, begun, say.folder)
                return await _build(request, store, say, begun, outset, before, aftermath, notes)
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


def load_program(request: BuildRequest) -> Program:
    """The compiled definition of what the request would build; nothing runs. Raises BuildError."""
    store = open_store(request.root)
    options, times = compile_options(request), times_of(request, store)
    attempt = Attempt(load_texts(request), options, kept_analyses(store), time_of=times)
    return asyncio.run(attempt.compile(open_images(request, store)))


def load_texts(request: BuildRequest) -> Texts:
    """What is read before a compile; what is remote is fetched. Raises BuildError."""
    return asyncio.run(_read_texts(request, open_store(request.root)))


async def _read_texts(request: BuildRequest, store: Store) -> Texts:
    if not prepare.is_fetched(request):
        return prepare.read_texts(request)
    from builder import remote

    return await remote.read_texts(request, store, secrets_of(request))


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
    texts = await _read_texts(request, store)
    images = open_images(request, store)
    full = request.require_isolation == "full"
    groups = StepGroups(store.folder, request.limits)
    sandboxes = Sandboxes(
        emit,
        outset.standing if outset else None,
        full=full,
        network=request.network,
        helper=request.network_helper,
        groups=groups,
        runtime=request.runtime,
        zygote=outset.zygote if outset else None,
    )
    if is_likely(texts.dockerfile):
        sandboxes.expect()
    seen = outset.contexts if outset else None
    try:
        program, bases = await _compile(request, store, texts, images, emit)
        _announce(program, emit)
        async with (
            open_parts(request, store, texts, images, program, sandboxes, emit, seen) as parts,
            _caches_elsewhere(request, parts) as caches,
        ):
            parts.open_files = open_files
            packing = Packing(program.definition, program.target, makers(exports, program, parts))
            solver = _solver(request, program, parts, notes, caches, packing)
            async with packing:
                try:
                    async with followed_up(parts, aftermath):
                        snapshot = await solver.solve(program.target)
                finally:
                    notes.keep(store.folder, texts, program.definition, program.target, solver)
                await packing.settle()
                inline = await caches.settle(program, solver, snapshot) if caches else None
                delivered = await deliver(exports, [Built(program, snapshot)], parts, inline)
            if delivered.stored and (solver.ran or solver.written):
                await _promote(solver, parts)
            if inline is None:
                _memoise(request, texts, program, bases, snapshot, delivered, parts)
            if caches:
                await caches.give(has_image=bool(delivered.made))
            await _make_room(solver, parts)
    finally:
        await images.close()
        await sandboxes.close()
    return _finish(program, solver, delivered, emit, begun)


async def _compile(
    request: BuildRequest, store: Store, texts: Texts, images: ImageSource, emit: Emit
) -> tuple[Program, Bases]:
    """The program and its bases; where there is none, what checks found is told all the same."""
    times = times_of(request, store)
    attempt = Attempt(texts, compile_options(request), kept_analyses(store), time_of=times)
    try:
        program = await attempt.compile(images)
        attempt.refuse(program.warnings)
    except BuildError:
        _warn(attempt.findings(), emit)
        raise
    return program, attempt.known


def kept_analyses(store: Store) -> Cache:
    """Where the grammar's analysis is kept."""
    return Cache(os.path.join(store.folder, "cache"), lambda _snapshot: False)


def times_of(request: BuildRequest, store: Store) -> Callable[[Git | Http], Awaitable[int | None]]:
    """What gives the time, in seconds, of what is at an address."""

    async def time_of(source: Git | Http) -> int | None:
        from builder import remote
        from builder.agents.agent import Agents

        return await remote.time_of(source, store, secrets_of(request), Agents(request.ssh))

    return time_of


def compile_options(request: BuildRequest) -> CompileOptions:
    """What the compiler is told of a request. Raises UsageError."""
    from builder.compiler.program import CompileOptions, NamedContext
    from builder.compiler.remotes import is_remote

    architecture, variant = prepare.machine_platform()
    system, target_architecture, target_variant = prepare.parse_platform(request.platform)
    contexts = {}
    for name, value in request.contexts.items():
        if value.startswith("docker-image://"):
            contexts[name] = NamedContext("image", value.removeprefix("docker-image://"))
        elif value.startswith("oci-layout://"):
            contexts[name] = NamedContext("layout", value)
        elif is_remote(value):
            contexts[name] = NamedContext("remote", value)
        else:
            contexts[name] = NamedContext("local", value)
    return CompileOptions(
        build_platform=Platform(architecture, "linux", variant),
        platform=Platform(target_architecture, system, target_variant),
        target=request.target,
        build_args=prepare.build_args(request, os.environ),
        labels=dict(request.labels),
        contexts=contexts,
        no_cache=request.no_cache,
        no_cache_filter=request.no_cache_filter,
        network=request.network,
        add_hosts=tuple(request.add_hosts),
        shm_size=request.shm_size,
        ulimits=request.ulimits,
        entitlements=frozenset(request.allow),
        hostname=request.hostname,
        platform_given=bool(request.platform),
        reproducible=request.reproducible,
    )


def open_images(request: BuildRequest, store: Store) -> ImageSource:
    """Where the request's base images come from. Raises BuildError for a named context that is no layout."""
    layouts = {
        name: parse_layout_name(value)
        for name, value in request.contexts.items()
        if value.startswith("oci-layout://")
    }
    return ImageSource(store, layouts, pull=request.pull)


def _caches_elsewhere(request: BuildRequest, parts: Parts) -> AbstractAsyncContextManager[Caches | None]:
    """The caches that the request names, where it names any."""
    if not (request.cache_from or request.cache_to):
        return nullcontext()
    from builder.remotecache.caches import open_caches

    return open_caches(request, parts)


def _solver(
    request: BuildRequest,
    program: Program,
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
        program.definition,
        parts.cache,
        run=run,
        content=lambda vertex, *asked: notes.content(Worker(parts, vertex).content, *asked),
        emit=lambda event: parts.emit(with_figures(notes.take(event), parts.used)),
        slots=_slots(request, program),
        elsewhere=taking.record if taking else None,
        told=taking.selected if taking else None,
        whole=parts.digest_of_whole if request.reproducible else None,
    )


def _slots(request: BuildRequest, program: Program) -> int:
    """How many steps may run at the same time."""
    reached = program.definition.reached(program.target)
    runs = [vertex.op for vertex in reached if isinstance(vertex.op, Exec)]
    caches = max((sum(isinstance(mount, CacheMount) for mount in op.mounts) for op in runs), default=0)
    wanted = request.jobs or max(16, 4 * (os.cpu_count() or 1))
    return steps_at_once(wanted, waiting=len(runs), caches=caches)


def _announce(program: Program, emit: Emit) -> None:
    reached = program.definition.reached(program.target)
    rows = tuple(
        VertexInfo(
            digest=vertex.digest,
            label=vertex.about.label,
            stage=vertex.about.stage,
            line=vertex.about.location.span.line if vertex.about.location else 0,
            inputs=tuple(item.of for item in vertex.inputs),
        )
        for vertex in reached
    )
    emit(Planned(time=time.time(), vertices=rows, target=program.target))
    _warn(program.warnings, emit)


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
    program: Program,
    bases: Bases,
    snapshot: Snapshot,
    delivered: Delivered,
    parts: Parts,
) -> None:
    """Remember the compile and the images, for a build that finds nothing changed (see `warm`)."""
    states = memo.states_of(parts.store.folder, bases, request.contexts)
    unsure = texts.layer is not None or program.epoch_fetched or _has_unknown(program)
    if states is None or unsure:
        return
    config = digests.of_value([config_name(program), program.source_date_epoch])
    args = prepare.build_args(request, os.environ)
    memo.save_plan(parts.cache, memo.name_of(request, texts, args), memo.plan_of(program, states, config))
    with_cache = any(wanted.type == "inline" for wanted in request.cache_to)  # not what others ask for
    for way, image in delivered.made.items() if not with_cache else ():
        name = memo.image_name(snapshot, config, args.get(prepare.EPOCH, ""), way)
        memo.save_image(parts.cache, name, image)


def _has_unknown(program: Program) -> bool:
    """Whether something is fetched that nobody knows before it is asked for, or a device is to be there."""
    return any(
        (vertex.op_digest is None and not isinstance(vertex.op, Local)) or getattr(vertex.op, "devices", ())
        for vertex in program.definition.reached(program.target)
    )


def _finish(program: Program, solver: Solver, delivered: Delivered, emit: Emit, begun: float) -> BuildResult:
    steps = [
        vertex
        for vertex in program.definition.reached(program.target)
        if vertex.op_digest is not None and not vertex.about.internal
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
