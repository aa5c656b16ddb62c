"""A build that is not done: what would run, why, and how long it would take.

As a build, it reads the texts, resolves the base images that the compiler asks for, and walks the contexts;
where the store lacks something, it asks the caches elsewhere that the request names. Nothing runs, no layer
and no file is fetched, and no secret is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from builder import loops
from builder.compiler.entitlements import device_grants
from builder.contexts import Context, open_context
from builder.devices.machine import MachineDevices
from builder.digest import Digest, parse
from builder.dockerfile.ignore import parse as parse_ignore
from builder.errors import BuildError
from builder.explain.account import RUNS, Account, Sources
from builder.explain.assumed import Assumed
from builder.explain.history import Counterpart, History, Past
from builder.explain.paths import HiddenBy, nothing_hidden
from builder.explain.reason import Reason
from builder.explain.reasons import account_of
from builder.explain.rehearsal import Outlook, ReadOnlyCache, Rehearsal
from builder.keyparts import rows
from builder.keyparts.notes import Notes
from builder.keyparts.sheet import rows_name
from builder.keyparts.sheets import Sheets, line_of
from builder.ops.source import MAIN_CONTEXT, Local
from builder.parts import check_devices
from builder.programs import load_texts, open_attempts, open_images
from builder.remotecache.asking import ask
from builder.snapshots.layers import LayerStore
from builder.snapshots.snapshot import LayerId
from builder.store import locks
from builder.store.root import Store, open_store
from builder.ui import words

if TYPE_CHECKING:
    from builder.compiler.program import Programs
    from builder.graph.definition import Vertex
    from builder.graph.selection import Selection
    from builder.keyparts.rows import Listing
    from builder.keyparts.sheet import Sheet
    from builder.prepare import Texts
    from builder.remotecache.asking import Said
    from builder.request import BuildRequest

MOST_OTHERS = 40  # lines besides the own one that are looked into


def plan(request: BuildRequest, assume: Sequence[str] = ()) -> Account:
    """What the request's build would do. Raises BuildError where that fails before a step would run."""
    Assumed(assume)  # a bad pattern is better known before
    store = open_store(request.root)
    texts = load_texts(request)
    programs = loops.run(_compile(request, store, texts))

    def look(said: Said | None = None) -> Account:
        with locks.shared(store.folder, locks.USES):
            return _Plan(request, store, texts, programs, Assumed(assume), said).account()

    with locks.shared(store.folder, locks.BUILDS):
        account = look()
        if not request.cache_from or request.no_cache or not _is_lacking(account):
            return account
        warnings: list[str] = []
        said = loops.run(ask(request, store, warnings.append))
        account = look(said)
    return replace(account, notes=(*account.notes, *dict.fromkeys(warnings)))


def _is_lacking(account: Account) -> bool:
    """Whether something runs, or may, that a cache elsewhere could have."""
    return any(found.state in RUNS and found.step.inputs for found in account.findings)


async def _compile(request: BuildRequest, store: Store, texts: Texts) -> Programs:
    images = open_images(request, store)
    attempts = open_attempts(request, store, texts)
    try:
        programs = await attempts.compile(images)
        attempts.refuse(programs.warnings)
        return programs
    finally:
        await images.close()


class _Plan:
    def __init__(
        self,
        request: BuildRequest,
        store: Store,
        texts: Texts,
        programs: Programs,
        assumed: Assumed,
        said: Said | None,
    ) -> None:
        self.request = request
        self.store = store
        self.texts = texts
        self.programs = programs
        self.assumed = assumed
        self.said = said
        self.reached = programs.reached()
        self.layers = LayerStore(os.path.join(store.folder, "layers"), store.blobs, any_way=True)
        self.cache = ReadOnlyCache(os.path.join(store.folder, "cache"), self.layers.exists)
        self.contexts = self._open_contexts()
        self.listings: dict[str, Listing] = {}

    def _open_contexts(self) -> Mapping[str, Context]:
        return {
            vertex.op.name: open_context(
                vertex.op.name, self._asked_of(vertex), self.request, self.store.folder, self.texts
            )
            for vertex in self.reached
            if isinstance(vertex.op, Local) and not (vertex.op.name == MAIN_CONTEXT and self.texts.layer)
        }

    def _asked_of(self, source: Vertex) -> list[Selection | None]:
        return [item.select for user in self.reached for item in user.inputs if item.of == source.digest]

    def account(self) -> Account:
        grants = device_grants(self.request.allow)
        check_devices(self.reached, MachineDevices(self.request.cdi_spec_dirs, grants), lambda _event: None)
        rehearsal = Rehearsal(
            self.programs.definition,
            self.programs.targets,
            self.cache,
            self.layers,
            self.contexts,
            self._read,
            self.texts.layer,
            whole=self.request.reproducible,
            said=self.said,
        )
        try:
            outlook = loops.run(rehearsal.outlook())
            return self._account(outlook)
        finally:
            for context in self.contexts.values():
                context.save()
            self.layers.close()

    def _read(self, name: str) -> LayerId:
        """Read a context once, and assume of the build's own what is to be assumed."""
        context = self.contexts[name]
        if context.layer is None:
            layer = context.read(self.layers)
            if name == MAIN_CONTEXT and self.assumed.texts:
                folder = context.folder
                entries = self.layers.entries(layer)
                self.assumed.apply(
                    entries, context.hidden_by, lambda path: os.path.lexists(os.path.join(folder, path))
                )
        assert context.layer is not None
        return context.layer

    def _account(self, outlook: Outlook) -> Account:
        notes = Notes(self.request, time.time())
        sheet = notes.sheet(self.texts, self.programs, outlook)
        for (source, select), told in outlook.listings.items():
            content = outlook.known_content(source, select)
            if told and content is not None:
                name = rows_name(content, select)
                self.listings[name] = rows.listing_of(told)
        self._note_unused(sheet)
        line = line_of(sheet.context, sheet.dockerfile)
        past = past_of(Sheets(self.store.folder), line)
        history = History(
            sheet, past, lambda item: self.listings.get(item.rows) or past.rows(line, item.rows)
        )
        sources = Sources(
            states=dict(outlook.states.items()),
            origins={digest: tuple(found) for digest, found in _origins(outlook).items()},
            condition=lambda key: self.cache.condition(Digest(key)),
            recorded_seconds=lambda key: self.cache.seconds(Digest(key)),
            hidden=self._hidden,
            was_hidden=was_hidden,
            elsewhere={digest: self._found(key) for digest, key in outlook.elsewhere.items()},
        )
        account = account_of(history, sources, self._notes())
        fetched = {name: size for key in outlook.elsewhere.values() for name, size in self._lacking(key)}
        return replace(account, fetched=sum(fetched.values()))

    def _found(self, key: Digest) -> Reason:
        """That a cache elsewhere has the record under a key."""
        found = self.said.record(key) if self.said is not None else None
        assert found is not None  # else it would not be one of those
        size = sum(size for _, size in self._lacking(key))
        cost = f"{words.size(size)} to fetch" if size else "nothing to fetch"
        return Reason("elsewhere", f"in the cache {found[0]}, {cost}", {"cache": found[0], "bytes": size})

    def _lacking(self, key: Digest) -> list[tuple[str, int]]:
        """(digest, size) of the blobs that the store lacks of what a key names elsewhere."""
        found = self.said.record(key) if self.said is not None else None
        blobs = {blob.descriptor.digest: blob.descriptor.size for blob in (found[1] if found else ())}
        return [(name, size) for name, size in blobs.items() if self.store.blobs.stat(parse(name)) is None]

    def _hidden(self, name: str) -> HiddenBy:
        """What hides paths of a context that are there."""
        context = self.contexts.get(name or MAIN_CONTEXT)
        if context is None:
            return nothing_hidden
        folder = context.folder

        def hidden_by(path: str) -> str | None:
            return context.hidden_by(path) if os.path.lexists(os.path.join(folder, path)) else None

        return hidden_by

    def _note_unused(self, sheet: Sheet) -> None:
        taken = [
            self.listings.get(item.rows)
            for step in sheet.steps
            for item in step.inputs
            if item.select is not None and sheet.steps[item.of].digest == self._main_context()
        ]
        if all(listing is not None and listing.is_whole for listing in taken):
            self.assumed.note_unused(lambda path: any(path in listing.rows for listing in taken if listing))

    def _main_context(self) -> Digest | None:
        """The vertex that is the build's context."""
        found = (v for v in self.reached if isinstance(v.op, Local) and v.op.name == MAIN_CONTEXT)
        return next((vertex.digest for vertex in found), None)

    def _notes(self) -> tuple[str, ...]:
        notes = list(self.assumed.notes)
        if self.assumed.texts and not any(context == MAIN_CONTEXT for context in self.contexts):
            notes.append("--assume: no step takes anything from the context")
        return tuple(notes)


def past_of(sheets: Sheets, line: str, before: float | None = None) -> Past:
    """The past of a line, or what was known `before` a time (seconds)."""

    def is_past(sheet: Sheet) -> bool:
        return before is None or sheet.begun < before

    return Past(
        line,
        [sheet for sheet in sheets.of_line(line) if is_past(sheet)],
        lambda: [found for found in sheets.of_others(line, MOST_OTHERS) if is_past(found[1])],
        sheets.rows,
    )


def was_hidden(found: Counterpart, name: str) -> HiddenBy:
    """What hid paths of a context in an earlier build."""
    return hidden_in(found.sheet, name)


def hidden_in(sheet: Sheet, name: str) -> HiddenBy:
    """What hides paths of a context by a sheet's ignore files."""
    ignore = sheet.ignores.get(name or MAIN_CONTEXT)
    if ignore is None:
        return nothing_hidden
    label, text = ignore
    try:
        patterns = parse_ignore(text, label)
    except BuildError:
        return nothing_hidden

    def hidden_by(path: str) -> str | None:
        line = patterns.which(path)
        return f"{label}:{line}" if line > 0 and patterns.excludes(path) else None

    return hidden_by


def _origins(outlook: Outlook) -> dict[Digest, set[Digest]]:
    return {**outlook.late, **outlook.origins}
