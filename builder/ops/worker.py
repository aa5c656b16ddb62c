"""The Worker protocol: the verbs that ops need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from builder.snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from builder.ops.exec import Exec
    from builder.ops.files import Copy, MakeDir
    from builder.ops.source import Git, Http, Image, Local


class Worker(Protocol):
    """Does what an op says, for one vertex. Every verb raises BuildError where it cannot."""

    async def pull(self, op: Image) -> Snapshot: ...

    async def read_context(self, op: Local) -> Snapshot: ...

    async def fetch_file(self, op: Http) -> Snapshot: ...

    async def fetch_repository(self, op: Git) -> Snapshot: ...

    async def copy(self, op: Copy, below: Snapshot, sources: tuple[Snapshot, ...]) -> Snapshot: ...

    async def make_dir(self, op: MakeDir, below: Snapshot) -> Snapshot: ...

    async def execute(self, op: Exec, below: Snapshot, inputs: tuple[Snapshot, ...]) -> Snapshot: ...
