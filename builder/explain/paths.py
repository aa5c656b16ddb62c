"""What differs between two listings of what a step takes, path by path: from rows to reasons. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from builder.explain.reason import LISTED, Reason, listed
from builder.keyparts.rows import FOLDER, Listing, Row

KINDS = {"f": "file", "d": "folder", "l": "symlink", "c": "device", "b": "device", "p": "fifo"}
MOST_TOLD = 1000  # paths of one kind that programs are told

# Path -> the ignore file's line that hides it, as `.dockerignore:3`; None where none does.
HiddenBy = Callable[[str], str | None]


def nothing_hidden(_path: str) -> None:
    """Where there is no ignore file."""


@dataclass(slots=True)
class Changes:
    """Paths by what happened to them. modes, owners, kinds: path -> (was, is)."""

    changed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kinds: dict[str, tuple[str, str]] = field(default_factory=dict)
    modes: dict[str, tuple[str, str]] = field(default_factory=dict)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    attributes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many paths are concerned."""
        return len(
            {
                *self.changed,
                *self.added,
                *self.removed,
                *self.kinds,
                *self.modes,
                *self.owners,
                *self.attributes,
            }
        )


def compare(was: Listing, now: Listing) -> Changes:
    """What happened between two listings. A folder that came or went with files in it is not told itself."""
    found = Changes()
    old, new = was.rows, now.rows
    if old == new:
        return found
    found.added = _outermost_files([path for path in new if path not in old], new)
    found.removed = _outermost_files([path for path in old if path not in new], old)
    for path, row in new.items():
        before = old.get(path)
        if before is not None and before != row:
            _note(found, path, before, row)
    return found


def _note(found: Changes, path: str, was: Row, now: Row) -> None:
    if was.kind != now.kind:
        found.kinds[path] = (KINDS.get(was.kind, was.kind), KINDS.get(now.kind, now.kind))
        return
    if was.content != now.content:
        found.changed.append(path)
    if was.mode != now.mode:
        found.modes[path] = (was.mode or "any", now.mode or "any")
    if was.owner != now.owner:
        found.owners[path] = (was.owner or "any", now.owner or "any")
    if was.capability != now.capability or was.first != now.first:
        found.attributes.append(path)


def _outermost_files(paths: list[str], rows: dict[str, Row]) -> list[str]:
    """The paths without the folders that others of them lie in."""
    parents: set[str] = set()
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in parents:
            parents.add(path)
    return [path for path in paths if not (rows[path].kind == FOLDER and (path in parents or path == "."))]


def tell(
    name: str,
    was: Listing,
    now: Listing,
    *,
    hidden: HiddenBy = nothing_hidden,
    was_hidden: HiddenBy = nothing_hidden,
) -> list[Reason]:
    """The reasons in what happened between two listings of what `name` takes ("COPY src").

    hidden: of what is gone, the line that hides it now; was_hidden: of what came, the line that hid it.
    """
    changes = compare(was, now)
    gone, by_gone = _parted(changes.removed, hidden)
    come, by_come = _parted(changes.added, was_hidden)
    total = max(now.files, was.files)
    told = []
    for kind, paths, word in (("changed", changes.changed, "changed"), ("added", come, "added"),
                              ("removed", gone, "removed")):  # fmt: skip
        if paths:
            text = f"{name}: {_count(len(paths), total)} {word}: {listed(paths)}"
            told.append(Reason("files", text, _data(kind, paths, total)))
    for line, paths in by_gone.items():
        text = f"{name}: {_of(paths)} hidden by {line}"
        told.append(Reason("ignored", text, {**_data("hidden", paths, total), "line": line}))
    for line, paths in by_come.items():
        text = f"{name}: {_of(paths)} no longer hidden by {line}"
        told.append(Reason("ignored", text, {**_data("shown", paths, total), "line": line}))
    told += _pairs(name, "kind", changes.kinds)
    told += _pairs(name, "mode", changes.modes)
    told += _pairs(name, "owner", changes.owners)
    if changes.attributes:
        text = f"{name}: capabilities or hard links of {listed(changes.attributes)} changed"
        told.append(Reason("files", text, _data("attributes", changes.attributes, total)))
    return told


def _pairs(name: str, what: str, pairs: dict[str, tuple[str, str]]) -> list[Reason]:
    if not pairs:
        return []
    shown = [f"{path} was {was}, is {now}" for path, (was, now) in list(pairs.items())[:LISTED]]
    more = f" and {len(pairs) - LISTED} more" if len(pairs) > LISTED else ""
    files = [{"path": path, "was": was, "is": now} for path, (was, now) in list(pairs.items())[:MOST_TOLD]]
    data = {"change": what, "count": len(pairs), "files": files}
    return [Reason("files", f"{name}: {what} of {', '.join(shown)}{more}", data)]


def _count(count: int, total: int) -> str:
    return f"{count} of {total} file{'s' * (total != 1)}"


def _of(paths: list[str]) -> str:
    return f"file {paths[0]}" if len(paths) == 1 else f"{len(paths)} files ({listed(paths)})"


def _data(change: str, paths: list[str], total: int) -> dict[str, object]:
    return {"change": change, "count": len(paths), "total": total, "files": paths[:MOST_TOLD]}


def _parted(paths: Iterable[str], hidden: HiddenBy) -> tuple[list[str], dict[str, list[str]]]:
    """The paths that no line hides, and the others by their lines."""
    free: list[str] = []
    lines: dict[str, list[str]] = {}
    for path in paths:
        line = hidden(path)
        if line is None:
            free.append(path)
        else:
            lines.setdefault(line, []).append(path)
    return free, lines
