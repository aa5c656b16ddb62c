"""The caches elsewhere of one build: what it is told to take from and to give to.

`build` opens them where a request names any, hands `taking` to the solver, and says when there is something
to give.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from builder.digest import of_value
from builder.events import Warned
from builder.output import config_name
from builder.remotecache import giving
from builder.remotecache.asking import without_registries
from builder.remotecache.gathering import Solved, Target
from builder.remotecache.taking import Taking

if TYPE_CHECKING:
    from builder.compiler.program import Programs
    from builder.parts import Parts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Snapshot
    from builder.solver.solver import Solver


class Caches:
    """See above. `taking`: records and contents for the solver."""

    def __init__(self, request: BuildRequest, parts: Parts) -> None:
        self._parts = parts
        self._to = request.cache_to
        self.taking = Taking(request.cache_from, parts)
        self._solved: Solved | None = None

    async def settle(
        self, programs: Programs, solver: Solver, snapshots: Sequence[Snapshot]
    ) -> list[bytes] | None:
        """To be called before the images are made: what goes into their configs, if anything does."""
        keys = await solver.known_keys()
        targets = tuple(
            Target(keys.get(program.target), snapshot, config_name(program))
            for program, snapshot in zip(programs.each, snapshots, strict=True)
        )
        solved = self._solved = Solved(tuple(programs.reached()), keys, dict(solver.written), targets)
        for target in targets:
            self.taking.note_time(target.key, target.snapshot, target.config)
        if not any(wanted.type == "inline" for wanted in self._to):
            return None
        one_by_one = [solved.of(target) for target in targets]
        return [await giving.inline_document(one, self._parts, self.taking) for one in one_by_one]

    async def give(self, *, has_image: bool) -> None:
        """To be called once the outputs are made. Raises BuildError for a cache that cannot be written."""
        assert self._solved is not None
        if not has_image and any(wanted.type == "inline" for wanted in self._to):
            message = "cache in the image: no image was made that could hold it"
            self._parts.emit(Warned(time=time.time(), message=message))
        solved = self._solved.of(*(self._as_made(target) for target in self._solved.targets))
        for wanted in self._to:
            await giving.give(wanted, solved, self._parts, self.taking)

    def _as_made(self, target: Target) -> Target:
        name = of_value([list(target.snapshot), target.config])
        return target.made_at(self._parts.cache.recall("created", name) or "")


@asynccontextmanager
async def open_caches(request: BuildRequest, parts: Parts) -> AsyncIterator[Caches]:
    """The caches that a request names; of an offline one, those in folders."""

    def warn(message: str) -> None:
        parts.emit(Warned(time=time.time(), message=message))

    caches = Caches(without_registries(request, warn) if request.offline else request, parts)
    if any(wanted.mounts for wanted in request.cache_from):
        parts.mounts_elsewhere = caches.taking.mounts()
    try:
        yield caches
    finally:
        await caches.taking.close()
