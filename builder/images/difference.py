"""What differs between two images: files, config, layers, packages: `pybuild diff`.

Files are compared as the two images show them, by path: what of a path differs is told apart (content, kind,
mode, owner, time, …), as two builds that ought to be equal mostly differ in times alone. Pure, on what
`contents` has read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from builder.images.contents import Contents, Layer
from builder.images.packages import find_packages
from builder.snapshots.snapshot import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK, Entry, order
from builder.snapshots.tree import Tree

ADDED, DELETED, MODIFIED = "added", "deleted", "modified"
KINDS = {
    FILE: "file", FOLDER: "folder", SYMLINK: "symlink", CHAR: "character device", BLOCK: "block device",
    FIFO: "fifo",
}  # fmt: skip
CONFIG_KEYS = ("created", "author", "architecture", "os", "variant", "os.version")


@dataclass(frozen=True, slots=True)
class FileChange:
    """A path that differs. what: of kind, content, link, device, mode, owner, xattrs, time (() where the path
    is in one image alone); before, after: as each shows it."""

    path: str
    how: str
    what: tuple[str, ...]
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class Change:
    """A field of the config, or the version of a package; None: it is not there."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs. layers: (digest, diff id) of each image's, bottom first; alike: whether these are the
    same, as far as times count; packages: (kind, change)."""

    files: Sequence[FileChange]
    config: Sequence[Change]
    layers: tuple[Sequence[tuple[str, str]], Sequence[tuple[str, str]]]
    alike: bool
    packages: Sequence[tuple[str, Change]]

    @property
    def shared(self) -> int:
        """How many layers from the bottom on are the same."""
        pairs = zip(*self.layers, strict=False)
        return next(
            (count for count, (one, other) in enumerate(pairs) if one[1] != other[1]),
            min(map(len, self.layers)),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs: neither what a container sees nor the layers that it is made of."""
        return self.alike and not (self.files or self.config or self.packages)


def compare(before: Contents, after: Contents, *, times: bool = True) -> Difference:
    """What differs; without `times`, neither paths' times count nor those in the config, nor do layers that
    differ by nothing else."""
    trees = before.tree(), after.tree()
    return Difference(
        _files(*trees, times=times),
        _config(before, after, times=times),
        (_layers(before), _layers(after)),
        _layers(before) == _layers(after) or (not times and _differ_by_times(before.layers, after.layers)),
        _packages((before, after), trees),
    )


def _files(before: Tree, after: Tree, *, times: bool) -> list[FileChange]:
    found = []
    for path in sorted(before.nodes.keys() | after.nodes.keys(), key=order):
        one, other = before.get(path), after.get(path)
        if one is None or other is None:
            if path != ".":
                found.append(FileChange(path, DELETED if other is None else ADDED, (), one, other))
            continue
        what = _what_differs(one, other, times=times)
        if what:
            found.append(FileChange(path, MODIFIED, what, one, other))
    return found


def _what_differs(one: Entry, other: Entry, *, times: bool) -> tuple[str, ...]:
    """What of a path differs; a folder that its tar only implied has no mode, owner and time of its own."""
    if one.kind != other.kind:
        return ("kind",)
    told = {
        "content": one.kind == FILE and (one.digest, one.size) != (other.digest, other.size),
        "link": one.link != other.link,
        "device": one.device != other.device,
    }
    if not (one.implied or other.implied):
        told["mode"] = one.kind != SYMLINK and one.mode != other.mode
        told["owner"] = (one.uid, one.gid) != (other.uid, other.gid)
        told["xattrs"] = one.xattrs != other.xattrs
        told["time"] = times and one.mtime // 10**9 != other.mtime // 10**9
    return tuple(name for name, differs in told.items() if differs)


def _layers(contents: Contents) -> list[tuple[str, str]]:
    return [(layer.descriptor.digest, layer.diff_id) for layer in contents.layers]


def _differ_by_times(before: Sequence[Layer], after: Sequence[Layer]) -> bool:
    """Whether layers that are not the same are so but for the times in them."""
    return len(before) == len(after) and all(
        (one.descriptor.digest, one.diff_id) == (other.descriptor.digest, other.diff_id)
        or (one.diff_id != other.diff_id and _is_alike(one, other))
        for one, other in zip(before, after, strict=True)
    )


def _is_alike(before: Layer, after: Layer) -> bool:
    return (before.descriptor.media_type, len(before.entries)) == (
        after.descriptor.media_type,
        len(after.entries),
    ) and all(
        (one.path, one.hardlink, one.implied) == (other.path, other.hardlink, other.implied)
        and not _what_differs(one, other, times=False)
        for one, other in zip(before.entries, after.entries, strict=True)
    )


# ── config ───────────────────────────────────────────────────────────────────────────────────────────────


def _config(before: Contents, after: Contents, *, times: bool) -> list[Change]:
    one, other = _flat(before), _flat(after)
    found = [
        Change(name, one.get(name), other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and (times or name != "Created")
    ]
    if _steps(before, times=times) != _steps(after, times=times):
        found.append(Change("History", _told(before), _told(after)))
    return found


def _flat(contents: Contents) -> dict[str, Any]:
    """A config's fields by docker's names; variables and labels each by its own."""
    plain: dict[str, Any] = msgspec.to_builtins(contents.found.config)
    flat = {key.replace(".", " ").title().replace(" ", ""): plain.get(key) for key in CONFIG_KEYS}
    for key, value in plain.get("config", {}).items():
        if key == "Env":
            pairs = (entry.partition("=") for entry in value)
            flat |= {f"Env {name}": text for name, _, text in pairs}
        elif isinstance(value, dict) and key != "Healthcheck":
            flat |= {f"{key} {name}": text for name, text in value.items()}
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    flat |= {f"Annotation {name}": text for name, text in (contents.found.manifest.annotations or {}).items()}
    return {key: value for key, value in flat.items() if value is not None}


def _steps(contents: Contents, *, times: bool) -> list[tuple[str, ...]]:
    return [
        (step.created_by, step.comment, str(step.empty_layer), step.created if times else "")
        for step in contents.found.config.history
    ]


def _told(contents: Contents) -> list[str]:
    return [step.created_by or step.comment for step in contents.found.config.history]


# ── packages ─────────────────────────────────────────────────────────────────────────────────────────────


def _packages(images: Sequence[Contents], trees: Sequence[Tree]) -> list[tuple[str, Change]]:
    one, other = (find_packages(contents, tree) for contents, tree in zip(images, trees, strict=True))
    return [
        (package.kind, Change(package.name, one.get(package), other.get(package)))
        for package in sorted(one.keys() | other.keys())
        if one.get(package) != other.get(package)
    ]
