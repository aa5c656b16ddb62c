"""Grafting: the layer that a COPY, an ADD or a WORKDIR makes, planned on trees and never on disks.

The layer is computed against the tree below: destination symlinks are followed there, what is equal already
is left out (an identical COPY is an empty layer), a changed path brings its parent folders. A plan is a
list of entries, each with where its bytes are; writing them is for the layer store.

It knows neither registries nor the Dockerfile; `CopyOp` says what it needs of an op. Invariant: laid on
what is below, a plan gives what COPY means, and planned again on that it is empty (but with --parents, whose
folders on the way have the mode of --chmod where they are made and the source's where they are there).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from builder.digest import Digest, of_bytes
from builder.graph.selection import Selection
from builder.snapshots.archive import Archive, apply
from builder.snapshots.canvas import Canvas, Origin, Planned, join
from builder.snapshots.matches import ROOT, Match, items, patterns_of, select
from builder.snapshots.modes import Chmod, parse
from builder.snapshots.patterns import Patterns, clean
from builder.snapshots.selection import bytes_of, capability_of, inode
from builder.snapshots.snapshot import BLOCK, CHAR, FILE, FOLDER, SYMLINK, Entry, LayerId, parent_of
from builder.snapshots.tree import Node, Tree

if TYPE_CHECKING:
    from builder.snapshots.matches import HiddenBy
    from builder.snapshots.selection import DigestOf

__all__ = ["Archive", "CopyOp", "Origin", "Planned", "plan", "plan_dir"]

Owner = tuple[int, int] | None
ReadArchive = Callable[[LayerId, Entry], Archive | None]


@runtime_checkable
class PathSource(Protocol):
    """A source path or pattern in an input; see ops.files.PathItem."""

    @property
    def input(self) -> int: ...
    @property
    def pattern(self) -> str: ...
    @property
    def wildcards(self) -> bool: ...
    @property
    def unpack(self) -> bool: ...


@runtime_checkable
class InlineSource(Protocol):
    """A heredoc: a file's name and its text (UTF-8 with surrogateescape)."""

    @property
    def name(self) -> str: ...
    @property
    def content(self) -> str: ...


class CopyOp(Protocol):
    """What a plan needs of a COPY; ops.files.Copy has it."""

    @property
    def items(self) -> Sequence[PathSource | InlineSource]: ...
    @property
    def dest(self) -> str: ...
    @property
    def chmod(self) -> str: ...
    @property
    def unpack(self) -> bool: ...
    @property
    def parents(self) -> bool: ...
    @property
    def excludes(self) -> Sequence[str]: ...


class _Rules(msgspec.Struct, frozen=True):
    """What holds for all sources of one COPY. `dest` is clean, with a slash at its end for a folder."""

    dest: str
    owner: Owner
    chmod: Chmod | None
    parents: bool
    exclude_texts: tuple[str, ...]
    excludes: Patterns | None
    archive: ReadArchive | None
    now: int
    touched: int | None

    def owner_of(self, entry: Entry) -> tuple[int, int]:
        return self.owner if self.owner is not None else (entry.uid, entry.gid)

    def mode_of(self, entry: Entry) -> int:
        if entry.kind == SYMLINK:
            return 0o777
        if self.chmod is None:
            return entry.mode
        return self.chmod.apply(entry.mode, folder=entry.kind == FOLDER)


def plan(
    op: CopyOp,
    below: Tree,
    sources: Mapping[int, Tree],
    owner: Owner,
    *,
    now: int,
    touched: int | None = None,
    digest_of: DigestOf,
    archive: ReadArchive | None = None,
    hidden_by: HiddenBy | None = None,
    written: Callable[[str, str], int] | None = None,
) -> list[Planned]:
    """The layer of a COPY or ADD onto `below`, sorted, folders before what they hold.

    sources: the tree of each input that a source path names; owner: what --chown resolved to, None to keep
    the sources' owners; now: mtime in nanoseconds of what has no other (folders made on the way, heredocs);
    touched: see `Canvas`; digest_of: a FILE's digest, asked only where all else is equal to what is below;
    archive: for ADD, what a file holds if it is an archive; hidden_by: see `matches.select`; written: when a
    heredoc of this name and text was, if not now. With --link,
    `below` is the empty tree. Raises MissingPath and BuildError.
    """
    rules = _Rules(
        dest=_clean_dest(op.dest),
        owner=owner,
        chmod=parse(op.chmod) if op.chmod else None,
        parents=op.parents,
        exclude_texts=tuple(op.excludes),
        excludes=patterns_of(op.excludes),
        archive=archive if op.unpack else None,
        now=now,
        touched=touched,
    )
    canvas = Canvas(below, digest_of, touched)
    for item in op.items:
        if isinstance(item, PathSource):
            _copy_path(canvas, rules, item, sources[item.input], hidden_by)
    for item in op.items:
        if isinstance(item, InlineSource):
            time = written(item.name, item.content) if written else now
            _copy_inline(canvas, rules, item.name, item.content.encode("utf-8", "surrogateescape"), time)
    return canvas.finish(now)


def plan_dir(path: str, below: Tree, owner: Owner, now: int, touched: int | None = None) -> list[Entry]:
    """The layer of a WORKDIR: the folders that are missing on the way to `path`, symlinks followed.

    They are owned by `owner`, or as `Canvas.make_folders` has it, mode 0755; one that is there stays as it
    is. Raises BuildError where a file is in the way.
    """
    canvas = Canvas(below, _no_digest, touched)
    canvas.make_folders(canvas.resolve(clean("/" + path)), 0o755, owner, now)
    return [planned.entry for planned in canvas.finish(now)]


def plan_file(path: str, below: Tree, data: bytes, now: int) -> list[Entry]:
    """A file of root's at `path`, mode 0644, with the folders on the way to it, symlinks followed.

    None where something is there already. Raises BuildError where a file is in the way.
    """
    canvas = Canvas(below, _no_digest)
    target = canvas.resolve(clean("/" + path))
    if below.get(target) is not None:
        return []
    canvas.make_folders(parent_of(target), 0o755, (0, 0), now)
    canvas.put_file(Entry(target, FILE, 0o644, 0, 0, len(data), now, digest=of_bytes(data)), data)
    return [planned.entry for planned in canvas.finish(now)]


def _no_digest(layer: LayerId, entry: Entry) -> Digest:
    raise AssertionError("folders have no bytes")


def _clean_dest(dest: str) -> str:
    cleaned = clean("/" + dest)
    folder = dest.endswith(("/", "/.")) or dest == "."
    return cleaned + "/" if folder and cleaned != "/" else cleaned


def _copy_path(
    canvas: Canvas, rules: _Rules, item: PathSource, tree: Tree, hidden_by: HiddenBy | None
) -> None:
    selection = Selection(
        (item.pattern,), rules.exclude_texts, parents=rules.parents, wildcards=item.wildcards
    )
    for match in select(tree, selection, hidden_by=hidden_by):
        if match.is_folder:
            _copy_contents(canvas, rules, tree, match, whole=not item.wildcards)
        elif item.unpack and (found := _archive_of(rules, tree, match.node)) is not None:
            dest = canvas.resolve(rules.dest)
            canvas.make_folders(dest, 0o755, rules.owner, rules.now)
            apply(canvas, dest, found, owner=rules.owner, now=rules.now)
        else:
            _copy_named(canvas, rules, tree, match)


def _archive_of(rules: _Rules, tree: Tree, node: Node) -> Archive | None:
    if rules.archive is None or node.entry.kind != FILE:
        return None
    return rules.archive(node.layer, bytes_of(tree, node))


def _prepare(canvas: Canvas, rules: _Rules) -> str:
    """Make the folders that the destination names as such, and resolve it."""
    folder = rules.dest if rules.dest.endswith("/") else rules.dest.rpartition("/")[0]
    _make_folders(canvas, rules, canvas.resolve(folder))
    return canvas.resolve(rules.dest)


def _make_folders(canvas: Canvas, rules: _Rules, path: str) -> None:
    mode = rules.chmod.made_folders if rules.chmod is not None else 0o755
    canvas.make_folders(path, mode, rules.owner, rules.now)


def _copy_contents(canvas: Canvas, rules: _Rules, tree: Tree, match: Match, *, whole: bool) -> None:
    """A folder's contents into the destination, which is made if it is missing.

    whole: the folder itself is meant (a repository), so that what is made has the mode that it would have.
    """
    target = _prepare(canvas, rules)
    made = not canvas.is_folder(target)
    _make_folders(canvas, rules, target)
    if made and whole and (there := canvas.get(target)) is not None:
        canvas.put_folder(there.replace(mode=rules.mode_of(match.node.entry)))
    times: list[tuple[str, int]] = []
    if match.path != "." or (made and match.node is not ROOT and rules.touched is None):
        times.append((target, match.node.entry.mtime))
    group = object()
    for item in items(tree, match, rules.excludes):
        path = join(target, item.path)
        source = item.node.entry
        if source.kind != FOLDER:
            _copy_file(canvas, rules, tree, item.node, path, group)
            continue
        if not item.carried:
            times.append((path, source.mtime))
        if item.carried and (there := canvas.get(path)) is not None:
            canvas.put_folder(there.replace(mode=source.mode))  # as it was, whatever --chmod says
        else:
            mode, (uid, gid) = rules.mode_of(source), rules.owner_of(source)
            xattrs = capability_of(source)
            canvas.put_folder(Entry(path, FOLDER, mode, uid, gid, 0, source.mtime, xattrs=xattrs))
    for path, mtime in times:
        canvas.stamp(path, mtime)  # behind their contents, which touched them


def _copy_named(canvas: Canvas, rules: _Rules, tree: Tree, match: Match) -> None:
    """What a source itself names, if that is no folder."""
    _copy_file(canvas, rules, tree, match.node, _target(canvas, rules, match.name), None)


def _target(canvas: Canvas, rules: _Rules, name: str) -> str:
    """Where a file goes: into the destination if that is a folder, else it is called as that."""
    target = _prepare(canvas, rules)
    if canvas.is_folder(target):
        return join(target, name)
    _make_folders(canvas, rules, parent_of(target))  # where a dangling link leads
    return target


def _copy_file(canvas: Canvas, rules: _Rules, tree: Tree, node: Node, path: str, group: object) -> None:
    """Anything but a folder. Names of one file stay so within a `group`."""
    source = node.entry
    uid, gid = rules.owner_of(source)
    entry = Entry(
        path,
        CHAR if source.kind == BLOCK else source.kind,
        rules.mode_of(source),
        uid,
        gid,
        source.size,
        source.mtime,
        link=source.link,
        device=source.device,
        xattrs=capability_of(source),
        digest=source.digest,
    )
    if source.kind == FILE:
        canvas.put_file(entry, (node.layer, bytes_of(tree, node)), (group, inode(node)) if group else None)
    else:
        canvas.put_file(entry, None)


def _copy_inline(canvas: Canvas, rules: _Rules, name: str, data: bytes, time: int) -> None:
    """A heredoc, which is as a file of mode 0644 that root owns."""
    target = _target(canvas, rules, name)
    source = Entry(name, FILE, 0o644, 0, 0, len(data), time, digest=of_bytes(data))
    uid, gid = rules.owner_of(source)
    canvas.put_file(source.replace(path=target, mode=rules.mode_of(source), uid=uid, gid=gid), data)
