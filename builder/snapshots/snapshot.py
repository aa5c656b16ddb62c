"""Layers and snapshots as values.

A layer is a set of entries over what is below; its id is random and says nothing of its content. A
snapshot is a whole filesystem: a tuple of layer ids, bottom first; scratch is (). An entry is one path
of a layer: what a tar header would say of it, and the digest of its bytes once somebody hashed them.

Plain classes and no imports: a fully cached build passes through here. Paths are relative, without a
leading or trailing slash, `.` being the root; names that are no UTF-8 are kept by surrogateescape.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NewType

    LayerId = NewType("LayerId", str)
    Snapshot = tuple[LayerId, ...]
else:

    def LayerId(text):  # noqa: N802 - a NewType without the import of typing
        """Call a text a layer id that is known to be one."""
        return text

    Snapshot = tuple


# Kinds of entries. The last two say what is gone: one path, or all of a folder's former children.
FILE = "f"
FOLDER = "d"
SYMLINK = "l"
CHAR = "c"
BLOCK = "b"
FIFO = "p"
WHITEOUT = "w"
OPAQUE = "o"


class Entry:
    """One path of a layer.

    mode: permission bits with setuid, setgid and sticky (07777); mtime: nanoseconds since the epoch;
    link: a symlink's target; hardlink: for a FILE that is a further name, the path (in the same layer)
    of the first one, which alone has bytes, digest and attributes of its own (the others repeat them);
    device: (major, minor); xattrs: sorted (name, value) pairs, of which images keep only
    security.capability; digest: `sha256:…` of a FILE's bytes, or None where nobody asked yet;
    implied: the tar it came from had no header for this folder.
    """

    __slots__ = (
        "device", "digest", "gid", "hardlink", "implied", "kind", "link", "mode", "mtime", "path", "size",
        "uid", "xattrs",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        kind: str,
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime: int = 0,
        *,
        link: str = "",
        hardlink: str | None = None,
        device: tuple[int, int] = (0, 0),
        xattrs: tuple[tuple[str, bytes], ...] = (),
        digest: str | None = None,
        implied: bool = False,
    ) -> None:
        self.path = path
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime = mtime
        self.link = link
        self.hardlink = hardlink
        self.device = device
        self.xattrs = xattrs
        self.digest = digest
        self.implied = implied

    def replace(self, **changes: Any) -> Entry:
        """A copy with some fields changed."""
        # Each by name: a COPY of many files does this for each of them, and a loop takes four times as long.
        copy = Entry.__new__(Entry)
        copy.path = self.path
        copy.kind = self.kind
        copy.mode = self.mode
        copy.uid = self.uid
        copy.gid = self.gid
        copy.size = self.size
        copy.mtime = self.mtime
        copy.link = self.link
        copy.hardlink = self.hardlink
        copy.device = self.device
        copy.xattrs = self.xattrs
        copy.digest = self.digest
        copy.implied = self.implied
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy

    def plain(self) -> list[Any]:
        """As plain JSON data, for a layer's index on disk; trailing defaults are left out."""
        row: list[Any] = [
            self.path, self.kind, self.mode, self.uid, self.gid, self.size, self.mtime,
        ]  # fmt: skip
        is_usual = not (self.link or self.xattrs or self.implied) and self.hardlink is None
        if is_usual and self.device == (0, 0):
            if self.digest is not None:
                row.append(self.digest)
            return row
        row += [
            self.digest, self.link, self.hardlink, list(self.device),
            [[name, value.hex()] for name, value in self.xattrs], self.implied,
        ]  # fmt: skip
        defaults = [None, "", None, [0, 0], [], False]
        while len(row) > 7 and row[-1] == defaults[len(row) - 8]:
            row.pop()
        return row

    @classmethod
    def from_plain(cls, row: list[Any]) -> Entry:
        """The inverse of `plain`."""
        entry = cls(row[0], row[1], row[2], row[3], row[4], row[5], row[6])
        if len(row) == 8:
            entry.digest = row[7]
        elif len(row) > 8:
            rest = row[7:] + [None, "", None, [0, 0], [], False][len(row) - 7 :]
            entry.digest, entry.link, entry.hardlink = rest[0], rest[1], rest[2]
            entry.device = (rest[3][0], rest[3][1])
            entry.xattrs = tuple((name, bytes.fromhex(value)) for name, value in rest[4])
            entry.implied = rest[5]
        return entry

    def __repr__(self) -> str:
        return f"Entry({self.plain()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.plain() == other.plain()

    def __hash__(self) -> int:
        return hash((self.path, self.kind))


def is_settled(entry: Entry) -> bool:
    """Whether it shows the same whatever lies below: removals, and folders that are only implied, do not."""
    return not entry.implied and entry.kind != WHITEOUT


def parent_of(path: str) -> str:
    """The folder that holds `path`; the root's is the root."""
    return path.rpartition("/")[0] or "."


def order(path: str) -> tuple[str, ...]:
    """Sort key that puts a folder right before what it holds."""
    return () if path == "." else tuple(path.split("/"))
