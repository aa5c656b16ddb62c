"""Source ops: where a filesystem comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from builder.ops.worker import Worker
from builder.snapshots.snapshot import Snapshot


class Scratch(msgspec.Struct, frozen=True, tag=True):
    """The empty filesystem."""

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["scratch", 1]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return ()


class Image(msgspec.Struct, frozen=True, tag=True):
    """A base image, known by its manifest's digest; `locator` only tells where to get it.

    locator: a normalised reference ("docker.io/library/debian:12") or "oci-layout://NAME" for a named
    context that is an image layout.
    """

    locator: str
    digest: str

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["image", 1, self.digest]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.pull(self)


class Local(msgspec.Struct, frozen=True, tag=True):
    """A folder that the user gave: the build context ("context") or a named one; ignore files applied.

    Its owners are reset to 0:0 and its xattrs dropped when it is read.
    """

    name: str

    def plain(self) -> list[Any] | None:
        """See graph.op: unknown until it is read."""
        return None

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.read_context(self)
