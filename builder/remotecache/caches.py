"""The caches elsewhere of one build: what it is told to take from and to give to.

`build` opens them where a request names any, hands `taking` to the solver, and says when there is something
to give.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from builder.digest import Digest, of_value
from builder.events import Warned
from builder.output import config_name
from builder.remotecache import giving
from builder.remotecache.gathering import Solved
from builder.remotecache.taking import Taking

if TYPE_CHECKING:
    from builder.compiler.program import Program
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

    async def settle(self, program: Program, solver: Solver, snapshot: Snapshot) -> bytes | None:
        """To be called before the image is made: what goes into its config, if anything does."""
        vertices = tuple(program.definition.reached(program.target))
        keys = await solver.known_keys()
        self._solved = Solved(vertices, keys, dict(solver.written), snapshot, config_name(program))
        target = self._solved.target_key
        self.taking.note_time(target, snapshot, self._solved.config)
        if any(wanted.type == "inline" for wanted in self._to):
            return await giving.inline_document(self._solved, self._parts, self.taking)
        return None

    async def give(self, *, has_image: bool) -> None:
        """To be called once the outputs are made. Raises BuildError for a cache that cannot be written."""
        assert self._solved is not None
        if not has_image and any(wanted.type == "inline" for wanted in self._to):
            message = "cache in the image: no image was made that could hold it"
            self._parts.emit(Warned(time=time.time(), message=message))
        solved = self._solved
        name = of_value([list(solved.target), solved.config])
        solved = solved.made_at(self._parts.cache.recall("created", Digest(name)) or "")
        for wanted in self._to:
            await giving.give(wanted, solved, self._parts, self.taking)


@asynccontextmanager
async def open_caches(request: BuildRequest, parts: Parts) -> AsyncIterator[Caches]:
    """The caches that a request names."""
    caches = Caches(request, parts)
    if any(wanted.mounts for wanted in request.cache_from):
        parts.mounts_elsewhere = caches.taking.mounts()
    try:
        yield caches
    finally:
        await caches.taking.close()
