"""What differs among the entries that several images have for the layer of one step. Pure.

Every difference of a path has a kind, and kinds are told apart: a file of other bytes is another finding than
one of another time. `values` has what each image has, by the image's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, OPAQUE, SYMLINK, WHITEOUT, Entry

MISSING, TYPE, CONTENT, SIZE, LINK, DEVICE = "missing", "type", "content", "size", "link", "device"
MODE, OWNER, TIME, XATTR, HARDLINK = "mode", "owner", "time", "xattr", "hardlink"
WRITING = "writing"  # the same entries, and other bytes: of order, headers or padding
TYPES = {
    FILE: "file", FOLDER: "folder", SYMLINK: "symlink", CHAR: "character device", BLOCK: "block device",
    FIFO: "fifo", WHITEOUT: "removal", OPAQUE: "removal of all there was",
}  # fmt: skip
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Difference:
    """What of a path differs. values: kind -> image -> what it has there, as text; of `missing`, what the
    others have."""

    path: str
    values: Mapping[str, Mapping[str, str]]

    @property
    def kinds(self) -> tuple[str, ...]:
        """In the order of their weight."""
        return tuple(self.values)


Entries = Mapping[str, Sequence[Entry]]
_PARTS: tuple[tuple[str, Callable[[Entry], str]], ...] = (
    (CONTENT, lambda entry: entry.digest or ""),
    (SIZE, lambda entry: str(entry.size) if entry.kind == FILE else ""),
    (LINK, lambda entry: entry.link),
    (HARDLINK, lambda entry: entry.hardlink or ""),
    (DEVICE, lambda entry: "{}:{}".format(*entry.device) if entry.kind in (CHAR, BLOCK) else ""),
    (MODE, lambda entry: "" if entry.kind == SYMLINK else f"{entry.mode:04o}"),
    (OWNER, lambda entry: f"{entry.uid}:{entry.gid}"),
    (TIME, lambda entry: when(entry.mtime)),
    (XATTR, lambda entry: ", ".join(f"{name}={value.hex()}" for name, value in entry.xattrs)),
)


def compare(entries: Entries) -> list[Difference]:
    """What differs, by path. entries: of each image, by its name; folders only implied do not count."""
    tables = {name: _table(listed) for name, listed in entries.items()}
    paths = sorted({path for table in tables.values() for path in table})
    found = []
    for path in paths:
        there = {name: table.get(path) for name, table in tables.items()}
        values = _differing(there)
        if values:
            found.append(Difference(path[0] if path[1] != OPAQUE else f"{path[0]}/*", values))
    return found


def _table(entries: Sequence[Entry]) -> dict[tuple[str, str], Entry]:
    """The entries by path; the two kinds of removals may stand beside what is new there."""
    return {
        (entry.path, entry.kind if entry.kind in (WHITEOUT, OPAQUE) else ""): entry
        for entry in entries
        if not entry.implied
    }


def _differing(there: Mapping[str, Entry | None]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    present = {name: entry for name, entry in there.items() if entry is not None}
    if len(present) < len(there):
        found[MISSING] = {
            name: TYPES.get(entry.kind, entry.kind) if entry else "" for name, entry in there.items()
        }
    if len({entry.kind for entry in present.values()}) > 1:
        found[TYPE] = {name: TYPES.get(entry.kind, entry.kind) for name, entry in present.items()}
        return found
    if next(iter(present.values())).kind in (WHITEOUT, OPAQUE):
        return found
    for kind, part in _PARTS:
        values = {name: part(entry) for name, entry in present.items()}
        if len(set(values.values())) > 1:
            found[kind] = values
    return found


def when(nanoseconds: int) -> str:
    """A time as RFC 3339, to the nanosecond where that is told; as a number where no year has it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        text = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    except OverflowError:
        return str(seconds)
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"
