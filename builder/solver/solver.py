"""The solver: decides when and whether a vertex runs.

The whole idea: a vertex's key is asked for before its result, and a result that is in the cache is
taken before any input is. So of an unchanged build nothing runs and nothing is read but what keys are
made of. A task per vertex and question ("which key?", "which result?"), awaited by all who ask, is all
the state there is: equal vertices run once, independent ones at the same time, and the first failure
cancels the rest. Who has to wait for content that is being made has the rest of what it stands on made
meanwhile.

A vertex that must run whatever the cache says (`no_cache`) makes those built on it run too: their keys
are the same, but the records under them stand on the old result. Who only selects content from it is
spared when the content is the same.

It never knows: Dockerfiles, filesystems, images. Results are opaque.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

from builder.digest import Digest
from builder.errors import BuildError
from builder.events import Cached, Emit, Failed, Finished, Started, Waiting
from builder.graph.definition import Definition, Vertex
from builder.graph.selection import Selection
from builder.snapshots.snapshot import Snapshot
from builder.solver.cache import Cache, Claim, Record
from builder.solver.keys import combine

CLAIM_POLL_SECONDS = 0.05

Run = Callable[[Vertex, Sequence[Snapshot]], Awaitable[Snapshot]]
Content = Callable[[Vertex, Snapshot, Selection], Awaitable[Digest]]


class Solver:
    """One solve of one definition.

    `run` does a vertex's op; `content` gives the digest of what a vertex selects from an input's
    result; `slots` limits the ops that say they are `limited`.
    """

    def __init__(
        self, definition: Definition, cache: Cache, run: Run, content: Content, emit: Emit, slots: int
    ) -> None:
        self.definition = definition
        self.cache = cache
        self.run = run
        self.content = content
        self.emit = emit
        self.slots = asyncio.Semaphore(slots)
        self.keys: dict[Digest, asyncio.Task[Digest | None]] = {}
        self.results: dict[Digest, asyncio.Task[Snapshot]] = {}
        self.made: dict[Digest, asyncio.Future[Snapshot]] = {}
        self.ran: set[Digest] = set()
        self.settled: set[Digest] = set()
        self.forced = _forced(definition)
        self.users = _users(definition)
        self.late: set[Digest] = set()

    async def solve(self, target: Digest) -> Snapshot:
        """The target's result. Raises the first BuildError of any vertex, the rest being cancelled."""
        try:
            async with asyncio.TaskGroup() as self.group:
                result = await self._result(target)
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return result

    async def key_of(self, digest: Digest) -> Digest | None:
        """The key of a vertex that was solved."""
        task = self.keys.get(digest)
        return await task if task else None

    def _key(self, digest: Digest) -> asyncio.Task[Digest | None]:
        if digest not in self.keys:
            self.keys[digest] = self.group.create_task(self._find_key(self.definition[digest]))
        return self.keys[digest]

    def _result(self, digest: Digest) -> asyncio.Task[Snapshot]:
        if digest not in self.results:
            self.results[digest] = self.group.create_task(self._settle(self.definition[digest]))
        return self.results[digest]

    async def _find_key(self, vertex: Vertex) -> Digest | None:
        if vertex.op_digest is None:
            return None
        if vertex.digest in self.late:
            self._get_ready(vertex)
        # Ask for everything first, so that what can go on at the same time does.
        asked: list[Awaitable[Digest | None]] = []
        for item in vertex.inputs:
            if item.select is None:
                asked.append(self._key(item.of))
            else:
                asked.append(self.group.create_task(self._content(vertex, item.of, item.select)))
        return combine(vertex.op_digest, [await part for part in asked])

    async def _content(self, vertex: Vertex, source: Digest, select: Selection) -> Digest:
        snapshot = await self._result(source)
        with placed(vertex):
            return await self.content(vertex, snapshot, select)

    async def _settle(self, vertex: Vertex) -> Snapshot:
        key = await self._key(vertex.digest)
        forced = vertex.digest in self.forced
        if key is None:
            if vertex.op_digest is not None:
                self._tell_users(vertex)
            return await self._make(vertex, None)
        if not forced and (record := self.cache.get(key)):
            return self._hit(vertex, record)
        self._tell_users(vertex)
        if (other := self.made.get(key)) is not None:  # a vertex of another digest, and the same key
            result = await asyncio.shield(other)
            self._say_cached(vertex)
            return result
        future = self.made[key] = asyncio.get_running_loop().create_future()
        try:
            result = await self._make_claimed(vertex, key, forced=forced)
        except BaseException as error:
            if isinstance(error, BuildError):
                future.set_exception(error)
                future.exception()  # somebody may wait for it or not
            else:
                future.cancel()
            raise
        future.set_result(result)
        return result

    def _tell_users(self, vertex: Vertex) -> None:
        """This vertex has to be made: those that wait for its content get ready what else they stand on.

        While nothing has to be made they do not, as their keys may well be in the cache.
        """
        todo = [vertex.digest]
        while todo:
            for user in self.users[todo.pop()]:
                if user.digest not in self.late:
                    self.late.add(user.digest)
                    todo.append(user.digest)
                    if user.digest in self.keys:
                        self._get_ready(user)

    def _get_ready(self, vertex: Vertex) -> None:
        if any(item.select is not None for item in vertex.inputs):
            for item in vertex.inputs:
                if item.select is None:
                    self._result(item.of)

    async def _make_claimed(self, vertex: Vertex, key: Digest, *, forced: bool) -> Snapshot:
        """Make a result under the claim on its key, or take what another process made meanwhile."""
        if forced:
            return await self._make(vertex, key)
        inputs = await self._inputs(vertex)
        async with self._claim(vertex, key):
            # Another process may have made it since we looked: under the claim nobody else does.
            if (record := self.cache.get(key)) is not None:
                return self._hit(vertex, record)
            return await self._make(vertex, key, inputs)

    @contextlib.asynccontextmanager
    async def _claim(self, vertex: Vertex, key: Digest) -> AsyncIterator[None]:
        """Hold the claim on `key`, once no other process has it."""
        claim: Claim | None = self.cache.claim(key)
        if claim is None:
            self.emit(Waiting(time=time.time(), vertex=vertex.digest))
        while claim is None:
            await asyncio.sleep(CLAIM_POLL_SECONDS)
            claim = self.cache.claim(key)
        try:
            yield
        finally:
            claim.release()

    async def _inputs(self, vertex: Vertex) -> list[Snapshot]:
        return [await task for task in [self._result(item.of) for item in vertex.inputs]]

    async def _make(
        self, vertex: Vertex, key: Digest | None, inputs: Sequence[Snapshot] | None = None
    ) -> Snapshot:
        if inputs is None:
            inputs = await self._inputs(vertex)
        limit = self.slots if getattr(vertex.op, "limited", False) else contextlib.nullcontext()
        async with limit:
            begun = time.time()
            self.ran.add(vertex.digest)
            self.settled.add(vertex.digest)
            self.emit(Started(time=begun, vertex=vertex.digest))
            try:
                with placed(vertex):
                    result = await self.run(vertex, inputs)
            except BaseException as error:
                self._say_failed(vertex, begun, error)
                raise
        seconds = time.time() - begun
        if key is not None:
            self.cache.put(key, Record(result, seconds, vertex.about.label))
        self.emit(Finished(time=time.time(), vertex=vertex.digest, seconds=seconds))
        return result

    def _hit(self, vertex: Vertex, record: Record) -> Snapshot:
        """Say of a vertex, and of what nobody will ask for any more, that it is cached."""
        for below in self.definition.reached(vertex.digest)[:-1] if vertex.inputs else ():
            if below.op_digest is not None and below.digest not in self.forced:
                self._say_cached(below)
        self._say_cached(vertex)
        return record.snapshot

    def _say_cached(self, vertex: Vertex) -> None:
        if vertex.digest not in self.settled:
            self.settled.add(vertex.digest)
            self.emit(Cached(time=time.time(), vertex=vertex.digest))

    def _say_failed(self, vertex: Vertex, begun: float, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError)
        self.emit(
            Failed(
                time=time.time(),
                vertex=vertex.digest,
                seconds=time.time() - begun,
                error="cancelled" if cancelled else str(error),
                cancelled=cancelled,
            )
        )


def _forced(definition: Definition) -> frozenset[Digest]:
    """The vertices that run whatever the cache holds."""
    forced: set[Digest] = set()
    for vertex in definition:
        built_on = (item.of for item in vertex.inputs if item.select is None)
        if vertex.about.no_cache or any(digest in forced for digest in built_on):
            forced.add(vertex.digest)
    return frozenset(forced)


def _users(definition: Definition) -> dict[Digest, list[Vertex]]:
    """Who has a vertex among its inputs."""
    users: dict[Digest, list[Vertex]] = {vertex.digest: [] for vertex in definition}
    for vertex in definition:
        for item in vertex.inputs:
            users[item.of].append(vertex)
    return users


@contextlib.contextmanager
def placed(vertex: Vertex) -> Iterator[None]:
    """Give an error that comes out of a vertex's work the vertex's place in the Dockerfile."""
    try:
        yield
    except BuildError as error:
        raise error.at(vertex.about.location) from error.__cause__
    except ExceptionGroup as group:  # of work that is done in parallel: a base image's layers
        first = first_error(group)
        if isinstance(first, BuildError):
            raise first.at(vertex.about.location) from first.__cause__
        raise


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The BuildError in a TaskGroup's exception, else whatever is there first."""
    errors = list(_leaves(group))
    for error in errors:
        if isinstance(error, BuildError):
            return error
    return errors[0]


def _leaves(group: BaseException) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for error in group.exceptions for leaf in _leaves(error)]
    return [group]
