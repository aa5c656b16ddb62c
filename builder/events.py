"""The event stream: every fact about a build that somebody may want to see, with its time.

Events are frozen and tagged; `time` is seconds since the Unix epoch, taken where the fact happened.
A UI is a fold over them, and `builds/ID/events.jsonl` holds one JSON object a line (`encode`/`decode`).
A vertex is named by its definition digest. No event holds a secret's value.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    """What all events have."""

    time: float


class BuildStarted(Event, frozen=True, tag="build-started"):
    """The request was understood; nothing was read yet."""

    name: str
    dockerfile: str
    context: str


class VertexInfo(msgspec.Struct, frozen=True):
    """What a UI shows of a vertex before anything happens to it."""

    digest: str
    label: str
    stage: str
    line: int
    inputs: tuple[str, ...] = ()


class Planned(Event, frozen=True, tag="planned"):
    """The definition is known: its vertices in topological order, reached ones only."""

    vertices: tuple[VertexInfo, ...]
    target: str


class Started(Event, frozen=True, tag="started"):
    """A vertex runs now."""

    vertex: str


class Cached(Event, frozen=True, tag="cached"):
    """A vertex needs no run: its result is in the cache."""

    vertex: str


class Waiting(Event, frozen=True, tag="waiting"):
    """Another process makes this vertex's result; this build waits for it."""

    vertex: str


class Log(Event, frozen=True, tag="log"):
    """One line that a step wrote: stream 1 is standard output, 2 standard error; no newline."""

    vertex: str
    stream: int
    line: str


class Progress(Event, frozen=True, tag="progress"):
    """Bytes of a transfer: `item` names it (a layer's short digest, say); total 0: unknown."""

    vertex: str
    item: str
    done: int
    total: int
    unit: str = "B"


class Finished(Event, frozen=True, tag="finished"):
    """A vertex ran to its good end."""

    vertex: str
    seconds: float


class Failed(Event, frozen=True, tag="failed"):
    """A vertex failed or was cancelled."""

    vertex: str
    seconds: float
    error: str
    cancelled: bool = False


class ExportStarted(Event, frozen=True, tag="export-started"):
    """An output is being made; `name` tells which ("oci archive app.tar")."""

    name: str


class ExportFinished(Event, frozen=True, tag="export-finished"):
    """That output is complete."""

    name: str
    seconds: float


class Warned(Event, frozen=True, tag="warned"):
    """Something a person should know; `line` 0: no place in the Dockerfile."""

    message: str
    rule: str = ""
    line: int = 0


class BuildFinished(Event, frozen=True, tag="build-finished"):
    """The build ended well. `size` is compressed bytes; digests as `sha256:…`, empty without an image."""

    names: tuple[str, ...]
    image: str
    size: int
    seconds: float
    steps: int
    cached: int


class BuildFailed(Event, frozen=True, tag="build-failed"):
    """The build ended badly."""

    error: str
    code: str
    seconds: float


AnyEvent = (
    BuildStarted
    | Planned
    | Started
    | Cached
    | Waiting
    | Log
    | Progress
    | Finished
    | Failed
    | ExportStarted
    | ExportFinished
    | Warned
    | BuildFinished
    | BuildFailed
)

Emit = Callable[[AnyEvent], None]


def encode(event: AnyEvent) -> bytes:
    """One line of JSON, without its newline."""
    return msgspec.json.encode(event)


def decode(line: bytes) -> AnyEvent:
    """The event of such a line; raises msgspec.ValidationError where it is none."""
    event: AnyEvent = msgspec.json.decode(line, type=AnyEvent)
    return event
