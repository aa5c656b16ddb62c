"""The records of builds, read: where they lie, what was asked, and what came of it.

    ROOT/builds/ID/          a build that had something to do: request.json, events.jsonl … (see `record`)
    ROOT/builds/cached/ID    one that found all in the cache, in one file: what request.json holds, with the
                             `keys` of its steps, and then its events, a line each (see `cachedrecord`)

What is damaged, or being removed, holds nothing. Loads next to nothing: on the path of a fully cached build.
"""

from __future__ import annotations

import os
import time

from builder import plainjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from builder.store.root import Store

BUILDS, CACHED = "builds", "cached"
REQUEST, EVENTS = "request.json", "events.jsonl"


def new_id(now: int) -> str:
    """A build's id from the time in nanoseconds: exact to the microsecond, so that ids sort as builds began,
    and then three random digits."""
    seconds, rest = divmod(now // 1000, 1_000_000)
    begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    return f"{begun}-{rest:05x}{int.from_bytes(os.urandom(2), 'big') & 0xFFF:03x}"


def whole_ids(store: Store) -> list[str]:
    """The ids of the recorded builds that had something to do, the last first. Raises OSError."""
    names = os.listdir(os.path.join(store.folder, BUILDS))
    return sorted((name for name in names if name != CACHED), reverse=True)


def all_ids(store: Store) -> list[str]:
    """The ids of all recorded builds, the last first."""
    found: list[str] = []
    for folder in (BUILDS, os.path.join(BUILDS, CACHED)):
        try:
            found += os.listdir(os.path.join(store.folder, folder))
        except FileNotFoundError:
            continue
    return sorted((name for name in found if name != CACHED and not name.endswith(".part")), reverse=True)


def path_of(store: Store, name: str) -> str:
    """Where the record of a build lies: a folder, or the file of one that found all in the cache."""
    cached = os.path.join(store.folder, BUILDS, CACHED, name)
    return cached if os.path.isfile(cached) else os.path.join(store.folder, BUILDS, name)


def request_of(path: str) -> dict[str, Any]:
    """What was asked for, as `again.told_of` has it; {} where that cannot be read."""
    try:
        with open(path if os.path.isfile(path) else os.path.join(path, REQUEST), "rb") as file:
            data = file.readline() if os.path.isfile(path) else file.read()
        request = plainjson.loads(data)
    except (OSError, ValueError, RecursionError):
        return {}
    return request if isinstance(request, dict) else {}


def events_file(path: str) -> str:
    """The file whose last lines are a record's last events."""
    return path if os.path.isfile(path) else os.path.join(path, EVENTS)


def event_lines(path: str) -> Iterator[bytes]:
    """The events of a record, each encoded as `events` does it. Raises OSError."""
    with open(events_file(path), "rb") as file:
        if os.path.isfile(path):
            file.readline()
        yield from file
