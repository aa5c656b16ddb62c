"""What one build works with: the store's parts, the contexts, the secrets, the runtime, the threads.

`open_parts` puts them together from a request and takes them apart when the build ends, however it ends.
Secrets' values are held here and nowhere else: they go to the runtime, and into no key, event or file.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec

from builder import stop
from builder.agents.agent import Agents
from builder.compiler.entitlements import device_grants
from builder.contexts import Context, open_context
from builder.devices.machine import MachineDevices
from builder.digest import Digest
from builder.errors import BuildError, UsageError, reason_of
from builder.events import Warned
from builder.graph.definition import Definition, Vertex
from builder.ops.exec import Exec
from builder.ops.files import Copy, MakeDir, Merge
from builder.ops.source import MAIN_CONTEXT, Local
from builder.request import StepLimits
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import Entry, LayerId, Snapshot
from builder.solver.cache import Cache
from builder.sources.shelf import Shelf
from builder.tidying import Tidying

if TYPE_CHECKING:
    from builder.cachemounts import Elsewhere
    from builder.compiler.program import Programs
    from builder.events import Emit
    from builder.failed import Failures
    from builder.graph.selection import Selection
    from builder.prepare import Texts
    from builder.request import BuildRequest, SecretSpec
    from builder.sandboxes import Sandboxes
    from builder.sources.image import ImageSource
    from builder.stepusage import Figures
    from builder.store.root import Store

P = ParamSpec("P")
T = TypeVar("T")
MAX_SECRET = 500 << 10  # bytes, as BuildKit has it
UNPACKERS = 4  # layers unpacked while they are downloaded, at a time


class Parts(msgspec.Struct):
    """The parts.

    context_layer: the build context, where it is no folder; unpack: vertices whose layers are best made as
    folders; epoch: SOURCE_DATE_EPOCH; latest: no file of a layer that is made is newer (both in seconds);
    tidying: who puts away what is done with; open_files: a step's limit (soft, hard), where it is not the
    builder's; failures: where a failed step is kept; limits: what each step may use; used: what steps have
    used, by their vertices; mounts_elsewhere: where cache mounts come from that the store lacks;
    unpackers: threads that wait for what is downloaded. fetched: what was found at the addresses of vertices:
    the digest of a file, the id of a commit. written: the times of heredocs, by their names and texts.
    """

    store: Store
    layers: LayerStore
    cache: Cache
    shelf: Shelf
    unpackers: ThreadPoolExecutor
    images: ImageSource
    contexts: Mapping[str, Context]
    context_layer: LayerId | None
    secrets: Mapping[str, bytes]
    agents: Agents
    devices: MachineDevices
    sandboxes: Sandboxes
    emit: Emit
    epoch: int | None
    unpack: frozenset[Digest]
    threads: ThreadPoolExecutor
    tidying: Tidying
    latest: int | None = None
    open_files: tuple[int, int] | None = None
    failures: Failures | None = None
    limits: StepLimits = msgspec.field(default_factory=StepLimits)
    used: dict[Digest, Figures] = msgspec.field(default_factory=dict)
    mounts_elsewhere: Elsewhere | None = None
    fetched: dict[Digest, str] = msgspec.field(default_factory=dict)
    written: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)

    async def thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the pool; cancelled, it is told to stop, and waited for."""
        return await stop.in_thread(self.threads, functools.partial(function, *args, **kwargs))

    def digest_of(self, layer: LayerId, entry: Entry) -> Digest:
        """The digest of a FILE's bytes: a context's through its stat cache, else as its layer has it."""
        context = self.context_of(layer)
        return context.digest_of(layer, entry) if context else self.layers.digest(layer, entry)

    async def digest_of_whole(self, vertex: Vertex, snapshot: Snapshot) -> Digest:
        """The digest of a snapshot, layer by layer, times and all: of what a step on it can tell apart."""
        from builder.snapshots import sameness

        return await self.thread(sameness.digest, self.layers, self.cache, snapshot)

    def context_of(self, layer: LayerId) -> Context | None:
        """The context that was read as this layer."""
        return next((c for c in self.contexts.values() if c.layer == layer), None)


@contextlib.asynccontextmanager
async def open_parts(
    request: BuildRequest,
    store: Store,
    texts: Texts,
    images: ImageSource,
    programs: Programs,
    sandboxes: Sandboxes,
    emit: Emit,
    seen: Mapping[str, Context] | None = None,
) -> AsyncIterator[Parts]:
    """The parts of one build. `seen`: contexts that were read just now.

    Raises BuildError for a context, ignore file or secret that is not there.
    """
    layers = LayerStore(Path(store.folder, "layers"), store.blobs)
    reached = programs.reached()
    contexts = {
        vertex.op.name: open_context(
            vertex.op.name, _asked_of(vertex, reached), request, store.folder, texts, seen
        )
        for vertex in reached
        if isinstance(vertex.op, Local) and not (vertex.op.name == MAIN_CONTEXT and texts.layer)
    }
    secrets = {spec.id: read_secret(spec) for spec in request.secrets}
    devices = MachineDevices(request.cdi_spec_dirs, device_grants(request.allow))
    check_devices(reached, devices, emit)
    unpackers = ThreadPoolExecutor(UNPACKERS, thread_name_prefix="unpack")
    cache = Cache(os.path.join(store.folder, "cache"), layers.exists)
    threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="work")
    tidying = Tidying()
    try:
        yield Parts(
            store=store,
            layers=layers,
            cache=cache,
            unpackers=unpackers,
            shelf=Shelf(store.folder, layers, cache, secrets.get, offline=request.offline),
            images=images,
            contexts=contexts,
            context_layer=texts.layer,
            secrets=secrets,
            agents=Agents(request.ssh),
            devices=devices,
            sandboxes=sandboxes,
            emit=emit,
            epoch=programs.source_date_epoch,
            unpack=wanted_as_folders(programs.definition, programs.targets),
            threads=threads,
            tidying=tidying,
            latest=programs.definition.latest,
            limits=request.limits,
        )
    finally:
        unpackers.shutdown(wait=True, cancel_futures=True)
        threads.shutdown(wait=True, cancel_futures=True)
        tidying.finish()
        for context in contexts.values():
            context.save()
        layers.close()
        await images.close()


def check_devices(reached: list[Vertex], devices: MachineDevices, emit: Emit) -> None:
    """Say which devices are not there that need not be. Raises BuildError for one that a step cannot have."""
    for vertex in reached:
        if isinstance(vertex.op, Exec) and vertex.op.devices:
            location = vertex.about.location
            try:
                told = devices.check(vertex.op.devices)
            except BuildError as error:
                raise error.at(location) from error
            for message in told:
                emit(Warned(time=time.time(), message=message, line=location.span.line if location else 0))


def wanted_as_folders(definition: Definition, targets: Sequence[Digest]) -> frozenset[Digest]:
    """The vertices whose result a later RUN mounts, so that their layers are best made as folders."""
    wanted: set[Digest] = set()
    for vertex in reversed(definition.reached(*targets)):
        if isinstance(vertex.op, Exec):
            wanted.update(item.of for item in vertex.inputs)
        elif vertex.digest in wanted and isinstance(vertex.op, Copy | MakeDir | Merge):
            wanted.update(item.of for item in vertex.inputs if item.select is None)
    return frozenset(wanted)


def read_secret(spec: SecretSpec) -> bytes:
    """A secret's value. Raises BuildError where its file or variable is not there, or is too large."""
    if spec.env is not None:
        if spec.env not in os.environ:
            raise UsageError(f"secret {spec.id}: the variable {spec.env} is not set")
        return os.environ[spec.env].encode("utf-8", "surrogateescape")
    assert spec.file is not None
    try:
        with open(spec.file, "rb") as file:
            value = file.read(MAX_SECRET + 1)
    except OSError as error:
        raise BuildError(
            f"secret {spec.id}: {spec.file} cannot be read: {reason_of(error)}", code="secret"
        ) from error
    if len(value) > MAX_SECRET:
        raise BuildError(f"secret {spec.id}: {spec.file} has more than {MAX_SECRET >> 10} KiB", code="secret")
    return value


def secrets_of(request: BuildRequest) -> Callable[[str], bytes | None]:
    """A request's secrets by their ids, each read when it is asked for. Raises as `read_secret`."""
    specs = {spec.id: spec for spec in request.secrets}
    return lambda name: read_secret(specs[name]) if name in specs else None


def _asked_of(source: Vertex, reached: list[Vertex]) -> list[Selection | None]:
    """What is selected from a vertex by those that use it; None for who takes it whole."""
    return [item.select for vertex in reached for item in vertex.inputs if item.of == source.digest]
