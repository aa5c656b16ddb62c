"""The definition: a flat, ordered map of digest to vertex.

A vertex can be added only after its inputs, so insertion order is a topological order and a cycle
cannot be written down. A vertex's digest covers its op and its inputs, never what people are told
about it (`About`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from builder.digest import Digest, of_value
from builder.graph.op import Op
from builder.graph.selection import Selection
from builder.text import Location


class Input(msgspec.Struct, frozen=True):
    """An input of a vertex. With `select`, the content of that part counts, not its origin."""

    of: Digest
    select: Selection | None = None


class About(msgspec.Struct, frozen=True):
    """What people are told of a vertex. `label` is "[stage 2/7] RUN make"; never part of a digest.

    shell: the program of the stage's SHELL, where it has one, for who wants to look around there.
    """

    label: str
    stage: str = ""
    location: Location | None = None
    no_cache: bool = False
    internal: bool = False
    shell: str = ""


class Vertex(msgspec.Struct, frozen=True):
    """An op placed in a definition."""

    digest: Digest
    op: Op[Any, Any]
    op_digest: Digest | None
    inputs: tuple[Input, ...]
    about: About


class Definition(msgspec.Struct):
    """All vertices by digest, in topological order.

    latest: no file that its ops write is newer, in seconds since the epoch; None: files are as new as they
    are. It is part of what those ops (see `Op`) are.
    """

    vertices: dict[Digest, Vertex] = msgspec.field(default_factory=dict)
    latest: int | None = None

    def add(self, op: Op[Any, Any], inputs: tuple[Input, ...], about: About) -> Digest:
        """Add a vertex and return its digest; an equal one that is there already is kept.

        Raises KeyError where an input is not in the definition.
        """
        for item in inputs:
            self.vertices[item.of]
        plain = op.plain()
        if plain is not None and self.latest is not None and getattr(op, "writes", False):
            plain = [*plain, ["latest", self.latest]]
        op_digest = None if plain is None else of_value(plain)
        # An op without plain data (a context) is named by what it is called.
        name = op_digest or ["unkeyed", repr(op)]
        digest = of_value([name, [[i.of, i.select.plain() if i.select else None] for i in inputs]])
        self._keep(Vertex(digest, op, op_digest, inputs, about))
        return digest

    def _keep(self, vertex: Vertex) -> None:
        """Take a vertex in, unless an equal one is there; one that must run wins over one that need not."""
        known = self.vertices.get(vertex.digest)
        if known is None or (vertex.about.no_cache and not known.about.no_cache):
            self.vertices[vertex.digest] = vertex

    def take(self, other: Definition) -> None:
        """Take in all vertices of another definition; of equal ones that which is there already is kept."""
        for vertex in other:
            self._keep(vertex)

    def reached(self, *targets: Digest) -> list[Vertex]:
        """The targets and all they depend on, in topological order."""
        wanted = set(targets)
        for digest in reversed(self.vertices):
            if digest in wanted:
                wanted.update(i.of for i in self.vertices[digest].inputs)
        return [v for d, v in self.vertices.items() if d in wanted]

    def __iter__(self) -> Iterator[Vertex]:
        return iter(self.vertices.values())

    def __getitem__(self, digest: Digest) -> Vertex:
        return self.vertices[digest]
