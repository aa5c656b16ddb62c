"""File ops: COPY, ADD, WORKDIR and the joining of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from builder.ops.worker import Worker
from builder.snapshots.snapshot import Snapshot


class PathItem(msgspec.Struct, frozen=True, tag="path"):
    """A source path (or pattern) in input number `input` of the vertex (0 is what is copied onto).

    wildcards: whether it is a pattern at all; unpack: whether an archive there is unpacked, where the op
    unpacks any.
    """

    input: int
    pattern: str
    wildcards: bool = True
    unpack: bool = True

    def plain(self) -> list[Any]:
        """What counts besides the content that the pattern selects."""
        row: list[Any] = ["path", self.input]
        return row if self.wildcards and self.unpack else [*row, self.wildcards, self.unpack]


class InlineItem(msgspec.Struct, frozen=True, tag="inline"):
    """A heredoc as a file: its name and its bytes (UTF-8 with surrogateescape)."""

    name: str
    content: str


class Copy(msgspec.Struct, frozen=True, tag=True):
    """COPY or ADD onto input 0.

    dest: absolute, with a trailing slash where the Dockerfile has one; chown and chmod as expanded
    ("" for none); unpack: local tar archives are unpacked (ADD); link: symlinks on the way to dest are
    not followed, as nothing is known of what is below (the vertex's input 0 is scratch).
    """

    writes: ClassVar[bool] = True

    items: tuple[PathItem | InlineItem, ...]
    dest: str
    chown: str = ""
    chmod: str = ""
    unpack: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    link: bool = False

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        items = [
            item.plain() if isinstance(item, PathItem) else ["inline", item.name, item.content]
            for item in self.items
        ]
        return ["copy", 3, items, self.dest, self.chown, self.chmod, self.unpack, self.parents, self.link]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.copy(self, inputs[0], tuple(inputs))


class MakeDir(msgspec.Struct, frozen=True, tag=True):
    """WORKDIR: make a folder and its parents, owned by `user` (a USER value, "" for root)."""

    writes: ClassVar[bool] = True

    path: str
    user: str = ""

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["mkdir", 3, self.path, self.user]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return await worker.make_dir(self, inputs[0])


class Merge(msgspec.Struct, frozen=True, tag=True):
    """The layers of all inputs, one on the other (COPY --link)."""

    def plain(self) -> list[Any] | None:
        """See graph.op."""
        return ["merge", 1]

    async def run(self, worker: Worker, inputs: Sequence[Snapshot]) -> Snapshot:
        """See graph.op."""
        return tuple(layer for snapshot in inputs for layer in snapshot)
