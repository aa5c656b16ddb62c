"""What a build notes of its keys while it goes on, and keeps when it ends.

Nothing is computed for it before the end: what a selection held is the text that its digest was made of. A
sheet is written where there is none of the same keys, so never on the path of a fully cached build. That it
cannot be written is no error.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from builder.compiler.remotes import redact
from builder.errors import BuildError
from builder.events import Finished
from builder.fs.whole import write_whole
from builder.keyparts.rows import Told, size_of
from builder.keyparts.sheet import MOST_STEPS, Sheet, Step, Taken, rows_name
from builder.keyparts.sheets import Sheets, line_of, name_of
from builder.keyparts.veil import veiled
from builder.ops.named import kind_of, parts_of
from builder.ops.source import MAIN_CONTEXT, NAMED_CONTEXT, Local
from builder.prepare import ignore_of_named

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Protocol

    from builder.compiler.program import Programs
    from builder.digest import Digest
    from builder.events import AnyEvent
    from builder.graph.definition import Vertex
    from builder.graph.selection import Selection
    from builder.prepare import Texts
    from builder.request import BuildRequest
    from builder.snapshots.snapshot import Snapshot

    class Solved(Protocol):
        """What knows keys and contents after a solve; solver.Solver does."""

        def known_key(self, digest: Digest) -> Digest | None: ...

        def known_content(self, source: Digest, select: Selection) -> Digest | None: ...

    Ask = Callable[[Snapshot, Selection, Told], Awaitable[Digest]]

POINTER = "steps.json"  # in a build's record: which sheet is its own
MOST_NOTED = 64 << 20  # characters of listings that are held at the same time
MOST_IGNORE = 64 << 10  # characters of an ignore file that are kept


class Notes:
    """The notes of one build that began at `begun`. record: the folder of its record, or ""."""

    def __init__(self, request: BuildRequest, begun: float, record: str = "") -> None:
        self.request = request
        self.begun = begun
        self.record = record
        self.listings: dict[str, Told] = {}
        self.seconds: dict[str, float] = {}
        self._room = MOST_NOTED

    def take(self, event: AnyEvent) -> AnyEvent:
        """Note how long a vertex took; gives the event back."""
        if isinstance(event, Finished):
            self.seconds[event.vertex] = event.seconds
        return event

    async def content(self, ask: Ask, snapshot: Snapshot, select: Selection) -> Digest:
        """Ask for the content of a selection, and note what it is made of where that is told."""
        told: Told = []
        content = await ask(snapshot, select, told)
        if told and (name := rows_name(content, select)) not in self.listings:
            self._room -= size_of(told)
            if self._room >= 0:
                self.listings[name] = told
        return content

    def keep(self, root: str, texts: Texts, programs: Programs, solved: Solved) -> None:
        """Write the sheet of what the targets reach, and where it is into the build's record.

        Where nothing ran, only if there is none yet: records may have come from elsewhere.
        """
        reached = programs.reached()
        if len(reached) > MOST_STEPS:
            return
        ran = any(vertex.op_digest and vertex.digest in self.seconds for vertex in reached)
        try:
            self._keep(root, self.sheet(texts, programs, solved), ran=ran)
        except (OSError, BuildError):  # an ignore file that cannot be read any more, too
            return

    def _keep(self, root: str, sheet: Sheet, *, ran: bool) -> None:
        sheets, line = Sheets(root), line_of(sheet.context, sheet.dockerfile)
        if not ran and sheets.has(line, name_of(sheet)):
            return
        pointer = {"line": line, "sheet": sheets.keep(line, sheet, self.listings)}
        if self.record:
            write_whole(os.path.join(self.record, POINTER), json.dumps(pointer).encode())

    def sheet(self, texts: Texts, programs: Programs, solved: Solved) -> Sheet:
        """The sheet of what the targets reach."""
        reached, latest = programs.reached(), programs.definition.latest
        numbers = {vertex.digest: number for number, vertex in enumerate(reached)}
        return Sheet(
            context=context_name(self.request, texts),
            dockerfile=texts.name,
            target=self.request.target,
            platform=self.request.platform,
            steps=tuple(self._step(vertex, numbers, latest, solved) for vertex in reached),
            begun=self.begun,
            ignores=self._ignores(texts, reached),
        )

    def _ignores(self, texts: Texts, reached: Sequence[Vertex]) -> dict[str, tuple[str, str]]:
        """The ignore files of the contexts among these vertices."""
        found = {}
        for name in {vertex.op.name for vertex in reached if isinstance(vertex.op, Local)}:
            if name == MAIN_CONTEXT:
                ignore = texts.ignore
            else:
                given = self.request.contexts.get(MAIN_CONTEXT if name == NAMED_CONTEXT else name)
                ignore = ignore_of_named(os.path.abspath(given)) if given else None
            if ignore is not None and len(ignore[1]) <= MOST_IGNORE:
                found[name] = ignore
        return found

    def _step(
        self, vertex: Vertex, numbers: Mapping[Digest, int], latest: int | None, solved: Solved
    ) -> Step:
        inputs = []
        bounded = {"newest time of files": latest} if getattr(vertex.op, "writes", False) else {}
        for item in vertex.inputs:
            if item.select is None:
                inputs.append(Taken(numbers[item.of]))
                continue
            content = solved.known_content(item.of, item.select)
            rows = rows_name(content, item.select) if content else ""
            inputs.append(Taken(numbers[item.of], item.select.plain(), content, rows))
        about = vertex.about
        return Step(
            digest=vertex.digest,
            label=about.label,
            stage=about.stage,
            line=about.location.span.line if about.location else 0,
            internal=about.internal,
            kind=step_kind(vertex),
            parts={**veiled(parts_of(vertex.op)), **bounded, **_told_besides(vertex.op)},
            key=solved.known_key(vertex.digest),
            inputs=tuple(inputs),
            seconds=self.seconds.get(vertex.digest),
            forced=self._flag() if about.no_cache else "",
        )

    def _flag(self) -> str:
        return "--no-cache" if self.request.no_cache else "--no-cache-filter"


def context_name(request: BuildRequest, texts: Texts) -> str:
    """What tells one context from another: its folder with no links in it, or its address."""
    return os.path.realpath(texts.context) if texts.context is not None else redact(request.context)


def step_kind(vertex: Vertex) -> str:
    """What a vertex is called, ADD being another one than COPY."""
    kind = kind_of(vertex.op)
    text = vertex.about.label.partition("] ")[2].removeprefix("ONBUILD ")
    return "ADD" if kind == "COPY" and text[:4].upper() == "ADD " else kind


def _told_besides(op: object) -> dict[str, str]:
    """What counts in no key, and helps to tell what a step is: where an image or a file comes from."""
    for name in ("locator", "url", "remote", "name"):
        if isinstance(value := getattr(op, name, None), str):
            text = "" if name == "name" and value == MAIN_CONTEXT else redact(value)
            return {"(from)": text}
    return {}
