"""From a request to its programs: texts read, what each platform asks of the compiler, bases resolved.

What a build, a plan, a graph and a check have in common before anything runs. A build asks first for what is
remembered (`recall`), and then neither parser nor compiler nor checks are loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder import compiled, loops, memo, prepare
from builder.compiler.lock import LockFile
from builder.compiler.program import CompileOptions, NamedContext
from builder.compiler.remotes import is_remote
from builder.digest import Digest
from builder.oci.layout import parse_layout_name
from builder.oci.spec import Platform
from builder.ops.source import Image
from builder.parts import secrets_of
from builder.solver.cache import Cache
from builder.sources.image import ImageSource
from builder.sources.known import state_of
from builder.store.root import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from builder.attempt import Attempts
    from builder.compiler.program import Programs
    from builder.ops.source import Git, Http
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.store.root import Store


def load_programs(request: BuildRequest) -> Programs:
    """The compiled definition of what the request would build; nothing runs. Raises BuildError."""
    store = open_store(request.root)
    attempts = open_attempts(request, store, load_texts(request))
    return loops.run(attempts.compile(open_images(request, store)))


def open_attempts(request: BuildRequest, store: Store, texts: Texts) -> Attempts:
    """The request's Dockerfile, to be compiled for each of its platforms. Raises UsageError."""
    from builder.attempt import Attempts

    options = all_options(request)
    return Attempts(texts, options, kept_analyses(store), time_of=times_of(request, store))


def recall(request: BuildRequest, store: Store, texts: Texts) -> Programs | None:
    """What an earlier compile of the very same gave, its warnings included; None where it has to be done.

    The bases are what they were, and their manifests are in the store, as after a compile.
    """
    if not _is_repeatable(request, texts):
        return None
    cache = kept_analyses(store)
    given = memo.name_of(request, texts, prepare.build_args(request, os.environ))
    plan = memo.load_plan(cache, given)
    if plan is None or any(
        state_of(store.folder, locator, platform, request.contexts) != state
        for locator, platform, state in plan.states
    ):
        return None
    programs = compiled.load(cache, compiled.name_of(given, plan.states), texts)
    images = (vertex.op for vertex in programs.definition if isinstance(vertex.op, Image)) if programs else ()
    whole = all(store.blobs.stat(Digest(image.digest)) is not None for image in images)
    return programs if whole else None


def remember(request: BuildRequest, texts: Texts, programs: Programs, plan: memo.Plan, cache: Cache) -> None:
    """Remember a compile: its plan (see `warm`), and its programs, as far as they may be kept."""
    args = prepare.build_args(request, os.environ)
    given = memo.name_of(request, texts, args)
    memo.save_plan(cache, given, plan)
    contexts = dict(request.contexts)
    if _is_repeatable(request, texts) and compiled.may_be_kept(programs, args, contexts):
        compiled.save(cache, compiled.name_of(given, plan.states), texts, programs)


def _is_repeatable(request: BuildRequest, texts: Texts) -> bool:
    """Whether the name of a plan covers all that a compile of this request depends on, and nothing else is
    wanted of it: attestations tell of the bases."""
    unusual = request.no_cache or request.no_cache_filter or request.pull or request.dockerfile == "-"
    attested = request.attests.is_any or request.sign
    return not unusual and not attested and texts.layer is None and not prepare.is_fetched(request)


def load_texts(request: BuildRequest) -> Texts:
    """What is read before a compile; what is remote is fetched. Raises BuildError."""
    return loops.run(read_texts(request, open_store(request.root)))


async def read_texts(request: BuildRequest, store: Store) -> Texts:
    """The same, for who waits for it in a running loop."""
    if not prepare.is_fetched(request):
        return prepare.read_texts(request)
    from builder import remote

    return await remote.read_texts(request, store, secrets_of(request))


def kept_analyses(store: Store) -> Cache:
    """Where the grammar's analysis is kept."""
    return Cache(os.path.join(store.folder, "cache"), lambda _snapshot: False)


def times_of(request: BuildRequest, store: Store) -> Callable[[Git | Http], Awaitable[int | None]]:
    """What gives the time, in seconds, of what is at an address."""

    async def time_of(source: Git | Http) -> int | None:
        from builder import remote
        from builder.agents.agent import Agents

        agents = Agents(request.ssh)
        return await remote.time_of(source, store, secrets_of(request), agents, offline=request.offline)

    return time_of


def all_options(request: BuildRequest) -> list[CompileOptions]:
    """What the compiler is told of a request, for each of its platforms. Raises UsageError."""
    return [_options(request, platform) for platform in request.platforms]


def compile_options(request: BuildRequest) -> CompileOptions:
    """The same for its first platform, where one is enough."""
    return _options(request, request.platforms[0])


def _options(request: BuildRequest, platform: str) -> CompileOptions:
    architecture, variant = prepare.machine_platform()
    system, target_architecture, target_variant = prepare.parse_platform(platform)
    return CompileOptions(
        build_platform=Platform(architecture, "linux", variant),
        platform=Platform(target_architecture, system, target_variant),
        target=request.target,
        build_args=prepare.build_args(request, os.environ),
        labels=dict(request.labels),
        contexts={name: _named_context(value) for name, value in request.contexts.items()},
        no_cache=request.no_cache,
        no_cache_filter=request.no_cache_filter,
        network=request.network,
        add_hosts=tuple(request.add_hosts),
        shm_size=request.shm_size,
        ulimits=request.ulimits,
        entitlements=frozenset(request.allow),
        hostname=request.hostname,
        platform_given=bool(platform),
        several_platforms=request.multi_platform,
        reproducible=request.reproducible,
        lock_file=LockFile(required=request.locked),
    )


def _named_context(value: str) -> NamedContext:
    if value.startswith("docker-image://"):
        return NamedContext("image", value.removeprefix("docker-image://"))
    if value.startswith("oci-layout://"):
        return NamedContext("layout", value)
    return NamedContext("remote" if is_remote(value) else "local", value)


def open_images(request: BuildRequest, store: Store, *, anew: bool = False) -> ImageSource:
    """Where the request's base images come from; anew: see ImageSource.

    Raises BuildError for a named context that is no layout.
    """
    layouts = {
        name: parse_layout_name(value)
        for name, value in request.contexts.items()
        if value.startswith("oci-layout://")
    }
    return ImageSource(store, layouts, pull=request.pull, anew=anew, offline=request.offline)
