"""The solver: decides when and whether a vertex runs.

The whole idea: a vertex's key is asked for before its result, and a result that is in the cache is
taken before any input is. So of an unchanged build nothing runs and nothing is read but what keys are
made of. A task per vertex and question ("which key?", "which result?", "which content?"), awaited by all
who ask, is all the state there is: equal vertices run once, independent ones at the same time, and the
first failure cancels the rest. Who has to wait for content that is being made has the rest of what it
stands on made meanwhile.

Who only selects content from an input does not run again where that content is the same. Of an input whose
record is gone, the content that it had is assumed, so that it need not be made again for those who have
records. Should it be made after all, for somebody else, and turn out different, then the solve begins anew
without assumptions; what was made has records by then.

With `whole`, who takes a whole input is spared likewise (`--reproducible`): besides its key, by which it is
looked up before there are inputs, a vertex has a late key, in which each whole input counts by the content
of its result. A record found under the one is put under the other, too.

A vertex that must run whatever the cache says (`no_cache`) makes those built on it run too: their keys
are the same, but the records under them stand on the old result. Spared are those who select content, or
have a late key, if the content is the same.

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
from builder.solver.keys import combine, late_name

CLAIM_POLL_SECONDS = 0.05

Run = Callable[[Vertex, Sequence[Snapshot]], Awaitable[Snapshot]]
Content = Callable[[Vertex, Snapshot, Selection], Awaitable[Digest]]
Whole = Callable[[Vertex, Snapshot], Awaitable[Digest]]
Elsewhere = Callable[[Vertex, Digest], Awaitable[Record | None]]
Told = Callable[[Digest, Selection], Awaitable["Digest | None"]]


class Solver:
    """One solve of one definition.

    `run` does a vertex's op; `content` gives the digest of what a vertex selects from an input's
    result; `slots` limits the ops that say they are `limited`; `elsewhere` finds records that the cache
    lacks, and `told` what selections came to of what a key names; `whole` gives the digest of a whole result,
    times and all. Afterwards, `ran` holds the results of the vertices that ran, and `written` those of the
    keys that have got records.
    """

    def __init__(
        self,
        definition: Definition,
        cache: Cache,
        run: Run,
        content: Content,
        emit: Emit,
        slots: int,
        *,
        elsewhere: Elsewhere | None = None,
        told: Told | None = None,
        whole: Whole | None = None,
    ) -> None:
        self.definition = definition
        self.cache = cache
        self.run = run
        self.content = content
        self.emit = emit
        self.slots = asyncio.Semaphore(slots)
        self.elsewhere = elsewhere
        self.told = told
        self.whole = whole
        self.ran: dict[Digest, Snapshot] = {}
        self.written: dict[Digest, Snapshot] = {}
        self.settled: set[Digest] = set()
        self.stale = _stale(definition)
        self.forced = {v.digest for v in definition if v.about.no_cache} if whole else self.stale
        self.users = _users(definition)
        self.assumes = True
        self._begin()

    def _begin(self) -> None:
        self.keys: dict[Digest, asyncio.Task[Digest | None]] = {}
        self.results: dict[Digest, asyncio.Task[Snapshot]] = {}
        self.contents: dict[tuple[Digest, Selection | None], asyncio.Task[Digest]] = {}
        self.made: dict[Digest, asyncio.Future[Snapshot]] = {}
        self.hurried: set[Digest] = set()
        self.assumed: dict[Digest, dict[Selection, Digest]] = {}

    async def solve(self, target: Digest) -> Snapshot:
        """The target's result. Raises the first BuildError of any vertex, the rest being cancelled."""
        return (await self.solve_all((target,)))[0]

    async def solve_all(self, targets: Sequence[Digest]) -> list[Snapshot]:
        """The results of several targets, made at the same time. Raises as `solve`."""
        try:
            return await self._solve(targets)
        except _Mistaken:
            self.assumes = False
            self._begin()
            return await self._solve(targets)

    async def _solve(self, targets: Sequence[Digest]) -> list[Snapshot]:
        try:
            async with asyncio.TaskGroup() as self.group:
                asked = [self._result(target) for target in targets]
                results = [await task for task in asked]
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return results

    def known_key(self, digest: Digest) -> Digest | None:
        """The key of a vertex, if somebody has asked for it and it is known."""
        return _outcome(self.keys.get(digest))

    def known_content(self, source: Digest, select: Selection) -> Digest | None:
        """The content that counted for who selects it, if it is known."""
        found = _outcome(self.contents.get((source, select)))
        return found or self.assumed.get(source, {}).get(select)

    async def known_keys(self) -> dict[Digest, Digest]:
        """The keys of the vertices of which they were asked, once they are solved."""
        found = {digest: await task for digest, task in self.keys.items()}
        return {digest: key for digest, key in found.items() if key is not None}

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────

    def _key(self, digest: Digest) -> asyncio.Task[Digest | None]:
        if digest not in self.keys:
            self.keys[digest] = self.group.create_task(self._find_key(self.definition[digest]))
        return self.keys[digest]

    async def _find_key(self, vertex: Vertex) -> Digest | None:
        if vertex.op_digest is None:
            return None
        if vertex.digest in self.hurried:
            self._get_ready(vertex)
        # Ask for everything first, so that what can go on at the same time does.
        asked: list[Awaitable[Digest | None]] = []
        for item in vertex.inputs:
            if item.select is None:
                asked.append(self._key(item.of))
            else:
                asked.append(self.group.create_task(self._selected(vertex, item.of, item.select)))
        return combine(vertex.op_digest, [await part for part in asked])

    async def _selected(self, vertex: Vertex, source: Digest, select: Selection) -> Digest:
        """The content of a selection: as it was, where its source is no longer here, else as it is."""
        key = await self._key(source) if self.assumes and source not in self.stale else None
        if key is not None and source not in self.results and self.cache.get(key) is None:
            known = self.cache.selected(key, select)
            if known is None and self.told is not None:
                known = await self.told(key, select)
            if known is not None and source not in self.results:
                return self.assumed.setdefault(source, {}).setdefault(select, known)
        return await self._content(vertex, source, select)

    def _content(self, vertex: Vertex, source: Digest, select: Selection | None) -> asyncio.Task[Digest]:
        """The content of a selection of a result, or of all of it, which is found out once."""
        name = (source, select)
        if name not in self.contents:
            self.contents[name] = self.group.create_task(self._find_content(vertex, source, select))
        return self.contents[name]

    async def _find_content(self, vertex: Vertex, source: Digest, select: Selection | None) -> Digest:
        snapshot = await self._result(source)
        with placed(vertex):
            if select is None:
                assert self.whole is not None
                return await self.whole(vertex, snapshot)
            found = await self.content(vertex, snapshot, select)
        if (key := await self._key(source)) is not None:
            self.cache.note_selected(key, select, found)
        return found

    async def _late_key(self, vertex: Vertex) -> Digest | None:
        """The key that is known once all inputs are; None where it tells no more than the first one."""
        if self.whole is None or vertex.op_digest is None or all(item.select for item in vertex.inputs):
            return None
        asked = [self._content(vertex, item.of, item.select) for item in vertex.inputs]
        return combine(late_name(vertex.op_digest), [await part for part in asked])

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────

    def _result(self, digest: Digest) -> asyncio.Task[Snapshot]:
        if digest not in self.results:
            self.results[digest] = self.group.create_task(self._settle(self.definition[digest]))
        return self.results[digest]

    async def _settle(self, vertex: Vertex) -> Snapshot:
        key = await self._key(vertex.digest)
        if key is not None and vertex.digest not in self.stale and (record := await self._find(vertex, key)):
            result = self._hit(vertex, record)
        else:
            if vertex.op_digest is not None:
                self._tell_users(vertex)
            result = await self._once(vertex, key, lambda: self._make_claimed(vertex, key))
        for select, digest in self.assumed.get(vertex.digest, {}).items():
            if await self.content(vertex, result, select) != digest:
                raise _Mistaken
        return result

    async def _find(self, vertex: Vertex, key: Digest) -> Record | None:
        """The record under a key: the cache's, or else one that is to be had elsewhere."""
        record = self.cache.get(key)
        if record is None and self.elsewhere is not None:
            record = await self.elsewhere(vertex, key)
            if record is not None:
                self._put(key, record)
        return record

    async def _once(
        self, vertex: Vertex, key: Digest | None, make: Callable[[], Awaitable[Snapshot]]
    ) -> Snapshot:
        """Make what a key names, unless a vertex of another digest, and of the same key, is at it."""
        if key is None:
            return await make()
        if (other := self.made.get(key)) is not None:
            result = await asyncio.shield(other)
            self._say_cached(vertex)
            return result
        future = self.made[key] = asyncio.get_running_loop().create_future()
        try:
            result = await make()
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
                if user.digest not in self.hurried:
                    self.hurried.add(user.digest)
                    todo.append(user.digest)
                    if user.digest in self.keys:
                        self._get_ready(user)

    def _get_ready(self, vertex: Vertex) -> None:
        if any(item.select is not None for item in vertex.inputs):
            for item in vertex.inputs:
                if item.select is None:
                    self._result(item.of)

    async def _make_claimed(self, vertex: Vertex, key: Digest | None) -> Snapshot:
        """Make a result under the claim on its key, or take what there is under its late key, or what
        another process made meanwhile."""
        inputs = [await task for task in [self._result(item.of) for item in vertex.inputs]]
        late = await self._late_key(vertex)
        keys = [name for name in (key, late) if name is not None]
        if vertex.digest in self.forced or not keys:
            return await self._make(vertex, keys, inputs)

        async def make() -> Snapshot:
            if late is not None and (record := await self._find(vertex, late)) is not None:
                return self._hit(vertex, record)
            async with self._claim(vertex, keys[-1]):
                # Another process may have made it since we looked: under the claim nobody else does.
                for name in keys[-1:] if vertex.digest in self.stale else keys:
                    if (record := self.cache.get(name)) is not None:
                        return self._hit(vertex, record)
                return await self._make(vertex, keys, inputs)

        if late is None:
            return await make()
        result = await self._once(vertex, late, make)
        if key is not None and key not in self.written:
            found = self.cache.get(late)
            self._put(key, Record(result, found.seconds if found else 0.0, vertex.about.label))
        return result

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

    async def _make(self, vertex: Vertex, keys: Sequence[Digest], inputs: Sequence[Snapshot]) -> Snapshot:
        limit = self.slots if getattr(vertex.op, "limited", False) else contextlib.nullcontext()
        async with limit:
            begun = time.time()
            self.settled.add(vertex.digest)
            self.emit(Started(time=begun, vertex=vertex.digest))
            try:
                with placed(vertex):
                    result = await self.run(vertex, inputs)
            except BaseException as error:
                self._say_failed(vertex, begun, error)
                raise
        seconds = time.time() - begun
        self.ran[vertex.digest] = result
        for key in keys:
            self._put(key, Record(result, seconds, vertex.about.label))
        self.emit(Finished(time=time.time(), vertex=vertex.digest, seconds=seconds))
        return result

    def _put(self, key: Digest, record: Record) -> None:
        self.cache.put(key, record)
        self.written[key] = record.snapshot

    # ── what is said ─────────────────────────────────────────────────────────────────────────────────────

    def _hit(self, vertex: Vertex, record: Record) -> Snapshot:
        """Say of a vertex, and of what nobody will ask for any more, that it is cached."""
        for below in self.definition.reached(vertex.digest)[:-1] if vertex.inputs else ():
            if below.op_digest is not None and below.digest not in self.stale:
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


class _Mistaken(Exception):
    """What was assumed of an input's content does not hold."""


def _stale(definition: Definition) -> set[Digest]:
    """The vertices that run whatever the cache holds, and those built on them."""
    stale: set[Digest] = set()
    for vertex in definition:
        built_on = (item.of for item in vertex.inputs if item.select is None)
        if vertex.about.no_cache or any(digest in stale for digest in built_on):
            stale.add(vertex.digest)
    return stale


def _outcome(task: asyncio.Task[Digest] | asyncio.Task[Digest | None] | None) -> Digest | None:
    """What a task has come to; None where it has come to nothing."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


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
