"""The event stream: every fact about a build that somebody may want to see, with its time.

Events are frozen and tagged; `time` is seconds since the Unix epoch, taken where the fact happened.
A UI is a fold over them, and `builds/ID/events.jsonl` holds one JSON object a line (`encode`/`decode`).
A vertex is named by its definition digest. No event holds a secret's value.
A fully cached build emits them too, so nothing heavy is imported.
"""

from __future__ import annotations

from builder import plainjson
from builder.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar


class Event(Value):
    """What all events have; `tag` names the kind where an event is written down."""

    tag: ClassVar[str] = ""
    time: float


class BuildStarted(Event):
    """The request was understood; nothing was read yet."""

    tag = "build-started"
    name: str
    dockerfile: str
    context: str


class VertexInfo(Value):
    """What a UI shows of a vertex before anything happens to it."""

    digest: str
    label: str
    stage: str
    line: int
    inputs: tuple[str, ...] = ()


class Planned(Event):
    """The definition is known: its vertices in topological order, reached ones only."""

    tag = "planned"
    vertices: tuple[VertexInfo, ...]
    target: str


class Started(Event):
    """A vertex runs now."""

    tag = "started"
    vertex: str


class Cached(Event):
    """A vertex needs no run: its result is in the cache."""

    tag = "cached"
    vertex: str


class Waiting(Event):
    """Another process makes this vertex's result; this build waits for it."""

    tag = "waiting"
    vertex: str


class Log(Event):
    """One line that a step wrote: stream 1 is standard output, 2 standard error; no newline."""

    tag = "log"
    vertex: str
    stream: int
    line: str


class Progress(Event):
    """Bytes of a transfer: `item` names it (a layer's short digest, say); total 0: unknown."""

    tag = "progress"
    vertex: str
    item: str
    done: int
    total: int
    unit: str = "B"


class Finished(Event):
    """A vertex ran to its good end.

    Of a RUN step also what it used, else 0: CPU time in seconds, the peak of its memory in bytes (in a cgroup
    of all its processes together, else of the largest), and bytes read from and written to disks.
    """

    tag = "finished"
    vertex: str
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Failed(Event):
    """A vertex failed or was cancelled; what a RUN step used is told as by Finished."""

    tag = "failed"
    vertex: str
    seconds: float
    error: str
    cancelled: bool = False
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class ExportStarted(Event):
    """An output is being made; `name` tells which ("oci archive app.tar"), `verb` what is done with it.

    Transfers of images are told so, too ("pushing", "pulling"). Its progress and its lines name it as the
    vertex `export NAME`.
    """

    tag = "export-started"
    name: str
    verb: str = "exporting"


class ExportFinished(Event):
    """That output is complete."""

    tag = "export-finished"
    name: str
    seconds: float


class Warned(Event):
    """Something a person should know; `line` 0: no place in the Dockerfile.

    excerpt: the text from that line on, as far as it is meant, or its first lines and "…".
    """

    tag = "warned"
    message: str
    rule: str = ""
    line: int = 0
    excerpt: tuple[str, ...] = ()


class Removed(Event):
    """The store had too much: something went, to make room, and frees `size` bytes.

    kind: buildx's word for what it is; form: "" for all of it, "tree" for the folder of a layer that has a
    blob. reason, had, bound: as room.rules.Why has them.
    """

    tag = "removed"
    id: str
    kind: str
    description: str
    form: str
    size: int
    reason: str
    had: int
    bound: int


class BuildFinished(Event):
    """The build ended well. `size` is compressed bytes; digests as `sha256:…`, empty without an image.

    images: of each output that is an image, in the order of the outputs; `image` is the first of them.
    """

    tag = "build-finished"
    names: tuple[str, ...]
    image: str
    size: int
    seconds: float
    steps: int
    cached: int
    images: tuple[str, ...] = ()


class BuildFailed(Event):
    """The build ended badly."""

    tag = "build-failed"
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
    | Removed
    | BuildFinished
    | BuildFailed
)

if TYPE_CHECKING:
    Emit = Callable[[AnyEvent], None]
else:
    Emit = object


KINDS: dict[str, type[Event]] = {kind.tag: kind for kind in Event.__subclasses__()}


LATEST = 1e11  # seconds: no time of any build, and none that one takes
_ENCODED = plainjson.encoder(compact=True, plain=vars)


def encode(event: AnyEvent) -> bytes:
    """One line of JSON, without its newline."""
    return _ENCODED({"event": event.tag, **event.__dict__}).encode("ascii")


def decode(line: bytes) -> AnyEvent:
    """The event of such a line; raises ValueError where it is none."""
    import json

    try:
        data = json.loads(line)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(data, dict) or not isinstance(data.get("event"), str) or data["event"] not in KINDS:
        raise ValueError(f"not an event: {line[:80]!r}")
    event: AnyEvent = _value(KINDS[data["event"]], data)  # type: ignore[assignment]
    return event


def _value(kind: type[Value], data: Any) -> Value:
    """A value of that kind from its fields; unknown fields (of a newer version) are dropped."""
    if not isinstance(data, dict):
        raise ValueError(f"not a {kind.__name__}: {data!r}"[:200])
    known = {name: _field(kind.fields[name], value) for name, value in data.items() if name in kind.fields}
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _field(kind: str, value: Any) -> Any:
    """A field's value, whose annotation is `kind`; raises ValueError where it is of another type."""
    match kind, value:
        case ("int", int()) | ("str", str()) | ("bool", bool()):
            return value
        case "float", int() | float() if abs(value) < LATEST:  # and is a number
            return value
        case "tuple[str, ...]", list():
            return tuple(_field("str", item) for item in value)
        case "tuple[VertexInfo, ...]", list():
            return tuple(_value(VertexInfo, item) for item in value)
    raise ValueError(f"not a {kind}: {value!r}"[:200])
