"""Layers of the image to be, made blobs while later steps still run.

The one idea: it is done early, and nothing else is. Who delivers the image asks for the same blobs in the
same way, and finds them there. So what goes wrong here is told nobody: it goes wrong again where it is asked
for, or is of no interest, as the build failed meanwhile.

Compressing gives way to steps and to who computes keys, as long as there are any.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from builder import stop
from builder.oci.inorder import put_aside
from builder.ops.exec import Exec
from builder.ops.files import Copy, MakeDir, Merge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from builder.digest import Digest
    from builder.graph.definition import Definition, Vertex
    from builder.snapshots.snapshot import LayerId, Snapshot

    Make = Callable[[LayerId], object]


class Packing:
    """The layers of a build's images under way, each made by each of `makers`. Use it in an `async with`
    block: whatever is not done at its end is dropped.
    """

    def __init__(self, definition: Definition, targets: Sequence[Digest], makers: Sequence[Make]) -> None:
        self._makers = makers
        self._wanted = layers_of(definition, targets) if makers else frozenset()
        self._tasks: set[asyncio.Task[object]] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._hastened = False

    async def __aenter__(self) -> Packing:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def begin(self, vertex: Vertex, made: Snapshot) -> None:
        """Begin with the layer on top of what a vertex has just made, if it is one of the image's."""
        if vertex.digest not in self._wanted or not made:
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(
                os.cpu_count() or 1, thread_name_prefix="pack", initializer=self._put_aside
            )
        for make in self._makers:
            task: asyncio.Task[object] = asyncio.create_task(
                stop.in_thread(self._pool, partial(make, made[-1])), name=f"packing {made[-1]}"
            )
            self._tasks.add(task)
            task.add_done_callback(self._forget)

    async def settle(self) -> None:
        """Wait until all is done that was begun; nothing else is left to do, so it gives way no more."""
        self._hastened = True
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        task.cancelled() or task.exception()

    def _put_aside(self) -> None:
        put_aside(lambda: not self._hastened)


def layers_of(definition: Definition, targets: Sequence[Digest]) -> frozenset[Digest]:
    """The vertices whose layers the targets' images will have, if they are made."""
    found = set(targets)
    reached = definition.reached(*targets)
    for vertex in reversed(reached):
        if vertex.digest not in found:
            continue
        match vertex.op:
            case Exec():
                found.update(item.of for item in vertex.inputs[:1])
            case Copy() | MakeDir() | Merge():
                found.update(item.of for item in vertex.inputs if item.select is None)
    made = (Exec, Copy, MakeDir)
    return frozenset(v.digest for v in reached if v.digest in found and isinstance(v.op, made))
