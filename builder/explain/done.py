"""The account of a build that was done: from its record (see `record`) and the sheets of those before it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from builder import events, records
from builder.errors import BuildError
from builder.events import BuildFailed, BuildFinished, Cached, Failed, Finished, Planned, Started
from builder.explain.account import ABSENT, FAILED, HIT, MISS, Account, Sources
from builder.explain.history import History, Past
from builder.explain.plan import hidden_in, past_of, was_hidden
from builder.explain.reasons import account_of
from builder.keyparts.notes import POINTER
from builder.keyparts.sheet import Sheet, Step, Taken
from builder.keyparts.sheets import Sheets
from builder.store.root import Store

ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")  # see record
INTERNAL = ("[internal]", "[context ", "[fetch]")
NOT_KEPT = "what its keys were made of is not kept, so reasons are not known"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which build: its id (or how it begins), or the last one of a folder, a Dockerfile, a tag, a target.

    Empty texts ask for nothing. folder: absolute, no links in it.
    """

    build: str = ""
    folder: str = ""
    dockerfile: str = ""
    tag: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded build. begun: seconds; request: as `record` writes it; outcome: "" if it is not known."""

    id: str
    begun: float
    request: dict[str, Any]
    outcome: str
    planned: Planned | None
    states: dict[str, str]
    seconds: dict[str, float]


def explain(store: Store, wanted: Wanted) -> tuple[Recorded, Account]:
    """A build and its account. Raises BuildError where there is none."""
    name = _find(store, wanted)
    folder = records.path_of(store, name)
    recorded = _read(folder, name)
    sheets = Sheets(store.folder)
    line, sheet = _sheet_of(folder, sheets)
    notes: tuple[str, ...] = ()
    if sheet is None:
        sheet, notes = _bare_sheet(recorded), (NOT_KEPT,) if MISS in recorded.states.values() else ()
        past = Past(line, (), lambda: (), sheets.rows)
    else:
        past = past_of(sheets, line, recorded.begun)

    def now_rows(item: Taken) -> Any:
        return sheets.rows(line, item.rows) if item.rows else None

    sources = Sources(
        states=recorded.states,
        origins={},
        condition=lambda _key: ABSENT,
        recorded_seconds=lambda _key: None,
        hidden=lambda context: hidden_in(sheet, context),
        was_hidden=was_hidden,
        took=recorded.seconds,
    )
    account = account_of(History(sheet, past, now_rows), sources, notes)
    if notes:
        account = replace(account, findings=tuple(replace(found, reasons=()) for found in account.findings))
    return recorded, account


def _find(store: Store, wanted: Wanted) -> str:
    """The id of the build that is wanted, or the last one that is as wanted. Raises BuildError."""
    names = [name for name in records.all_ids(store) if ID.fullmatch(name)]
    if wanted.build:
        found = [name for name in names if name.startswith(wanted.build)]
        if len(found) == 1 or wanted.build in found:
            return wanted.build if wanted.build in found else found[0]
        what = (
            f"several builds begin with {wanted.build}" if found else f"no build {wanted.build} is recorded"
        )
        raise BuildError(
            what, code="no-build", hint="their ids are the names in ROOT/builds, and in `cached` there"
        )
    for name in names:
        if _is_wanted(records.request_of(records.path_of(store, name)), wanted):
            return name
    told = [
        f"{what} {value}"
        for what, value in (("of", wanted.folder), ("by", wanted.dockerfile), ("named", wanted.tag),
                            ("for the target", wanted.target))
        if value
    ]  # fmt: skip
    what = f"no build {' '.join(told)} is recorded" if told else "no build is recorded"
    raise BuildError(what, code="no-build")


def _is_wanted(request: dict[str, Any], wanted: Wanted) -> bool:
    if not request:
        return False
    dockerfile = str(request.get("dockerfile") or "Dockerfile")
    return (
        wanted.folder in ("", request.get("folder"), request.get("context"))
        and (not wanted.dockerfile or os.path.normpath(wanted.dockerfile) == os.path.normpath(dockerfile))
        and (not wanted.tag or wanted.tag in request.get("tags", ()))
        and wanted.target in ("", request.get("target"))
    )


def _read(folder: str, name: str) -> Recorded:
    """What the events tell. Raises BuildError where there are none."""
    planned: Planned | None = None
    begun, outcome = 0.0, ""
    states: dict[str, str] = {}
    took: dict[str, float] = {}
    for event in _events(folder):
        begun = begun or event.time
        match event:
            case Planned():
                planned = event
            case Cached():
                states.setdefault(event.vertex, HIT)
            case Started():
                states[event.vertex] = MISS
            case Finished():
                took[event.vertex] = event.seconds
            case Failed():
                states[event.vertex] = MISS if event.cancelled else FAILED
                took[event.vertex] = event.seconds
            case BuildFinished():
                outcome = "built"
            case BuildFailed():
                outcome = "failed"
    if not begun:
        raise BuildError(f"the record of build {name} holds no events", code="no-build")
    return Recorded(name, begun, records.request_of(folder), outcome, planned, states, took)


def _events(folder: str) -> Iterator[events.AnyEvent]:
    """The events of a record, as far as they can be read; output of steps left out."""
    try:
        for line in records.event_lines(folder):
            if b'"event":"log"' not in line and b'"event":"progress"' not in line:
                yield events.decode(line)
    except (OSError, ValueError):
        return


def _sheet_of(folder: str, sheets: Sheets) -> tuple[str, Sheet | None]:
    """(line, sheet) that a record points to."""
    try:
        with open(os.path.join(folder, POINTER), "rb") as file:
            pointer = json.loads(file.read())
        line = str(pointer["line"])
        return line, sheets.read(line, str(pointer["sheet"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", None


def _bare_sheet(recorded: Recorded) -> Sheet:
    """What the events tell of a build's steps, with their keys where all of them were hits."""
    planned = recorded.planned.vertices if recorded.planned is not None else ()
    keys = recorded.request.get("keys")
    known = keys if isinstance(keys, list) and len(keys) == len(planned) else [None] * len(planned)
    numbers = {info.digest: number for number, info in enumerate(planned)}
    steps = [
        Step(
            digest=info.digest,
            label=info.label,
            stage=info.stage,
            line=info.line,
            internal=info.label.startswith(INTERNAL),
            kind=info.label.partition("] ")[2].partition(" ")[0] or "step",
            parts={},
            key=key if isinstance(key, str) else None,
            inputs=tuple(Taken(numbers[name]) for name in info.inputs if name in numbers),
        )
        for info, key in zip(planned, known, strict=True)
    ]
    return Sheet(context="", dockerfile="", target="", platform="", steps=tuple(steps), begun=recorded.begun)
