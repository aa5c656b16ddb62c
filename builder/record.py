"""The record of a build: ROOT/builds/ID/ with the request and the event stream, the last fifty kept.

What found all in the cache has a smaller one (see `cachedrecord`), and counts for itself.

    request.json     what was asked for, without values of secrets or build args; again: for who does that
    steps.json       where what its keys were made of is kept (see keyparts)
    failed.json      the step that it failed of (see `failed`), of the last few
    events.jsonl     the events, one a line, as they came; of the steps' output the first 16 MiB

Any UI can be replayed from it, and the times of earlier builds come from it. Writing it never stops a
build: a full disk ends the record, not the build.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder import again, events
from builder.events import Log
from builder.failed import forget, forget_surplus
from builder.fs.remove import remove_tree
from builder.records import BUILDS, EVENTS, REQUEST, new_id, whole_ids

if TYPE_CHECKING:
    from io import RawIOBase

    from builder.events import AnyEvent, Emit
    from builder.request import BuildRequest
    from builder.store.root import Store

KEPT_BUILDS = 50
KEPT_SECONDS = 7 * 24 * 3600
CLIPPED = "[further output of this build is not recorded]"
KEPT_OUTPUT = 16 << 20  # bytes of a record that the steps' output may take


@contextlib.contextmanager
def recorded(store: Store, request: BuildRequest, emit: Emit) -> Iterator[Recording]:
    """Record all that is emitted while the block lasts, and hand it on to `emit`."""
    folder = os.path.join(store.folder, BUILDS, new_id(time.time_ns()))
    try:
        os.makedirs(folder, mode=0o700)
        _write_request(folder, request)
        file = open(os.path.join(folder, EVENTS), "xb", buffering=0)  # noqa: SIM115 - closed below
    except OSError:
        yield Recording(emit, None, "")
        return
    with contextlib.suppress(OSError):
        forget_old(store)
    with file:
        yield Recording(emit, _Recorder(file), folder)


class Recording:
    """What takes the events. `folder`: of the record, or "" where there can be none."""

    def __init__(self, emit: Emit, recorder: _Recorder | None, folder: str) -> None:
        self.folder = folder
        self._emit = emit
        self._recorder = recorder

    def __call__(self, event: AnyEvent) -> None:
        """Hand the event on and write it down."""
        self._emit(event)
        if self._recorder is not None:
            self._recorder.take(event)


class _Recorder:
    """Writes events to a file until that fails, and output as far as it may."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._lost = False
        self._room = KEPT_OUTPUT

    def take(self, event: AnyEvent) -> None:
        """Write one event."""
        if self._lost or (isinstance(event, Log) and self._room <= 0):
            return
        data = events.encode(event) + b"\n"
        if isinstance(event, Log):
            self._room -= len(data)
            if self._room <= 0:
                data = events.encode(event.but(line=CLIPPED)) + b"\n"
        try:
            self._file.write(data)
        except OSError:
            self._lost = True


def _write_request(folder: str, request: BuildRequest) -> None:
    with open(os.path.join(folder, REQUEST), "x", encoding="utf-8") as file:
        json.dump(again.told_of(request, os.environ), file, indent=1)


def forget_old(store: Store) -> None:
    """Remove the records that are neither among the last fifty nor of the last week, with their failed
    steps; and of these what is too much."""
    forget_surplus(store)
    oldest = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() - KEPT_SECONDS))
    for name in whole_ids(store)[KEPT_BUILDS:]:
        if name < oldest and forget(store, name):
            with contextlib.suppress(OSError):  # another build may be removing it too
                remove_tree(os.path.join(store.folder, BUILDS, name))
